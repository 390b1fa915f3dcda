"""A model through its source: run in Python, compiled by torch.jit, read as an archive, held to what Python gave."""

from __future__ import annotations

import copy
import functools
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from neve.capture import diagnose, refusals
from neve.capture.constants import in_parts
from neve.capture.entry_module import method_of
from neve.capture.export import evaluation
from neve.capture.scripting import explain, rewrite
from neve.capture.scripting.observe import Observations, observed
from neve.capture.scripting.rewrite import Known
from neve.capture.torchscript.archive import Archive, read_archive
from neve.capture.torchscript.capture import program_of, run_recorded
from neve.capture.torchscript.entry import saved
from neve.capture.torchscript.pickles import Obj
from neve.capture.torchscript.values import KINDS
from neve.errors import CaptureError
from neve.internals import replaced, require
from neve.ir.graph import Program
from neve.ops.random import DEFAULT_SEED

ROUNDS = 2
TOLERANCE = 1e-4
"""How far results may be from those in Python, relative to the largest value: both run the same kernels of torch."""
LOCK = threading.RLock()
JIT = (
    "torch.jit.script",
    "torch._C._jit_try_infer_type",
    "torch.jit._recursive.ConcreteTypeStore",
    "torch.jit._recursive.concrete_type_store",
    "torch.jit._recursive.create_script_module_impl",
    "torch.jit._recursive.get_module_concrete_type",
    "torch.jit._recursive.get_overload_annotations",
    "torch.jit._recursive.jit_ignored_properties",
    "torch.jit._recursive.make_stub_from_method",
    "torch.jit._recursive.make_stubs_for_overloads",
    "torch.jit._state._jit_caching_layer",
    "torch.jit.frontend.parse_def",
)
Call = tuple[str, tuple[Any, ...], dict[str, Any]]


def capture_source(
    model: nn.Module, wanted: Mapping[str, Mapping[str, Any]], preserved_attrs: Sequence[str], refused: CaptureError
) -> Program:
    """The Program of a model that torch.export refused. CaptureError with the reasons of both.

    The model is not changed. Its example calls are made in Python and by what was compiled, each method twice and with
    other values once more: any difference, in results or in the state that they depend on, is a reason to refuse.
    """
    try:
        return _capture(model, wanted, preserved_attrs)
    except CaptureError as error:
        raise CaptureError(refusals.merged(refused, error.all_reasons)) from error


def _capture(model: nn.Module, wanted: Mapping[str, Mapping[str, Any]], preserved_attrs: Sequence[str]) -> Program:
    calls = [(n, tuple(s.get("args") or ()), dict(s.get("kwargs") or {})) for n, s in wanted.items()]
    ran, compiled = _copy(model), _copy(model)
    known = Known(
        before=dict(zip(map(id, ran.modules()), compiled.modules(), strict=True)),
        modules=list(ran.modules()),
        stored={path.rpartition(".")[2] for path in preserved_attrs},
    )
    python = _results(ran, calls, known.observations)
    archive = _compiled(compiled, list(wanted), known)
    _share(archive.root, compiled)
    return program_of(
        archive,
        wanted,
        preserved_attrs,
        lambda s: _compare(python, run_recorded(s, [pytree.tree_map(_cloned, c) for c, _ in python])),
    )


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise CaptureError(
            f"its source cannot be compiled: the model cannot be copied: {diagnose.first_lines(str(error))}"
        ) from error


# In Python.


def _results(model: nn.Module, calls: Sequence[Call], found: Observations) -> list[tuple[Call, Any]]:
    """Calls, one after the other, and what they give in Python."""
    done: list[tuple[Call, Any]] = []
    with torch.no_grad(), evaluation(model), diagnose.quiet(), observed(found):
        done.extend((call, _call(model, call)) for call in list(calls) * ROUNDS)
        with suppress(CaptureError):  # the model is free to refuse values that nobody gave
            done.extend((call, _call(model, call)) for call in map(_other_values, calls))
    return done


def _call(model: nn.Module, call: Call) -> Any:
    name, args, kwargs = pytree.tree_map(_cloned, call)
    try:
        torch.manual_seed(DEFAULT_SEED)
        result = method_of(model, name)(*args, **kwargs)
        return pytree.tree_map(_cloned, (result, args, kwargs, torch.get_rng_state()))
    except Exception as error:
        raise CaptureError(
            f"{name} raises in Python with the example inputs, {type(error).__name__}: "
            f"{diagnose.first_lines(str(error))}{diagnose.user_line(error)}"
        ) from error


def _cloned(x: Any) -> Any:
    return x.clone() if isinstance(x, torch.Tensor) else x


def _other_values(call: Call) -> Call:
    """The call with tensors of the other sign, which take other branches."""
    other: Call = pytree.tree_map(lambda x: -x if isinstance(x, torch.Tensor) and x.is_floating_point() else x, call)
    return other


