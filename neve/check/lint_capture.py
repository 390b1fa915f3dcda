"""Findings that need the model itself, or what torch.export gives for it: see `neve.check.lint`."""

from __future__ import annotations

import copy
import linecache
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from neve.check.findings import Finding
from neve.errors import CaptureError

_PLACE = re.compile(r"\((?:in (?P<module>[^,()]+))?(?:, )?(?:(?P<file>[^()]*?):(?P<line>\d+)(?:: .*)?)?\)\s*$")
_READS = frozenset({"__bool__", "__int__", "__float__", "__index__", "item", "tolist", "is_nonzero"})
_BRANCH = "use torch.where, or torch.cond and torch.while_loop with a function for each branch"


@dataclass
class View:
    """The exported methods, before decomposition; the module they come from, if there is one; what was called."""

    exported: list[Any]
    model: Any = None
    called: set[int] = field(default_factory=set)


def export(
    model: Any,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    dynamic_shapes: Any,
    methods: Mapping[str, Any] | None,
) -> View | None:
    """The model's methods by torch.export; None if there is no exported program to look at: for TorchScript, and for a
    model that has to be compiled from its source. Raises CaptureError.
    """
    from torch import nn

    from neve.capture import diagnose
    from neve.capture import export as capture

    if _is_torchscript(model):
        return None
    if not isinstance(model, nn.Module):
        return View([capture.load_program(model, args, kwargs)])
    called: set[int] = set()
    hook = nn.modules.module.register_module_forward_pre_hook(lambda module, _: called.add(id(module)))
    try:
        return View(list(capture.export_methods(model, args, kwargs, dynamic_shapes, methods)), model, called)
    except diagnose.NotTraceable:
        return None
    finally:
        hook.remove()


def _is_torchscript(model: Any) -> bool:
    import torch

    return isinstance(model, torch.jit.ScriptModule) or str(model).endswith((".pt", ".ptl", ".pth", ".jit"))


# Training.


def modules_in_training(model: Any) -> Iterator[Finding]:
    """The topmost modules whose flag says training."""
    from torch import nn

    if not isinstance(model, nn.Module):
        return
    above: list[str] = []
    for path, module in model.named_modules():
        if not module.training or any(not a or path.startswith(f"{a}.") for a in above):
            continue
        above.append(path)
        if any(True for _ in module.children()) or mode_matters(module):
            yield Finding(
                "train-mode",
                f"{type(module).__name__} is in training mode"
                + (", and neve compiles evaluation mode" if model.training else " though the model is not"),
                "call eval() on the model, so that PyTorch computes what the compiled module does"
                if model.training
                else "it is compiled as in training (batch statistics, random numbers): call eval() on the model",
                path,
            )


def mode_matters(module: Any) -> bool:
    """Whether a module without children may compute something else in training."""
    from torch import nn

    if isinstance(module, (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase, nn.RReLU)):
        return True
    dropout = isinstance(module, nn.RNNBase) and module.dropout > 0
    return dropout or not type(module).__module__.startswith("torch.")


def training_ops(view: View) -> Iterator[Finding]:
    """Operators whose arguments say training although the model was captured in evaluation mode."""
    from neve.capture import diagnose

    known = [f.module for f in modules_in_training(view.model)]
    for e in view.exported:
        for node in _nodes(e.program.graph_module):
            if _trains(node):
                origin = diagnose.origin(node, e.strip)
                on = any(origin.module == k or origin.module.startswith(f"{k}.") for k in known if k)
                mode = ", as its module is in training mode" if on else ", whatever the model's mode"
                yield Finding(
                    "train-mode",
                    f"{diagnose.op_name(node.target)} is called for training{mode}",
                    "pass training=self.training, or use the module (nn.Dropout, nn.BatchNorm2d): eval() turns it off",
                    origin.module,
                    origin.source,
                    e.name,
                )


def _nodes(module: Any) -> Iterator[Any]:
    for part in module.modules():
        if hasattr(part, "graph"):
            yield from part.graph.nodes


def _trains(node: Any) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return False
    for i, a in enumerate(schema.arguments):
        value = node.args[i] if i < len(node.args) else node.kwargs.get(a.name, a.default_value)
        if (a.name in ("train", "training") and value is True) or (a.name == "dropout_p" and value):
            recurrent = schema.name.removeprefix("aten::") in ("lstm", "gru", "rnn_tanh", "rnn_relu")
            return not recurrent or bool(_argument(node, schema, "dropout"))
    return False


def _argument(node: Any, schema: Any, name: str) -> Any:
    at = next((i for i, a in enumerate(schema.arguments) if a.name == name), -1)
    return node.args[at] if 0 <= at < len(node.args) else node.kwargs.get(name)


# What no result depends on.


