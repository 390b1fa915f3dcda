"""`torch.utils.mobile_optimizer` under its old names: `optimize_for_mobile` with `MobileOptimizerType`, and the lints.

`generate_mobile_module_lints` looks for what a model should lose before it is shipped: parameters that require
gradients, dropout, batch norms that could be folded, and for what it should have, example inputs. `neve lint` looks for
much more.
"""

from __future__ import annotations

import copy
import enum
import warnings
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from neve.errors import NeveError
from neve.frozen.calls import Examples, bundled_functions, frozen, in_evaluation, names_of, origin_of
from neve.frozen.module import FrozenModule
from neve.frozen.specialise import Options
from neve.internals import require
from neve.runtime.loader import Module


class MobileOptimizerType(enum.Enum):
    """The optimizations that a blocklist of `optimize_for_mobile` can switch off; the numbers are torch's."""

    CONV_BN_FUSION = 0
    """Batch norms go into the weights before them, or become a product and a sum."""
    INSERT_FOLD_PREPACK_OPS = 1
    """Convolutions and linear layers take packed parameters, and the clamps after them."""
    REMOVE_DROPOUT = 2
    """Dropout is removed."""
    FUSE_ADD_RELU = 3
    """A sum and the relu after it are one op."""
    HOIST_CONV_PACKED_PARAMS = 4
    """Packed parameters are at the root of the program, whatever module they were in."""
    VULKAN_AUTOMATIC_GPU_TRANSFER = 6
    """Of the backend "Vulkan", which does not exist yet: without effect."""


PASSES: dict[MobileOptimizerType, frozenset[str]] = {
    MobileOptimizerType.CONV_BN_FUSION: frozenset({"fold_batch_norm", "expand_batch_norm"}),
    MobileOptimizerType.INSERT_FOLD_PREPACK_OPS: frozenset({"insert_prepack", "fuse_prepacked_clamps"}),
    MobileOptimizerType.REMOVE_DROPOUT: frozenset({"remove_dropout"}),
    MobileOptimizerType.FUSE_ADD_RELU: frozenset({"fuse_add_relu"}),
    MobileOptimizerType.HOIST_CONV_PACKED_PARAMS: frozenset({"hoist_packed_params"}),
    MobileOptimizerType.VULKAN_AUTOMATIC_GPU_TRANSFER: frozenset(),
}
"""The passes of neve that each of them is."""

_BACKENDS = {"cpu": "CPU", "vulkan": "Vulkan", "metal": "Metal"}


def optimize_for_mobile(
    script_module: Any,
    optimization_blocklist: AbstractSet[MobileOptimizerType] | None = None,
    preserved_methods: Sequence[str | bytes] | None = None,
    backend: str = "CPU",
    *,
    example_inputs: Examples = None,
) -> FrozenModule:
    """The model in evaluation mode, frozen and optimized; its `graph` shows packed parameters and fused ops.

    script_module: nn.Module, ScriptModule, ExportedProgram, a FrozenModule, or the path of a .pt2, .pt or .ptl file, in
        whatever mode; it is not changed.
    optimization_blocklist: a set of optimizations to leave out.
    preserved_methods: methods, attributes and submodules to keep besides forward; methods that the model has bundled
        inputs for, and these inputs, are kept without being named.
    backend: "CPU", in any case.
    example_inputs: as of `neve.freeze`.

    The semantics are those of `torch.utils.mobile_optimizer.optimize_for_mobile`; where that is wrong, those of the
    model in PyTorch. Raises TypeError for what is no model, a blocklist that is no set, an unknown backend;
    AttributeError for names that the model does not have; NotImplementedError for the backends Vulkan and Metal.
    """
    origin = origin_of(script_module)
    blocked = _blocked(optimization_blocklist)
    names = names_of(
        [n.decode() if isinstance(n, bytes) else n for n in preserved_methods]
        if isinstance(preserved_methods, (list, tuple, set, frozenset))
        else preserved_methods,
        "preserved_methods",
    )
    unknown = [n for n in names if not n or "." in n or not origin.has(n)]
    if unknown:
        raise AttributeError(f"The following methods to preserve do not exist in script_module: {', '.join(unknown)}")
    if not isinstance(backend, str) or backend.lower() not in _BACKENDS:
        raise TypeError(f"Unknown backend, must be one of 'CPU', 'Vulkan' or 'Metal': got {backend!r}")
    if backend.lower() != "cpu":
        raise NotImplementedError(
            f"the backend {_BACKENDS[backend.lower()]} does not exist yet: backend='CPU' runs on every machine"
        )
    names += [n for n in bundled_functions(origin) if n not in names and n != "forward"]
    disable = frozenset[str]().union(*(PASSES[b] for b in blocked))
    if not isinstance(script_module, FrozenModule):
        origin = in_evaluation(origin)
    made = frozen(origin, names, Options(disable, prepack=True), example_inputs)
    made._mark("mobile_optimized", True)
    return made


def _blocked(blocklist: Any) -> AbstractSet[MobileOptimizerType]:
    if blocklist is None:
        return frozenset()
    if not isinstance(blocklist, (set, frozenset)) or not all(isinstance(b, MobileOptimizerType) for b in blocklist):
        raise TypeError(
            f"optimization_blocklist: got {blocklist!r}, wanted a set of MobileOptimizerType, such as "
            "{MobileOptimizerType.REMOVE_DROPOUT}"
        )
    return blocklist


class LintCode(enum.Enum):
    """What `generate_mobile_module_lints` reports; the numbers are torch's."""

    BUNDLED_INPUT = 1
    REQUIRES_GRAD = 2
    DROPOUT = 3
    BATCHNORM = 4