# By torch.jit.


def _compiled(model: nn.Module, methods: Sequence[str], known: Known) -> Archive:
    """The archive of a copy of the model with these methods compiled."""
    require("compiling its source", *JIT, error=CaptureError)
    with LOCK, evaluation(model), diagnose.quiet(), _isolated(known):
        try:
            scripted = _scripted(model, methods)
            explain.check_assumed(known)
            return read_archive(saved(scripted))
        except CaptureError:
            raise
        except Exception as error:
            raise CaptureError(explain.reasons(error, known)) from error


def _scripted(model: nn.Module, methods: Sequence[str]) -> Any:
    from torch.jit import _recursive

    jit: Any = _recursive  # its functions have no types

    def stubs(module: nn.Module) -> list[Any]:
        names = [last for path, _, last in (m.rpartition(".") for m in methods) if _at(model, path) is module]
        # torch.jit compiles the methods that are called, but needs forward for a module with hooks
        names += ["forward"] if _hooks(module) and "forward" not in names else []
        # methods with overloads (those of nn.GRU and nn.LSTM) are not compiled when they are called
        overloads = jit.get_overload_annotations(module, jit.jit_ignored_properties(module))
        return [
            *jit.make_stubs_for_overloads(overloads),
            *(jit.make_stub_from_method(module, name) for name in names),
        ]

    if isinstance(model, torch.jit.ScriptModule):
        return model
    concrete = jit.get_module_concrete_type(model)
    return jit.create_script_module_impl(model, concrete, stubs)


def _at(model: nn.Module, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), model) if path else model


def _hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


@contextmanager
def _isolated(known: Known) -> Iterator[None]:
    """torch.jit with caches of its own, so that neither side sees what the other compiled, and with `rewrite`."""
    from torch.jit import _recursive, frontend

    changes = [
        ("torch.jit._recursive.concrete_type_store", _recursive.ConcreteTypeStore()),
        ("torch.jit._state._jit_caching_layer", weakref.WeakKeyDictionary()),
        ("torch.jit.frontend.parse_def", rewrite.parser(frontend.parse_def, known)),
    ]
    with replaced(*changes):
        try:
            yield
        finally:
            known.take_back()


def _share(root: Obj, model: nn.Module) -> None:
    """Make modules, lists and dicts one in the archive that are one in Python: torch.jit copies them for every name."""
    known: dict[int, Any] = {}

    def visit(obj: Any, module: nn.Module) -> None:
        for name, value in {**module.__dict__, **module._modules}.items():
            if not isinstance(obj, Obj) or name not in obj.attrs or not isinstance(value, (nn.Module, list, dict)):
                continue
            if id(value) in known:
                obj.attrs[name] = known[id(value)]
                continue
            known[id(value)] = obj.attrs[name]
            if isinstance(value, nn.Module):
                visit(obj.attrs[name], value)

    known[id(model)] = root
    visit(root, model)


# Both.


def _compare(python: Sequence[tuple[Call, Any]], compiled: Iterator[Any]) -> None:
    """Raise CaptureError if any call gives something else than in Python."""
    for k, ((call, want), got) in enumerate(zip(python, compiled, strict=False)):
        what = _difference(pytree.tree_leaves(want), pytree.tree_leaves(got))
        if what:
            raise CaptureError(
                f"compiled from source, call {k + 1} of the example calls ({call[0]}) gives something else than in "
                f"Python: {what}; torch.jit and Python differ about something in the model: export it instead "
                "(torch.cond, torch.where), or remove what the two see differently (hooks, overridden attributes, "
                "values that change outside of the model)"
            )


def _difference(want: Sequence[Any], got: Sequence[Any]) -> str:
    if len(want) != len(got):
        return f"{len(got)} values instead of {len(want)}"
    for k, (w, g) in enumerate(zip(want, got, strict=True)):
        numbers = (torch.Tensor, bool, int, float)
        if not isinstance(w, numbers) or not isinstance(g, numbers):
            if w != g:
                return f"value {k} is {g!r} instead of {w!r}"[:200]
            continue
        w, g = (x if isinstance(x, torch.Tensor) else torch.tensor(x, dtype=KINDS[type(x)]) for x in (w, g))
        if w.shape != g.shape or w.dtype is not g.dtype:
            return f"value {k} is {g.dtype} {list(g.shape)} instead of {w.dtype} {list(w.shape)}"
        w, g = in_parts(w), in_parts(g)
        scale = float(w[w.isfinite()].abs().max()) if w.is_floating_point() and bool(w.isfinite().any()) else 0.0
        if not torch.allclose(w, g, rtol=0, atol=TOLERANCE * scale, equal_nan=True):
            return f"value {k} differs by {float((w.double() - g.double()).abs().max()):.1e}"
    return ""