def unused(view: View) -> Iterator[Finding]:
    """Submodules and weights without influence on any method's results or state."""
    live_paths, all_paths, used, known = set[str](), set[str](), set[int](), dict[str, Any]()
    for e in view.exported:
        live = _live(e.program)
        _paths(e, live, live_paths, all_paths)
        targets = {**e.program.graph_signature.inputs_to_parameters, **e.program.graph_signature.inputs_to_buffers}
        for node in e.program.graph.nodes:
            if node.op == "placeholder" and node.name in targets:
                tensor = _tensor(e.program, targets[node.name])
                known[targets[node.name].removeprefix(e.strip)] = tensor
                if node in live:
                    used.add(_storage(tensor))
    if view.model is not None:
        known = dict(view.model.named_parameters(remove_duplicate=False)) | dict(
            view.model.named_buffers(remove_duplicate=False)
        )
    idle = {name for name, t in known.items() if _storage(t) not in used}
    dead: list[str] = []
    for path, why in _dead_modules(view, live_paths, all_paths, set(known) - idle):
        dead.append(path)
        yield _dead(_class(view.model, path), path, why)
    for name in sorted(idle, key=list(known).index):
        path, _, own = name.rpartition(".")
        if any(path == d or path.startswith(f"{d}.") for d in dead) or known[name].numel() < 2:
            continue
        yield _unused(own, known[name].numel() * known[name].element_size(), path)


def _dead(kind: str, path: str, why: str) -> Finding:
    fix = "delete it from the model" if why == "is never called" else "use its result, or delete it"
    return Finding("dead-submodule", f"{kind} {why}", f"{fix}; its weights cost only space", path)


def _unused(name: str, size: int, path: str) -> Finding:
    what = f"{name} of {size} bytes has no influence on any result"
    return Finding("unused-weight", what, "delete it, or give the method that uses it as an entry point", path)


def unread(model: Any, methods: Mapping[str, Any]) -> Iterator[Finding]:
    """Submodules and weights of a ScriptModule or archive that no method reads; inputs bundled with it are none.

    Raises CaptureError.
    """
    from neve.bundled_inputs.recipes import DEFLATED
    from neve.capture.torchscript.capture import interpreted
    from neve.capture.torchscript.entry import archive_of
    from neve.capture.torchscript.pickles import Obj

    archive = archive_of(model)
    read = interpreted(archive, methods)[0].reads
    attributes = dict(_attributes(archive.root, "", set()))
    used = {_storage(t) for path in read for t in _tensors(attributes.get(path))}
    dead: list[str] = []
    for path, value in attributes.items():
        if path in read or any(path.startswith(f"{d}.") for d in dead):
            continue
        above, _, name = path.rpartition(".")
        if isinstance(value, Obj) and value.attrs:
            within = [t for p, part in attributes.items() if p.startswith(f"{path}.") for t in _tensors(part)]
            if within and all(_storage(t) not in used for t in within):
                dead.append(path)
                yield _dead(value.cls.rpartition(".")[2], path, "is never called")
        elif name.startswith(DEFLATED):
            continue
        elif any(t.numel() > 1 and _storage(t) not in used for t in _tensors(value)):
            size = sum(t.numel() * t.element_size() for t in _tensors(value))
            yield _unused(name, size, above)


