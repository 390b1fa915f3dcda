"""TorchScript to Program: the interpreter's recordings through torch.export, numbers typed as they were."""

from __future__ import annotations

import functools
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from neve.capture import diagnose, questions, refusals
from neve.capture.aliases import separate
from neve.capture.build import Exported, build
from neve.capture.build import exported as exported_program
from neve.capture.draws import drop_unused_draws, kept_draws
from neve.capture.dynamic import by_argument, for_export, widen
from neve.capture.torchscript.archive import Archive
from neve.capture.torchscript.arguments import size_example
from neve.capture.torchscript.entry import Scripted, archive_of, interpret, saved
from neve.capture.torchscript.model import Entry
from neve.capture.torchscript.replay import Listed, Narrowed
from neve.capture.torchscript.source import Sources
from neve.capture.torchscript.values import KINDS, Num, Var
from neve.capture.trees import Tree
from neve.errors import CaptureError
from neve.ir.graph import Method, Program
from neve.ops.random import DEFAULT_SEED

ALL = "get_all_bundled_inputs"


def capture_scripted(
    model: Any, wanted: Mapping[str, Mapping[str, Any]], preserved_attrs: Sequence[str] = ()
) -> Program:
    """The Program of a ScriptModule or of the archive at a path.

    wanted: name → {"args", "kwargs", "dynamic_shapes", "method"}; preserved_attrs: attributes that are read at run
    time. CaptureError with every reason.
    """
    return program_of(archive_of(model), wanted, preserved_attrs)


def program_of(
    archive: Archive,
    wanted: Mapping[str, Mapping[str, Any]],
    preserved_attrs: Sequence[str] = (),
    check: Callable[[Scripted], None] | None = None,
) -> Program:
    """The Program of an archive. check, if the archive is that of a model in Python, may refuse what the interpreter
    recorded.
    """

    def recorded(sizes: bool) -> tuple[Scripted, list[Entry]]:
        scripted, entries = interpreted(archive, wanted, preserved_attrs, sizes)
        if check is not None:
            check(scripted)
        return scripted, entries

    def built(scripted: Scripted, entries: Sequence[Entry]) -> Program:
        exported = [_export(scripted, e, unused_draws=check is not None) for e in entries]
        return build(exported, scripted.attributes, hidden=scripted.hidden)

    scripted, entries = recorded(sizes=True)
    try:
        program = built(scripted, entries)
    except CaptureError:
        if not any(scripted.settled.sizes.values()):
            raise
        # what holds for some values of a size only is right for the example's, and other values are refused
        scripted, entries = recorded(sizes=False)
        program = built(scripted, entries)
    return replace(program, methods={k: _typed(m, scripted, k) for k, m in program.methods.items()})


def interpreted(
    archive: Archive,
    wanted: Mapping[str, Mapping[str, Any]],
    preserved_attrs: Sequence[str] = (),
    sizes: bool = True,
) -> tuple[Scripted, list[Entry]]:
    """The recordings of the wanted methods, and their example calls with no dynamic size of 1."""
    entries = []
    for name, spec in wanted.items():
        args, kwargs = separate((tuple(spec.get("args") or ()), dict(spec.get("kwargs") or {})))
        entries.append(Entry(name, args, kwargs, spec.get("dynamic_shapes"), spec.get("method") or name))
    return interpret(archive, entries, preserved_attrs, sizes), entries


def bundled_in_archive(model: Any) -> dict[str, list[tuple[Any, ...]]]:
    """Method → all inputs that torch.utils.bundled_inputs put into a ScriptModule or an archive for it."""
    archive = archive_of(model)
    methods = Sources(archive.code).cls(archive.root.cls).methods
    makers = {n.removeprefix(f"{ALL}_for_"): n for n in methods if n.startswith(f"{ALL}_for_")}
    if ALL in methods:
        makers.setdefault("forward", ALL)
    makers = {method: maker for method, maker in makers.items() if method in methods}
    rows = {m: interpret(archive, [Entry(maker, (), {})]).replay(maker).run((), {}) for m, maker in makers.items()}
    return {method: [tuple(row) for row in found] for method, found in rows.items() if found}


