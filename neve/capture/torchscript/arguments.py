"""Example arguments as a method's inputs on a tape, and its result as a tree of plain containers."""

from __future__ import annotations

import collections
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch._dynamo.source import ConstantSource
from torch.fx.experimental.symbolic_shapes import DimDynamic, StatelessSymbolicContext
from torch.utils import _pytree as pytree

from neve.capture import dynamic as dynamics
from neve.capture.build import small_sizes
from neve.capture.passed import is_same
from neve.capture.torchscript.control import size_tensor
from neve.capture.torchscript.entries import filled_in, leaves_of
from neve.capture.torchscript.grown import number
from neve.capture.torchscript.machine import Machine
from neve.capture.torchscript.memory import contiguous
from neve.capture.torchscript.model import Entry
from neve.capture.torchscript.pickles import Member, Obj
from neve.capture.torchscript.replay import Listed, Narrowed
from neve.capture.torchscript.schema import dtype_number
from neve.capture.torchscript.tape import Recorder
from neve.capture.torchscript.values import (
    KINDS,
    Bound,
    Dim,
    Grown,
    Leaf,
    Length,
    Named,
    Num,
    Refusal,
    Text,
    Uninitialized,
    Var,
    describe,
    entries_in,
)


class Arguments:
    """The example arguments of a call, as values of the interpreter.

    leaves: for each leaf of (args, kwargs) its input of the tape, or None if it is fixed; fixed: the parameters whose
    numbers must be; sizes: those whose are sizes.
    """

    def __init__(
        self, tape: Recorder, entry: Entry, names: Sequence[str], fixed: Collection[str], sizes: Collection[str] = ()
    ) -> None:
        self.tape, self.entry, self.names, self.fixed, self.sizes = tape, entry, names, fixed, sizes
        self.leaves: list[Var | None] = []
        self._values = self._arguments()

    def fresh(self) -> tuple[list[Any], dict[str, Any]]:
        """(args, kwargs), their containers new ones."""
        values = {name: pytree.tree_unflatten(leaves, spec) for name, (leaves, spec) in self._values.items()}
        return [values[n] for n in self.names[: len(self.entry.args)]], {k: values[k] for k in self.entry.kwargs}

    def _arguments(self) -> dict[str, tuple[list[Any], Any]]:
        """Leaves and structure of each argument."""
        names, entry = self.names, self.entry
        if len(entry.args) > len(names):
            raise Refusal(f"it takes {len(names)} arguments ({', '.join(names)}), got {len(entry.args)}")
        unknown = [k for k in entry.kwargs if k not in names]
        if unknown:
            raise Refusal(f"it has no argument {unknown[0]!r}; it has {', '.join(names)}")
        given = [*zip(names, entry.args, strict=False), *entry.kwargs.items()]
        dims = self._dynamic()
        values: dict[str, tuple[list[Any], Any]] = {}
        for name, value in given:
            leaves, spec = pytree.tree_flatten(value)
            values[name] = [self._argument(name, x, dims) for x in leaves], spec
        return values

    def _argument(self, name: str, value: Any, dims: Mapping[int, Mapping[int, Any]]) -> Any:
        if isinstance(value, torch.Tensor):
            var = self.tape.input(self._fake(value, name, dims.get(id(value))), name)
            var.mutated, var.loose = True, not contiguous(var.meta)
            self.leaves.append(var)
            return var
        if name in self.sizes and name not in self.fixed and is_size(value):
            return self._size(name, value)
        if type(value) in KINDS and name not in self.fixed:
            with self.tape.mode:
                meta = torch.empty((), dtype=KINDS[type(value)])
            var = self.tape.input(meta, name, needs=frozenset({name}))
            var.mutated = True
            self.leaves.append(var)
            return Num(type(value), var)
        if value is None or isinstance(value, (bool, int, float, str, torch.device)):
            self.leaves.append(None)
            return value
        if isinstance(value, torch.dtype):
            self.leaves.append(None)
            return dtype_number(value)
        raise Refusal(f"the argument {name!r} is a {type(value).__name__}: pass tensors, numbers, strings or None")

    def _size(self, name: str, value: int) -> Dim:
        """An int argument as a symbol, so that shapes can depend on it."""
        source, environment = ConstantSource(f"{name}_{len(self.leaves)}"), self.tape.mode.shape_env
        assert environment is not None
        hint = size_example(value)
        made = environment.create_symbol(hint, source, DimDynamic.DYNAMIC, None)
        meta = environment.create_symintnode(made, hint=hint, source=source)
        self.tape.declared.add(meta, name)
        var = self.tape.input(meta, name, needs=frozenset({name}))
        self.leaves.append(var)
        return Dim(int, var)

    def _dynamic(self) -> dict[int, Mapping[int, Any]]:
        """id of an argument tensor → its axes that vary, with what is declared of each."""
        entry = self.entry
        found: dict[int, Mapping[int, Any]] = {}
        if not entry.dynamic:
            return found
        specs = dynamics.by_argument(list(self.names), entry.args, entry.kwargs, entry.dynamic)
        for value, spec in zip([*entry.args, *entry.kwargs.values()], specs, strict=False):
            for tensor, s in dynamics._pairs(value, spec):
                found[id(tensor)] = dynamics._axes(tensor, s)
        return found

    def check_unwritten(self) -> None:
        """Refusal if an argument is another tensor on some path, and that one is written."""
        for var in self.leaves:
            if var in self.tape.invalidated:
                raise Refusal(
                    f"the argument {var.name!r} is written in place on some path: write to a copy (x = x.clone())"
                )

    def _fake(self, tensor: torch.Tensor, name: str, axes: Mapping[int, Any] | None) -> Any:
        if not axes:
            return self.tape.fake(tensor)
        sizes = [DimDynamic.DYNAMIC if i in axes else DimDynamic.STATIC for i in range(tensor.dim())]
        context: Any = StatelessSymbolicContext(dynamic_sizes=sizes)
        source = ConstantSource(f"{name}_{len(self.leaves)}")
        with small_sizes():
            made = self.tape.mode.from_tensor(tensor, source=source, symbolic_context=context)
        for axis, declared in axes.items():
            self.tape.declared.add(made.shape[axis], f"axis {axis} of {name}", declared)
        return made