def _attributes(owner: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Dotted path → what is there, of all objects, one with two names under its first."""
    from neve.capture.torchscript.pickles import Obj

    for key, part in owner.attrs.items():
        at = f"{path}.{key}".lstrip(".")
        if not isinstance(part, Obj):
            yield at, part
        elif id(part) not in seen:
            seen.add(id(part))
            yield at, part
            yield from _attributes(part, at, seen)


def _tensors(value: Any) -> list[Any]:
    """Those that an attribute holds, in containers and packed contexts too; not those of a submodule."""
    import torch

    from neve.capture.torchscript.model import parts_of
    from neve.capture.torchscript.pickles import Obj

    if isinstance(value, torch.Tensor):
        return [value]
    return [] if isinstance(value, Obj) and value.attrs else [t for _, part in parts_of(value) for t in _tensors(part)]


def _tensor(program: Any, target: str) -> Any:
    found = program.state_dict.get(target)
    return program.constants[target] if found is None else found


def _storage(tensor: Any) -> int:
    return int(tensor.untyped_storage()._cdata)


def _live(program: Any) -> set[Any]:
    """The nodes that outputs and writes depend on."""
    live: set[Any] = set()
    for node in reversed(program.graph.nodes):
        schema = getattr(node.target, "_schema", None)
        writes = node.op == "output" or (schema is not None and schema.is_mutable)
        if writes or any(user in live for user in node.users):
            live.add(node)
    return live


def _paths(e: Any, live: set[Any], live_paths: set[str], all_paths: set[str]) -> None:
    """Add the modules, and those around them, of the nodes that compute something."""
    for node in e.program.graph.nodes:
        if node.op not in ("call_function", "call_module"):
            continue
        for path, _ in (node.meta.get("nn_module_stack") or {}).values():
            path = re.sub(r"^L\['self'\]\.?", "", str(path)).removeprefix(e.strip).lstrip(".")
            all_paths.add(path)
            if node in live:
                live_paths.add(path)


def _dead_modules(
    view: View, live_paths: set[str], all_paths: set[str], weights: set[str]
) -> Iterator[tuple[str, str]]:
    """The topmost dead submodules, and why each is one."""
    if view.model is None:
        return
    modules = {path: m for path, m in view.model.named_modules() if path}
    alive = {
        path for path, m in modules.items() if path in live_paths or (id(m) in view.called and path not in all_paths)
    } | {name.rpartition(".")[0] for name in weights}
    around = {path.rsplit(".", n)[0] for path in alive for n in range(path.count(".") + 1)}
    dead: list[str] = []
    for path, m in modules.items():
        empty = not any(True for _ in m.children()) and type(m).__name__ in ("ModuleList", "ModuleDict", "Sequential")
        if path in around or empty or any(path.startswith(f"{d}.") for d in dead):
            continue
        dead.append(path)
        yield path, "has a result that is never used" if id(m) in view.called else "is never called"


def _class(model: Any, path: str) -> str:
    return type(model.get_submodule(path)).__name__


# Why it cannot be captured.


def reasons(
    error: CaptureError,
    model: Any,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    methods: Mapping[str, Any] | None,
) -> Iterator[Finding]:
    """A finding for every place that a CaptureError names; all branches on data that a call of the model takes."""
    for reason in error.all_reasons:
        if "control flow depends on the values" in reason:
            read = list(dict.fromkeys(_values_read(model, args, kwargs, methods)))
            yield from read or [_reason("data-dependent-control-flow", reason, reason, _BRANCH)]
            continue
        head, *places = reason.split("\n")
        code, fix = _kind(head)
        for place in places or [head]:
            yield _reason(code, head, place.strip(), fix)


def _kind(head: str) -> tuple[str, str]:
    if "depends on the values" in head:
        return "data-dependent-shape", "compute on all elements with a mask (torch.where), so that sizes are known"
    if "is random" in head:
        return "unsupported-op", "pass the random numbers as an input, or leave the operator out of inference"
    if "is not supported" in head or re.match(r"aten\.\w+", head):
        return "unsupported-op", "write it with other operators, or leave that part of the model to the host program"
    return "cannot-capture", "change the line named, or capture the part of the model that can be"


def _reason(code: str, head: str, place: str, fix: str) -> Finding:
    found = _PLACE.search(place)
    what = _PLACE.sub("", head).strip().removesuffix(f"; {_BRANCH}")
    if found is None or not (found["module"] or found["file"]):
        return Finding(code, what, fix)
    source = _short(found["file"], int(found["line"])) if found["file"] else ""
    return Finding(code, what, fix, found["module"] or "", source)


def _short(file: str, line: int) -> str:
    from neve.capture import diagnose

    return f"{diagnose.short_path(file)}:{line}"


def _values_read(
    model: Any, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, methods: Mapping[str, Any] | None
) -> Iterator[Finding]:
    """Run the model, on a copy, and note every line that takes a Python value out of a tensor."""
    import torch
    from torch import nn

    from neve.capture.export import evaluation

    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        return
    model = copy.deepcopy(model)
    calls: dict[str, Any] = {"forward": (args or (), kwargs or {})} if args is not None or not methods else {}
    for name, spec in (methods or {}).items():
        given = isinstance(spec, Mapping)
        calls[name] = (spec.get("args", ()), spec.get("kwargs") or {}) if given else (tuple(spec), {})
    for name, (given_args, given_kwargs) in calls.items():
        with torch.no_grad(), evaluation(model), warnings.catch_warnings(), _watched(model, name) as found:
            warnings.simplefilter("ignore")
            with suppress(Exception):  # what was read until then is worth telling
                getattr(model, name)(*copy.deepcopy(given_args), **copy.deepcopy(given_kwargs))
        yield from found


@contextmanager
def _inside(model: Any, stack: list[str]) -> Iterator[None]:
    """Keeps the dotted paths of the modules being called on the stack."""
    hooks = []
    for path, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda *_, path=path: stack.append(path)))
        hooks.append(module.register_forward_hook(lambda *_: stack.pop() and None, always_call=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _watched(model: Any, method: str) -> Iterator[list[Finding]]:
    """Gives the findings of the values that are read from tensors meanwhile."""
    from torch.overrides import TorchFunctionMode

    found: list[Finding] = []
    stack: list[str] = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(func, "__name__", "") in _READS:
                found.append(_read(func.__name__, stack[-1] if stack else "", method))
            return func(*args, **(kwargs or {}))

    with _inside(model, stack), Watch():
        yield found


def _read(read: str, path: str, method: str) -> Finding:
    """The user's line that is running, which reads a value."""
    from neve.capture.diagnose import INTERNAL

    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(INTERNAL):
        frame = frame.f_back
    file, line = frame.f_code.co_filename, frame.f_lineno
    text = linecache.getline(file, line).strip()
    how = {"__bool__": "a condition", "is_nonzero": "a condition"}.get(read, f"{read.strip('_')}()")
    what = f"{how} on the values of a tensor" + (f", {text!r}" if text else "")
    return Finding("data-dependent-control-flow", what, _BRANCH, path, _short(file, line), method)