def eager(model: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Callable[..., Any]:
    """A method of a ScriptModule or archive, to be called with arguments like these, at first on the initial state.

    By torch.jit, where it still loads it; else by the interpreter's recording, run eagerly.
    """
    path = os.fspath(model) if isinstance(model, (str, os.PathLike)) else None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            loaded = torch.jit.load(  # type: ignore[no-untyped-call]
                path if path is not None else io.BytesIO(saved(model))
            )
        except RuntimeError:
            scripted, _ = interpreted(archive_of(model), {name: {"args": args, "kwargs": kwargs}})
            root = scripted.replay(name)
            return lambda *args, **kwargs: root.run(*_tensors(root.recording.leaves, args, kwargs))
    for m in loaded.modules() if getattr(loaded, "training", False) else ():
        if hasattr(m, "training"):
            m.training = False
    # loaded(…) runs hooks
    method: Callable[..., Any] = loaded if name == "forward" else functools.reduce(getattr, name.split("."), loaded)
    return method


def exported(
    model: Any, method: str, args: Sequence[Any], kwargs: Mapping[str, Any], dynamic_shapes: Any = None
) -> tuple[torch.export.ExportedProgram, Any]:
    """One method of a ScriptModule or archive as an ExportedProgram, and what it gives for its example inputs.

    Numbers among the arguments are tensors of no dims. CaptureError with every reason.
    """
    wanted = {method: {"args": args, "kwargs": kwargs, "dynamic_shapes": dynamic_shapes}}
    scripted, (entry,) = interpreted(archive_of(model), wanted)
    program = _export(scripted, entry).program
    example_args, example_kwargs = pytree.tree_map(_cloned, program.example_inputs)
    with torch.random.fork_rng(devices=[]):
        ((result, *_),) = run_recorded(scripted, [(method, example_args, example_kwargs)])
    return program, result


def run_recorded(scripted: Scripted, calls: Sequence[tuple[str, tuple[Any, ...], Mapping[str, Any]]]) -> Iterator[Any]:
    """What the recordings give for calls, (method, args, kwargs), one after the other from the initial state; what
    the arguments, which are not copied, are then; and the state of torch's generator, seeded alike before each call.
    """
    state = {path: tensor.clone() for path, tensor in scripted.state()}
    try:
        for name, args, kwargs in calls:
            root = scripted.replay(name)
            with torch.no_grad():
                args, kwargs = _tensors(root.recording.leaves, args, dict(kwargs))
                torch.manual_seed(DEFAULT_SEED)
                yield root.run(args, kwargs), args, kwargs, torch.get_rng_state()
    finally:
        for path, tensor in state.items():
            scripted.weights.tensor(path).copy_(tensor)


def _cloned(x: Any) -> Any:
    return x.clone() if isinstance(x, torch.Tensor) else x


def _export(scripted: Scripted, entry: Entry, unused_draws: bool = False) -> Exported:
    """unused_draws: whether random numbers that nobody uses are drawn, as in Python; torch.jit does not draw them."""
    root = scripted.replay(entry.name)
    names = root.recording.parameters
    args, kwargs = _tensors(root.recording.leaves, entry.args, entry.kwargs)
    dynamic = for_export(root.forward, args, entry.dynamic)
    wide_args, wide_kwargs, dynamic = widen(names, args, kwargs, dynamic)
    wide_args, wide_kwargs, dynamic = _with_sizes(root.recording.leaves, names, wide_args, wide_kwargs, dynamic)
    asked: dict[questions.Question, None] = {}
    asking = questions.recorded(asked) if dynamic else nullcontext()
    with torch.no_grad(), diagnose.quiet(), kept_draws(), asking:
        try:
            program = exported_program(root, wide_args, wide_kwargs, dynamic)
            if not unused_draws:
                drop_unused_draws(program.graph_module)
        except Exception as error:
            raise refusals.export_error(error) from error
    example = (args, kwargs)
    return Exported(
        entry.name, program, args, kwargs, names, dynamic=dynamic, strip="model.", example=example, asked=tuple(asked)
    )


def _with_sizes(
    leaves: Sequence[Var | None], names: Sequence[str], args: Any, kwargs: Any, dynamic: Any
) -> tuple[Any, Any, Any]:
    """Arguments and their dynamic shapes for torch.export, with the ints that are size symbols among them."""
    if not any(v is not None and isinstance(v.meta, torch.SymInt) for v in leaves):
        return args, kwargs, dynamic
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    specs = dict(zip(given, by_argument(names, args, kwargs, dynamic), strict=True))
    at = 0
    for name, value in given.items():
        count = len(pytree.tree_leaves(value))
        found = leaves[at] if count == 1 else None
        if found is not None and isinstance(found.meta, torch.SymInt):
            given[name], specs[name] = size_example(value), torch.export.Dim.DYNAMIC
        at += count
    wide = tuple(given[n] for n in names[: len(args)])
    return wide, {k: given[k] for k in kwargs}, specs


def _tensors(leaves: Sequence[Var | None], args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments with numbers that are known at run time only as 0-d tensors."""
    flat, spec = pytree.tree_flatten((args, kwargs))
    made = [
        torch.tensor(x, dtype=KINDS[type(x)])
        if v is not None and type(x) in KINDS and isinstance(v.meta, torch.Tensor)
        else x
        for x, v in zip(flat, leaves, strict=True)
    ]
    tensors: tuple[Any, Any] = pytree.tree_unflatten(made, spec)
    return tensors


def _typed(method: Method, scripted: Scripted, name: str) -> Method:
    """The method with numbers among its inputs and outputs marked as such."""
    recording = scripted.recordings[name]
    scalars = tuple(
        int
        if isinstance(v.meta, torch.SymInt)
        else next(
            (kind for kind, dtype in KINDS.items() if v.needs and not v.meta.dim() and v.meta.dtype is dtype), None
        )
        for v in recording.leaves
        if v is not None
    )
    if len(scalars) != len(method.graph.inputs):
        raise CaptureError(f"internal: {name} has {len(method.graph.inputs)} inputs, {len(scalars)} were recorded")
    return replace(
        method,
        scalars=tuple(k.__name__ if k else None for k in scalars),
        out_tree=_result_tree(method.out_tree, recording.result),
    )


def _result_tree(tree: Any, result: Any) -> Tree:
    """The tree of a result with its numbers as such, and with what is narrowed to a length of the run."""
    if isinstance(result, Num):
        return {**tree, "as": result.kind.__name__}
    if isinstance(result, Narrowed):
        tensor, length = tree["tuple"]
        return {"narrow": {"leaf": tensor["leaf"], "axis": result.axis, "length": length["leaf"]}}
    if isinstance(result, Listed):
        each, length = tree["tuple"]
        return {"entries": {"each": _result_tree(each, result.each), "length": length["leaf"]}}
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        kind = tree["object"]
        fields = {k: _result_tree(kind["fields"][k], v) for k, v in zip(result._fields, result, strict=True)}
        return {"object": {**kind, "fields": fields}}
    if isinstance(result, (tuple, list)):
        ((kind, parts),) = tree.items()
        return {kind: [_result_tree(t, v) for t, v in zip(parts, result, strict=True)]}
    if isinstance(result, Mapping) and "object" in tree:  # its keys are no strings
        items = {k: t["tuple"] for k, t in tree["object"]["fields"].items()}
        fields = {
            repr(k): {"tuple": [items[repr(k)][0], _result_tree(items[repr(k)][1], v)]} for k, v in result.items()
        }
        return {"object": {**tree["object"], "fields": fields}}
    if isinstance(result, Mapping):
        return {"dict": {k: _result_tree(tree["dict"][k], v) for k, v in result.items()}}
    return dict(tree)
