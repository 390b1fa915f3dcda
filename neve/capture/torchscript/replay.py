"""Tapes played back: an nn.Module that does to real or traced tensors what the interpreter recorded.

It runs eagerly, and under torch.export, where branches and loops become torch's cond and while_loop with every tensor
that they use among their operands, and with no result that shares memory with one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from neve.capture import diagnose
from neve.capture.torchscript.tape import Region, Step, variables
from neve.capture.torchscript.values import Num, Place, Var

HIGHER = torch.ops.higher_order


@dataclass
class Narrowed:
    """In a result: a tensor of which only the first `length` (a Num) along axis are meant."""

    tensor: Any
    length: Any
    axis: int


@dataclass
class Listed:
    """In a result: a list of `length` (a Num) entries; each: one entry, with its tensors and numbers stacked."""

    each: Any
    length: Any


@dataclass
class Recording:
    """One method: its top region, who its inputs are, and what it returns and writes.

    leaves: for each leaf of (args, kwargs) its Var or None; tensors: Var → name of a tensor of the model; values: these
    tensors by name; result: a tree with Vars and Nums in it; updates: (name of a state tensor, its new content);
    reads: attribute → the line that reads it.
    """

    name: str
    parameters: list[str]
    top: Region
    leaves: list[Var | None]
    tensors: dict[Var, str]
    values: dict[str, torch.Tensor]
    result: Any
    updates: list[tuple[str, Var]] = field(default_factory=list)
    reads: Mapping[str, str] = field(default_factory=dict)


class Weights(nn.Module):
    """The tensors of a model as buffers, at the dotted paths that they have in it."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.places: dict[str, tuple[nn.Module, str]] = {}
        for path, tensor in tensors.items():
            owner: nn.Module = self
            *folders, last = path.split(".")
            for part in folders:
                part = part if isinstance(owner._modules.get(part), nn.Module) else _free(owner, part)
                if part not in owner._modules:
                    owner.add_module(part, nn.Module())
                owner = owner.get_submodule(part)
            name = _free(owner, last)
            owner.register_buffer(name, tensor)
            self.places[path] = owner, name

    def tensor(self, path: str) -> torch.Tensor:
        owner, name = self.places[path]
        found = owner._buffers[name]
        assert found is not None
        return found


def _free(owner: nn.Module, name: str) -> str:
    """The name, or one that the module has not taken."""
    name = name or "_"
    while hasattr(owner, name):
        name += "_"
    return name


class Replay(nn.Module):
    """One method of a model, on its Weights (which torch.export sees as "model")."""

    def __init__(self, recording: Recording, weights: Weights) -> None:
        super().__init__()
        self.model = weights
        self.recording = recording
        parameters = [
            inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None) for n in recording.parameters
        ]

        def forward(*args: Any, **kwargs: Any) -> Any:
            return self.run(args, kwargs)

        forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        self.forward = forward
        self.training = False

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        r = self.recording
        env: dict[Var, Any] = {v: self.model.tensor(name) for v, name in r.tensors.items()}
        leaves = pytree.tree_leaves((args, kwargs))
        env |= {v: leaf for v, leaf in zip(r.leaves, leaves, strict=True) if v is not None}
        play(r.top, env)
        news = [(name, env[v].clone()) for name, v in r.updates]
        replaced = {name for name, _ in r.updates}
        olds = {v for v, name in r.tensors.items() if name in replaced}
        env |= {v: env[v].clone() for v in variables(r.result) if v.root in olds}
        for name, new in news:
            self.model.tensor(name).copy_(new)
        return _real(r.result, env)


def play(region: Region, env: dict[Var, Any]) -> None:
    """Run a region's steps; env has its inputs, and gets everything that it makes."""
    for step in region.steps:
        if step.op == "cond":
            results = _cond(step, env)
        elif step.op == "while":
            results = _while(step, env)
        else:
            results = pytree.tree_leaves(_at(step.place, step.op, _real(step.args, env), _real(step.kwargs, env)))
            results = results if len(results) == len(step.outs) else [r for r in results if _is_value(r)]
        if len(step.outs) == len(results):
            env.update(zip(step.outs, results, strict=True))


