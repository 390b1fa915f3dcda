"""`capture`: a model and example inputs → Program, through torch.export."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from neve.capture import (
    constraints,
    diagnose,
    fast_paths,
    guards,
    ints,
    prints,
    questions,
    refusals,
    repeated,
    shadowed,
    sides,
)
from neve.capture.aliases import one_for_two, separate
from neve.capture.attributes import watched
from neve.capture.build import Exported, build, exported
from neve.capture.data_attribute import DataAsDetached
from neve.capture.detection import batched_as_op
from neve.capture.draws import kept_draws
from neve.capture.dynamic import by_field, for_export, widen
from neve.capture.entry_module import PREFIX, EntryModule, method_of
from neve.capture.held import leaves, located, of_program, storage_of
from neve.capture.known import Constants
from neve.capture.objects import plain
from neve.capture.preserved import Preserved
from neve.capture.sides import Attempt
from neve.capture.slots import SharedMemory, replaced
from neve.capture.surroundings import Answers
from neve.capture.varying import VaryingSteps
from neve.errors import CaptureError
from neve.ir.graph import Program

Example = tuple[tuple[Any, ...], dict[str, Any]]


def capture(
    model: Any,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    methods: Mapping[str, Any] | None = None,
    preserved_attrs: Sequence[str] = (),
) -> Program:
    """The Program of an nn.Module or ScriptModule (in evaluation mode), an ExportedProgram, or a path to a .pt2 file or
    a TorchScript archive (.pt, .ptl).

    args, kwargs: example inputs of forward, by default those that came with a file; dynamic_shapes as for torch.export
    (an example size of 1 in a dynamic dim is fine).
    methods: further entry points, name → tuple of example args, or {"args": …, "kwargs": …, "dynamic_shapes": …,
    "method": the model's method, if another name than its own is wanted}; all share constants and state.
    preserved_attrs: attributes that are read at run time, as of `neve.compile`.
    The constants share memory with the model: do not train it before the Program is
    compiled. The model itself is left as it was. Raises CaptureError with every reason.
    """
    try:
        with prints.reported(), torch.random.fork_rng(devices=[]):
            return _capture(model, (args, kwargs, dynamic_shapes, methods), preserved_attrs)
    except CaptureError as error:
        reasons = [_in_words(r) for r in error.all_reasons]
        if preserved_attrs and any("depends on" in r for r in reasons):
            names = ", ".join(preserved_attrs)
            reasons.append(f"a number that is preserved ({names}) is known at run time only: no size may depend on it")
        raise CaptureError(reasons) from error


def _in_words(reason: str) -> str:
    """Without sympy's notation, but for the line of the model that is quoted."""
    what, place, line = reason.partition("  (")
    return guards.in_python(what) + place + line


def _capture(model: Any, call: Any, preserved_attrs: Sequence[str]) -> Program:
    if is_scripted(model):
        from neve.capture.torchscript.capture import capture_scripted

        return capture_scripted(model, wanted_methods(*call), preserved_attrs)
    if isinstance(model, nn.Module):
        with shadowed.renamed(model):
            try:
                return _traced(model, preserved_attrs, *call)
            except diagnose.NotTraceable as refused:
                from neve.capture.scripting.route import capture_source

                return capture_source(model, wanted_methods(*call), preserved_attrs, refused)
    args, kwargs, _, methods = call
    if methods:
        raise CaptureError("an exported program has one entry point: methods= needs the nn.Module")
    exported = load_program(model, args, kwargs)
    return build([exported], of_program(exported.program, preserved_attrs))


def is_code(model: Any) -> bool:
    """Whether a model has methods to capture: an nn.Module, or TorchScript; not what torch.export made."""
    return isinstance(model, nn.Module) or is_scripted(model)


def is_scripted(model: Any) -> bool:
    """Whether a model is a ScriptModule, a TorchScript archive's bytes, or the path of a file that may be one."""
    if isinstance(model, bytes):
        return True
    if isinstance(model, (str, os.PathLike)):
        return os.fspath(model).endswith((".pt", ".ptl", ".jit", ".pth"))
    return isinstance(model, torch.jit.ScriptModule)


def wanted_methods(
    args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, dynamic_shapes: Any, methods: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """Name → {"args", "kwargs", "dynamic_shapes", "method"}; forward is among them unless only others were given.

    Each tensor among the arguments is one of its own.
    """
    wanted: dict[str, Any] = (
        {}
        if args is None and methods
        else {
            "forward": {"args": None if args is None else tuple(args), "kwargs": kwargs}
            | {"dynamic_shapes": dynamic_shapes}
        }
    )
    for name, spec in (methods or {}).items():
        wanted[name] = dict(spec) if isinstance(spec, Mapping) else {"args": tuple(spec)}
    for spec in wanted.values():
        spec |= {key: separate(spec[key]) for key in ("args", "kwargs") if spec.get(key)}
    return wanted


def load_program(model: Any, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> Exported:
    """An ExportedProgram, or the one in a .pt2 file, as its only method. Raises CaptureError for anything else."""
    if isinstance(model, (str, os.PathLike)):
        path = os.fspath(model)
        if not path.endswith(".pt2"):
            raise CaptureError(f"{path}: wanted a .pt2 file (torch.export.save) or a TorchScript archive (.pt, .ptl)")
        try:
            model = torch.export.load(path)
        except Exception as error:
            raise CaptureError(f"{path} cannot be loaded: {diagnose.first_lines(str(error))}") from error
    if not isinstance(model, torch.export.ExportedProgram):
        raise CaptureError(
            f"a {type(model).__name__} is no model: pass an nn.Module, a ScriptModule, an ExportedProgram, or the "
            "path of a .pt2 file or a TorchScript archive"
        )
    reasons = one_for_two(model)
    if reasons:
        raise CaptureError(reasons)
    given, named = (tuple(args), dict(kwargs or {})) if args is not None else model.example_inputs or ((), {})
    return Exported("forward", model, given, named, example=(given, named))


def export_methods(
    model: nn.Module,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    dynamic_shapes: Any,
    methods: Mapping[str, Any] | None,
    state: Collection[int] = (),
) -> list[Exported]:
    """The methods of an nn.Module after torch.export; arguments as of `capture`, state: storages of tensors that may be
    others in each call, though no method writes them.
    """
    wanted = wanted_methods(args, kwargs, dynamic_shapes, methods)
    constants = Constants.of(model, set(state))
    while True:
        try:
            with ints.of_sizes(model):
                found = [_export(model, name, spec, constants) for name, spec in wanted.items()]
                traced = [part for e, _ in found for part in e.parts]
                if any(e.writes for e in traced):
                    repeated.check(model, traced, found[0][1], constants, state, _trace)
        except CaptureError:
            if not constants.clash:
                raise
        if not constants.clash:
            return [e for e, _ in found]
        constants = Constants.of(model, constants.varying | constants.clash)


def _traced(model: nn.Module, names: Sequence[str], *call: Any) -> Program:
    """As the model is, if that goes. Else with memory that has several names made one, which a write may need, and
    with the numbers of submodules fixed that are preserved as a whole.
    """
    lazy = [n for n, p in (*model.named_parameters(), *model.named_buffers()) if torch.nn.parameter.is_lazy(p)]
    if lazy:
        raise CaptureError(f"{lazy[0]} has no size yet (a lazy module): call the model once with the example inputs")
    preserved = Preserved(model, names)
    held = {storage_of(h.tensor) for value in preserved.attributes.values() for h in leaves(value)}
    attempts = [(preserved, SharedMemory(model, held)), (preserved, SharedMemory(model))]
    if preserved.implied:
        attempts += [(Preserved(model, names, numbers=False), shared) for _, shared in attempts]
    tried: list[tuple[int, int]] = []
    errors: list[CaptureError] = []
    for kept, shared in attempts:
        if (sizes := (len(kept.slots), len(shared.slots))) in tried:
            continue
        tried.append(sizes)
        try:
            return _build_module(model, kept, shared, *call)
        except CaptureError as error:
            errors.append(error)
            if isinstance(error, diagnose.NotTraceable) and not preserved.implied:
                raise
    raise next((e for e in errors if not any("torch.export raised" in r for r in e.all_reasons)), errors[-1])


def _build_module(model: nn.Module, preserved: Preserved, shared: SharedMemory, *call: Any) -> Program:
    writes: list[str] = []
    slots = {(id(s.owner), s.name): s for s in shared.slots}
    slots |= {(id(s.owner), s.name): replace(s, value=located(s.value, shared.locate)) for s in preserved.slots}
    try:
        with replaced(model, list(slots.values()), writes):
            state = {storage_of(h.tensor) for v in preserved.attributes.values() for h in leaves(v)}
            exported = export_methods(model, call[0], call[1], call[2], call[3], state)
    except CaptureError as error:
        if not writes:
            raise
        raise diagnose.NotTraceable(list(dict.fromkeys(writes))) from error
    if writes:
        raise diagnose.NotTraceable(list(dict.fromkeys(writes)))
    attributes = {path: located(value, shared.locate) for path, value in preserved.attributes.items()}
    return build(exported, attributes, shared.attributes)


def _export(model: nn.Module, name: str, spec: Mapping[str, Any], constants: Constants) -> tuple[Exported, Answers]:
    """With a model that hears what it would in eager. If it cannot be traced so, code of installed packages, which may
    ask because it cannot be, hears that it is traced: it has the same meaning then, or verification finds that it has
    not. Last, with int() of tensors (see `ints`).
    """
    method = spec.get("method") or name
    if method_of(model, method) is None:
        raise CaptureError(f"the model has no method {method!r}")
    call = tuple(spec.get("args") or ()), dict(spec.get("kwargs") or {}), spec.get("dynamic_shapes")
    answers = Answers()
    try:
        try:
            return replace(_export_answered(model, method, *call, answers, constants), name=name), answers
        except CaptureError:
            if not answers.asked:
                raise
        answers = Answers(as_traced=True)
        return replace(_export_answered(model, method, *call, answers, constants), name=name), answers
    except diagnose.NotTraceable:
        if not (files := ints.callers(ints.files(model))):
            raise
        answers = Answers()
        with ints.of_tensors(files), suppress(CaptureError):
            exported = _export_answered(model, method, *call, answers, constants)
            return replace(exported, name=name, ints=True), answers
        raise


def _export_answered(
    model: nn.Module,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    dynamic: Any,
    answers: Answers,
    constants: Constants,
) -> Exported:
    """With an export for each side of the branches on sizes that its code takes."""
    return sides.explored(Attempt(args, kwargs, dynamic), lambda a: _attempted(model, name, a, answers, constants))


def _attempted(model: nn.Module, name: str, attempt: Attempt, answers: Answers, constants: Constants) -> Exported:
    """One export. The attempt gets the arguments as torch.export sees them, and what happens meanwhile."""
    reasons: dict[str, None] = {}
    writes: dict[str, None] = {}
    given = attempt.args, attempt.kwargs
    with watched(model) as before:
        root = EntryModule(model, name, before, answers, constants, reasons, writes, attempt.entries, attempt.became)
        signature = inspect.signature(root.forward).parameters
        names = list(signature)
        args, kwargs = plain(attempt.args), plain(attempt.kwargs)
        dynamic = for_export(root.forward, args, by_field(names, args, kwargs, attempt.dynamic))
        wide_args, wide_kwargs, dynamic = widen(names, args, kwargs, dynamic)
        attempt.names, attempt.args, attempt.kwargs, attempt.dynamic = names, args, kwargs, dynamic
        program, _ = _trace(model, root, name, (wide_args, wide_kwargs), dynamic, given, attempt)
        reasons |= dict.fromkeys(before.lost())
    if reasons:
        raise diagnose.NotTraceable([*writes, *reasons])
    return Exported(
        name,
        program,
        args,
        kwargs,
        names,
        [p.name for p in signature.values() if p.kind is p.KEYWORD_ONLY],
        dynamic,
        PREFIX,
        (args, kwargs),
        asked=tuple(attempt.asked),
        writes=tuple(writes),
        method=name,
        became=attempt.became[-1],
    )


def _trace(
    model: nn.Module,
    root: nn.Module,
    name: str,
    wide: Example,
    dynamic: Any,
    given: Example | None = None,
    attempt: Attempt | None = None,
) -> tuple[torch.export.ExportedProgram, Collection[questions.Question]]:
    """root, which calls the model's method of that name, after torch.export; and what was asked of sizes. wide is an
    example whose sizes differ where they may, given the caller's own, for which the model may raise.
    """
    steps: Any = VaryingSteps() if dynamic else nullcontext()
    asked: dict[questions.Question, None] = {} if attempt is None else attempt.asked
    asking: Any = questions.recorded(asked) if dynamic else nullcontext()
    with evaluation(model), torch.no_grad(), diagnose.quiet(), steps, constraints.recorded() as assumed:
        try:
            with (
                diagnose.all_frames(),
                prints.silent(),
                fast_paths.as_in_eager(),
                batched_as_op(),
                kept_draws(),
                asking,
            ):
                return _program(root, *wide, dynamic), asked
        except Exception as error:
            scripted = any(isinstance(m, torch.jit.ScriptModule) for m in model.modules())
            own = partial(_raised, model, name, given)
            raise refusals.export_error(error, scripted, assumed, own) from error


def _raised(model: nn.Module, name: str, given: Example | None) -> BaseException | None:
    """What a copy of the model raises for the example."""
    if given is None:
        return None
    try:
        args, kwargs = copy.deepcopy(given)
        method = method_of(copy.deepcopy(model), name)
    except Exception:
        return None
    try:
        with torch.no_grad(), prints.silent():
            method(*args, **kwargs)
    except Exception as error:
        return error
    return None


def _program(root: nn.Module, args: Any, kwargs: Any, dynamic: Any) -> torch.export.ExportedProgram:
    try:
        return exported(root, args, kwargs, dynamic)
    except RuntimeError as error:
        if not refusals.UNTRACED.search(str(error)):
            raise
    with DataAsDetached():  # not in the handler, so that its error has a context of its own
        return exported(root, args, kwargs, dynamic)


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, flags restored afterwards. One that is in evaluation mode itself stays as it is:
    submodules in training mode compute what they compute in training.
    """
    flags = {m: m.training for m in model.modules()} if model.training else {}
    try:
        for m in flags:
            m.training = False
        yield
    finally:
        for m, training in flags.items():
            m.training = training


__all__ = [
    "capture",
    "evaluation",
    "export_methods",
    "is_scripted",
    "load_program",
    "wanted_methods",
]