def is_size(value: Any) -> bool:
    """Whether an example value can be a size."""
    return type(value) is int and 0 <= value < 2**31


def size_example(value: int) -> int:
    """A size near the example that torch does not take for fixed, as it does with 0 and 1."""
    return max(value, 2)


def _length(m: Machine, length: Length) -> Num:
    return Num(int, m.tape.number(number(m, length), int))


def _typed(m: Machine, leaf: Leaf, column: Var) -> Any:
    if column.root in m.tape.invalidated:
        raise Refusal(m.tape.invalidated[column.root])
    return column if leaf.kind is torch.Tensor else Num(leaf.kind, column)


def plain(m: Machine, value: Any) -> Any:
    """A result as torch.export returns it: containers of tensors, numbers as they are."""
    m.heap.check(value)
    if isinstance(value, Named):
        cls = collections.namedtuple(value.cls.rpartition(".")[2], value.fields)  # type: ignore[misc] # noqa: PYI024
        return cls(*(plain(m, v) for v in value.items))
    if isinstance(value, Grown):
        return Narrowed(plain(m, value.buffer), _length(m, value.length), value.axis)
    known = entries_in(value)
    if known is not None:
        columns = [_typed(m, leaf, c) for leaf, c in zip(leaves_of(known.template), known.columns, strict=True)]
        return Listed(plain(m, filled_in(known.template, columns)), _length(m, known.length))
    if isinstance(value, (list, tuple)):
        return type(value)(plain(m, v) for v in value)
    if isinstance(value, dict):
        return {k: plain(m, v) for k, v in value.items()}
    if isinstance(value, Dim):
        return value.var if value.kind is int else Num(value.kind, size_tensor(m, value))
    if isinstance(value, (Member, Obj, Bound, Text, Uninitialized)):
        raise Refusal(f"the method returns {describe(value)}: only tensors, numbers, strings and containers of them")
    return m.tape.use(value) if isinstance(value, Var) else value


def contents_of(args: Any, kwargs: Any) -> tuple[list[Any], Any]:
    """What is in the arguments, and how, for `rearranged`."""
    leaves, spec = pytree.tree_flatten((list(args), dict(kwargs)))
    return leaves, spec


def rearranged(before: tuple[list[Any], Any], args: Any, kwargs: Any) -> bool:
    """Whether a call has put other entries into lists and dicts among its arguments."""
    leaves, spec = contents_of(args, kwargs)
    return spec != before[1] or not all(map(is_same, before[0], leaves))