def _is_value(x: Any) -> bool:
    return isinstance(x, (torch.Tensor, torch.SymInt, torch.SymFloat, torch.SymBool, int, float, bool))


def _cond(step: Step, env: dict[Var, Any]) -> Sequence[Any]:
    pred, a, b, captured = step.args
    outer = list(captured)

    def side(region: Region) -> Callable[..., Any]:
        def run(*operands: Any) -> Any:
            inner = _inner(region, outer, operands, region.written)
            play(region, inner)
            return _fresh(region.outputs, inner)

        return run

    operands = tuple(env[captured[v]] for v in outer)
    results: Sequence[Any] = _at(step.place, HIGHER.cond, (env[pred], side(a), side(b), operands), {})
    return results


def _while(step: Step, env: dict[Var, Any]) -> Sequence[Any]:
    carried, region, params, written, captured = step.args
    outer = list(captured)
    count = len(carried)

    def go(*values: Any) -> Any:
        return torch.logical_and(values[0], values[count - 1] == 0)

    def body(*values: Any) -> Any:
        inner = _inner(region, outer, values[count:], ())
        iteration = values[1 : 1 + len(params)]
        inner.update((p, v.clone() if p.mutated else v) for p, v in zip(params, iteration, strict=True))
        for w, v in zip(written, values[1 + len(params) :], strict=False):
            inner[region.captured[w]] = v.clone()
        play(region, inner)
        return _fresh(region.outputs, inner)

    start = tuple(_dense(env[v]) for v in carried)
    invariant = tuple(env[captured[v]] for v in outer)
    results: Sequence[Any] = _at(step.place, HIGHER.while_loop, (go, body, start, invariant), {})
    return results[:count]


def _inner(region: Region, outer: Sequence[Var], values: Sequence[Any], copied: Any) -> dict[Var, Any]:
    given = dict(zip(outer, values, strict=True))
    return {region.captured[v]: (x.clone() if v in copied else x) for v, x in given.items() if v in region.captured}


def _fresh(outputs: Sequence[Var], env: Mapping[Var, Any]) -> tuple[Any, ...]:
    """Results as tensors that share memory with no operand and no other result."""
    return tuple(_dense(env[v]) for v in outputs)


def _dense(x: Any) -> Any:
    """A copy in the order of its shape."""
    return torch.ops.aten.clone.default(x, memory_format=torch.contiguous_format)


def _real(tree: Any, env: Mapping[Var, Any]) -> Any:
    if isinstance(tree, Var):
        return env[tree]
    if isinstance(tree, Num):
        return env[tree.var]
    if isinstance(tree, Narrowed):
        tensor, length = env[tree.tensor], env[tree.length.var]
        traced = torch.compiler.is_exporting()
        return (tensor, length) if traced else tensor.narrow(tree.axis, 0, int(length)).contiguous()
    if isinstance(tree, Listed):
        each, length = _real(tree.each, env), env[tree.length.var]
        return (each, length) if torch.compiler.is_exporting() else _rows(each, int(length))
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(_real(t, env) for t in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(_real(t, env) for t in tree)
    if isinstance(tree, dict):
        return {k: _real(v, env) for k, v in tree.items()}
    return tree


def _rows(stacked: Any, length: int) -> list[Any]:
    leaves, spec = pytree.tree_flatten(stacked)
    return [pytree.tree_unflatten([x[i] for x in leaves], spec) for i in range(length)]


def _at(place: Place | None, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run with the user's source line on the Python stack, from which torch.export takes a node's origin."""
    return op(*args, **kwargs) if place is None else _frame(place)(op, args, kwargs)


def forward(op: Any, args: Any, kwargs: Any) -> Any:  # torch.export notes only frames of this name
    return op(*args, **kwargs)


@cache
def _frame(place: Place) -> Callable[..., Any]:
    """A function whose only line is the one of the place."""
    name = diagnose.scripted_file(place.module, place.file)
    code = forward.__code__.replace(co_filename=name, co_firstlineno=place.line - 1)
    return FunctionType(code, {})