_OPS = {"dropout": LintCode.DROPOUT, "batch_norm": LintCode.BATCHNORM}


def generate_mobile_module_lints(
    script_module: Any, *, example_inputs: Sequence[Any] | Mapping[str, Sequence[Any]] | None = None
) -> list[dict[str, str]]:
    """The lints of a model, as {"name": a LintCode's name, "message": text}, in the order of torch.

    script_module: a ScriptModule, an nn.Module, an ExportedProgram, or a module that neve compiled.
    example_inputs: for an nn.Module, arguments of forward or method → arguments, to find its ops by torch.export;
    by default the bundled inputs; without any it is scripted instead.
    Ops count, not the mode: eval() alone silences nothing. Branches that are never taken do not count.
    Raises TypeError for anything else, and NeveError if the ops of an nn.Module cannot be found.
    """
    parameters = _parameters(script_module)
    found = []
    if not _has_inputs(script_module, example_inputs):
        found.append(
            _lint(LintCode.BUNDLED_INPUT, "No bundled input for forward: neve.bundled_inputs.bundle_inputs adds some")
        )
    found += [
        _lint(
            LintCode.REQUIRES_GRAD,
            f"Param {name} requires grad, please set torch.no_grad() while it runs, or freeze the model: gradients "
            "cost memory and time that inference need not spend",
        )
        for name, requires_grad in parameters
        if requires_grad
    ]
    for op in sorted(set(_op_names(script_module, example_inputs))):
        for part, code in _OPS.items():
            if part in op:
                message = f"Operator {op} exists, remember to call eval() before saving the module, and to compile or "
                found.append(_lint(code, f"{message}optimize it, which removes the operator"))
    return found


def _lint(code: LintCode, message: str) -> dict[str, str]:
    return {"name": code.name, "message": message}


def _parameters(model: Any) -> list[tuple[str, bool]]:
    """Each parameter's name, and whether it requires a gradient; TypeError for what is no model."""
    if isinstance(model, (Module, FrozenModule)):
        return []
    from torch import nn
    from torch.export import ExportedProgram

    if not isinstance(model, (nn.Module, ExportedProgram)):
        raise TypeError(
            f"Got {type(model)}, but ScriptModule is expected. An nn.Module, an ExportedProgram and a compiled module "
            "will do as well; torch.jit.load and torch.export.load read files"
        )
    return [(name, p.requires_grad) for name, p in model.named_parameters()]


def _has_inputs(model: Any, given: Any) -> bool:
    """Whether there are example inputs of forward, also where optimization has removed what made them."""
    from torch.export import ExportedProgram

    if isinstance(model, Module):
        return bool(model.artifact.examples.get("forward"))
    if isinstance(model, ExportedProgram):
        return model.example_inputs is not None
    if given is not None and not _is_script(model):
        return not isinstance(given, Mapping) or "forward" in given
    makers = ("_generate_bundled_inputs_for_forward", "get_all_bundled_inputs_for_forward", "get_all_bundled_inputs")
    return any(hasattr(model, name) for name in makers)


def _is_script(model: Any) -> bool:
    import torch

    return isinstance(model, torch.jit.ScriptModule)


def _op_names(model: Any, given: Any) -> Iterator[str]:
    """Names such as "aten::batch_norm" of all ops in all methods."""
    from torch.export import ExportedProgram

    if isinstance(model, (Module, FrozenModule)):
        return
    if isinstance(model, ExportedProgram):
        yield from _exported_ops(model)
    elif _is_script(model):
        yield from _script_ops(model)
    else:
        yield from _module_ops(model, given)


def _exported_ops(program: Any) -> Iterator[str]:
    for graph_module in program.graph_module.modules():
        for node in graph_module.graph.nodes if hasattr(graph_module, "graph") else ():
            schema = getattr(node.target, "_schema", None)
            if schema is not None:
                yield schema.name


def _script_ops(model: Any) -> Iterator[str]:
    """The ops of every method of every module, each with what it calls, without branches that are never taken."""
    import torch

    passes = ("torch._C._jit_pass_inline", "torch._C._jit_pass_constant_propagation", "torch._C._jit_pass_dce")
    require("generate_mobile_module_lints of a ScriptModule", *passes)
    c: Any = torch._C
    for part in model.modules():
        for name in part._c._method_names():
            graph = part._c._get_method(name).graph.copy()
            c._jit_pass_inline(graph)
            c._jit_pass_constant_propagation(graph)
            c._jit_pass_dce(graph)
            yield from _kinds(graph)


def _kinds(block: Any) -> Iterator[str]:
    for node in block.nodes():
        yield node.kind()
        for inner in node.blocks():
            yield from _kinds(inner)


def _module_ops(model: Any, given: Any) -> Iterator[str]:
    """The ops of an nn.Module: exported with its example inputs, else scripted."""
    import torch

    from neve.bundled_inputs import example_inputs
    from neve.capture.export import export_methods

    calls = {k: v[0] for k, v in example_inputs(model).items()} if given is None else given
    if calls:
        methods = dict(calls) if isinstance(calls, Mapping) else {"forward": tuple(calls)}
        for exported in export_methods(model, None, None, None, methods):
            yield from _exported_ops(exported.program)
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scripted = torch.jit.script(copy.deepcopy(model))
    except Exception as error:
        raise NeveError(
            f"the operators of {type(model).__name__} are unknown: there are no example inputs to capture it with, and "
            f"it cannot be scripted ({str(error).strip().splitlines()[0][:200]}): give example_inputs=(x,)"
        ) from error
    yield from _script_ops(scripted)
