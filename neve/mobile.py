"""The lints of `torch.utils.mobile_optimizer`: `LintCode` and `generate_mobile_module_lints`, under their old names.

They look for what a model should lose before it is shipped: parameters that require gradients, dropout, batch norms
that could be folded, and for what it should have, example inputs. `neve lint` looks for much more.
"""

from __future__ import annotations

import copy
import enum
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neve.errors import NeveError
from neve.runtime.loader import Module


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
    if isinstance(model, Module):
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

    if isinstance(model, Module):
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
