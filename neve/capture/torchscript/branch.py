"""Branches whose condition is known at run time only.

Both sides are run, each in a region of its own, what they did to variables and containers is undone, and what differs
becomes a result of one "cond" step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import torch

from neve.capture.torchscript.control import (
    Side,
    group_sharing,
    inside,
    leaf,
    mergeable,
    run_side,
    same,
    same_shape,
    shared,
    wrap,
)
from neve.capture.torchscript.entries import UNLIKE, entries_of, template_of
from neve.capture.torchscript.grown import (
    capacity,
    difference,
    grown_of,
    larger,
    longer_axis,
)
from neve.capture.torchscript.memory import contiguous
from neve.capture.torchscript.numbers import kind_of
from neve.capture.torchscript.pickles import Member, Obj
from neve.capture.torchscript.tape import ATEN
from neve.capture.torchscript.values import (
    UNINITIALIZED,
    Dim,
    Entries,
    Grown,
    Length,
    Named,
    Num,
    Raised,
    Refusal,
    Uninitialized,
    Var,
    content,
    describe,
    entries_in,
    needs_of,
    pieces,
    put_together,
    restore,
)

if TYPE_CHECKING:
    from neve.capture.torchscript.machine import Frame, Machine


@dataclass(frozen=True)
class Slot:
    """The place of result `index` of a branch or loop in a value that is being put together."""

    index: int


def branch(
    m: Machine,
    frame: Frame,
    pred: Num,
    then: Callable[[], None],
    orelse: Callable[[], None],
    skip: Collection[str] = (),
) -> None:
    """`if pred` with a predicate that the run decides; skip: variables that are not read afterwards."""
    sides = [run_side(m, frame, body, pred.needs) for body in (then, orelse)]
    a, b = sides
    if a.raised is not None or b.raised is not None:
        if a.raised is not None:
            m.tape.fail(pred.var, a.raised)
        else:
            m.tape.fail(m.tape.call(ATEN.logical_not.default, pred.var), b.raised or "")
        if a.raised is not None and b.raised is not None:
            raise Raised(b.raised)
        (orelse if a.raised is not None else then)()
        return
    try:
        _join(m, frame, pred, a, b, skip)
    except Refusal as error:
        error.needs |= pred.needs
        raise


def _join(m: Machine, frame: Frame, pred: Num, a: Side, b: Side, skip: Collection[str]) -> None:
    """Record the step, and leave what either side did in variables and containers."""
    merger = Merger(m, a, b)
    # what only one side sets is not read afterwards
    variables = {k: merger.merge(v, b.locals[k], k) for k, v in a.locals.items() if k in b.locals and k not in skip}
    known = m.reachable()
    contents = {}
    for key in [k for k in {**a.changes, **b.changes} if k in known]:
        container = (a.changes.get(key) or b.changes[key])[0]
        now = content(container)
        ours, theirs = (s.changes[key][1] if key in s.changes else now for s in (a, b))
        contents[key] = container, merger.contents(ours, theirs, describe(container))
    results = merger.record(pred, a, b)
    frame.locals = {k: filled(v, results) for k, v in variables.items()}
    for obj in merger.objects:
        obj.attrs = filled_contents(obj.attrs, results)
    for container, value in contents.values():
        m.heap.log(container)
        restore(container, filled_contents(value, results))


class Merger:
    """Puts the values of two sides together; what differs becomes a pair of results."""

    def __init__(self, m: Machine, *sides: Side) -> None:
        self.m, self.sides = m, sides
        self.pairs: list[tuple[Any, Any]] = []
        self._known: dict[tuple[int, int], Any] = {}
        self._slots: dict[tuple[int, int], Slot] = {}
        self.objects: list[Obj] = []

    def merge(self, a: Any, b: Any, what: str) -> Any:
        """The value that is a after one side and b after the other, with a Slot for each result."""
        if same(a, b):
            return a
        if isinstance(a, Uninitialized) or isinstance(b, Uninitialized):
            return self._either(a, b, what)
        if isinstance(a, Length) and isinstance(b, Length):
            return self._length(a, b, what)
        if isinstance(a, (Var, Grown)) and isinstance(b, (Var, Grown)) and (grown := self._grown(a, b)) is not None:
            parts = zip(*(pieces(x) or () for x in grown), strict=True)
            return put_together(grown[0], [self.merge(x, y, what) for x, y in parts])
        if mergeable(a) and mergeable(b) and (isinstance(a, Var) == isinstance(b, Var)):
            if not isinstance(a, Var) and kind_of(a) is not kind_of(b):
                raise Refusal(f"{what} is {describe(a)} on one path and {describe(b)} on the other")
            return self._slot(a, b)
        if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
            return tuple(self.merge(x, y, f"{what}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True)))
        if isinstance(a, Named) and isinstance(b, Named) and a.cls == b.cls:
            items = tuple(self.merge(x, y, f"{what}.{f}") for x, y, f in zip(a.items, b.items, a.fields, strict=True))
            return Named(a.cls, a.fields, items)
        if isinstance(a, Member) and isinstance(b, Member) and a.cls == b.cls:
            return Member(a.cls, self.merge(a.value, b.value, f"{what}.value"))
        if isinstance(a, (list, dict)) and type(a) is type(b):
            if (id(a), id(b)) not in self._known:
                ours, theirs = self._held(a, b)
                self._known[id(a), id(b)] = self._joined(self.contents(ours, theirs, what), a, b)
            return self._known[id(a), id(b)]
        if isinstance(a, Obj) and isinstance(b, Obj) and a.cls == b.cls:
            ours, theirs = self._held(a, b)
            if ours.keys() == theirs.keys():
                made = Obj(a.cls, packed=a.packed)
                made.attrs = {k: self.merge(ours[k], theirs[k], f"{what}.{k}") for k in ours}
                if any(_has_slot(v) for v in made.attrs.values()):
                    self.objects.append(made)
                return self._joined(made, a, b)
        raise Refusal(
            f"{what} is {describe(a)} on one path and {describe(b)} on the other, which the inputs decide: give it "
            "the same type on both"
        )

    def _held(self, *containers: Any) -> list[Any]:
        """What a container of each side holds after it; what is no container, as it is."""
        found = zip(self.sides, containers, strict=True)
        kinds = (list, dict, Obj)
        return [
            s.changes[id(c)][1] if id(c) in s.changes else content(c) if isinstance(c, kinds) else c for s, c in found
        ]

    def _joined(self, made: Any, *sides: Any) -> Any:
        """A container that is one of these: where one of them may not be what it is in eager, it may not be either."""
        for container, side in product(sides, self.sides):
            self.m.heap.may_share(made, container)
            if id(container) in side.invalidated:
                side.invalidated[id(made)] = side.invalidated[id(container)]
        return made

    def _slot(self, a: Any, b: Any) -> Slot:
        key = (id(a), id(b))
        if key not in self._slots:
            self.pairs.append((a, b))
            self._slots[key] = Slot(len(self.pairs) - 1)
        return self._slots[key]

    def _either(self, a: Any, b: Any, what: str) -> Any:
        """The value that only one side sets: it may have been made there, so it has to be handed out."""
        value = b if isinstance(a, Uninitialized) else a
        if isinstance(value, (Var, Num, Dim)):
            return self._slot(a, b)
        held = next(h for h in self._held(a, b) if not isinstance(h, Uninitialized))
        if isinstance(value, Length):
            return Length(value.origin, value.most, self._slot(a, b))
        parts = held if isinstance(value, list) else pieces(value)
        if parts is not None:
            pairs = [(UNINITIALIZED, p) if isinstance(a, Uninitialized) else (p, UNINITIALIZED) for p in parts]
            made = [self.merge(x, y, f"{what}[{i}]") for i, (x, y) in enumerate(pairs)]
            return self._joined(made, value) if isinstance(value, list) else put_together(value, made)
        if isinstance(value, dict):
            empty = dict.fromkeys(held, UNINITIALIZED)
            ours, theirs = (empty, held) if isinstance(a, Uninitialized) else (held, empty)
            return self._joined(self.contents(ours, theirs, what), value)
        if isinstance(value, Obj):
            raise Refusal(f"{what} is {describe(value)} on one path only, which the inputs decide")
        return value

    def _length(self, a: Length, b: Length, what: str) -> Length:
        if a.origin is not b.origin and a.origin is not None and b.origin is not None:
            raise Refusal(f"the length of {what} is counted from two others, which the inputs decide")
        return Length(a.origin or b.origin, larger(self.m, a.most, b.most), self._slot(a, b))

    def _grown(self, a: Var | Grown, b: Var | Grown) -> list[Grown] | None:
        """Two tensors that differ in the size of one axis as ones of one greatest size; None if they do not."""
        x, y = (v.buffer if isinstance(v, Grown) else v for v in (a, b))
        axis = a.axis if isinstance(a, Grown) else b.axis if isinstance(b, Grown) else longer_axis(x, y)
        if axis is None or x.meta.dim() != y.meta.dim() or x.meta.dtype is not y.meta.dtype:
            return None
        apart = difference(x.meta.shape[axis], y.meta.shape[axis])
        if apart is None or any(isinstance(v, Grown) and v.axis != axis for v in (a, b)):
            return None
        made = []
        for side, value, reserved in zip(self.sides, (a, b), (max(-apart, 0), max(apart, 0)), strict=True):
            with inside(self.m, side):
                made.append(grown_of(self.m, value, axis, reserved))
        reserved = any(isinstance(v, Grown) and v.reserved for v in (a, b))
        return [replace(v, reserved=reserved) for v in made]

    def _entries(self, a: list[Any], b: list[Any], what: str) -> Entries:
        """The entries of two lists of different or unknown lengths."""
        known = [entries_in(a), entries_in(b)]
        template = next((e.template for e in known if e is not None), None) or template_of((a or b)[0])[0]
        spaces = [len(v) if e is None else capacity(e) for v, e in zip((a, b), known, strict=True)]
        apart = difference(*spaces)
        if apart is None:
            raise Refusal(f"{what} has space for {spaces[0]} entries on one path and for {spaces[1]} on the other")
        made = []
        for side, value, reserved in zip(self.sides, (a, b), (max(-apart, 0), max(apart, 0)), strict=True):
            with inside(self.m, side):
                made.append(entries_of(self.m, value, template, reserved))
        ours, theirs = made
        if ours.template != theirs.template:
            raise Refusal(f"{what}: {UNLIKE}")
        parts = zip(pieces(ours) or (), pieces(theirs) or (), strict=True)
        merged: Entries = put_together(ours, [self.merge(x, y, what) for x, y in parts])
        return replace(merged, reserved=any(e is not None and e.reserved for e in known))

    def contents(self, a: Any, b: Any, what: str) -> Any:
        """What a container holds after both sides."""
        if isinstance(a, list) and isinstance(b, list) and (len(a) != len(b) or entries_in(a) or entries_in(b)):
            return [self._entries(a, b, what)]
        if isinstance(a, list) and len(a) == len(b):
            return [self.merge(x, y, f"{what}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True))]
        if isinstance(a, dict) and list(a) == list(b):
            return {k: self.merge(a[k], b[k], f"{what}[{k!r}]") for k in a}
        raise Refusal(
            f"{what} has other entries on one path than on the other, and the inputs decide which: its length must not "
            "depend on data"
        )

    def record(self, pred: Num, *sides: Side) -> list[Any]:
        """The "cond" step; returns the value of each pair."""
        tape, clean = self.m.tape, self.m.tape.invalidated
        a, b = (s.region for s in sides)
        written = list({**a.written, **b.written})
        messages: list[str] = []
        for pick, side in enumerate(sides):
            region = tape.region = side.region
            tape.invalidated = side.invalidated
            try:
                region.outputs = [leaf(self.m, pair[pick], pair) for pair in self.pairs]
                region.outputs += [tape.resolve(w) for w in written]
                codes = tape.failure_code(messages)
                region.outputs.append(tape.resolve(codes))
            finally:
                assert region.parent is not None
                tape.region, tape.invalidated = region.parent, clean
        tape.invalidated = {**sides[0].invalidated, **sides[1].invalidated}
        metas = [
            joint_meta(self.m, x, y, pair)
            for x, y, pair in zip(a.outputs, b.outputs, [*self.pairs, *((w, w) for w in written), (0, 0)], strict=True)
        ]
        needs = pred.needs | needs_of(*a.outputs, *b.outputs)
        captured = {outer: tape.resolve(outer) for outer in {**a.captured, **b.captured}}
        outs = tape.structured("cond", (tape.resolve(pred.var), a, b, captured), metas, needs)
        for k, w in enumerate(written):
            tape.overwrite(w, outs[len(self.pairs) + k])
        tape.check_code(outs[-1], messages)
        for out, x, y in zip(outs, a.outputs, b.outputs, strict=False):
            out.loose = any(v.loose or not contiguous(v.meta) for v in (x, y))
            shared(self.m, out, (a, x), (b, y))
        group_sharing(self.m, outs[: len(self.pairs)], a.outputs, b.outputs)
        likes = [b if isinstance(a, Uninitialized) else a for a, b in self.pairs]
        return [wrap(out, like) for out, like in zip(outs, likes, strict=False)]


def joint_meta(m: Machine, a: Var, b: Var, pair: Any) -> Any:
    """A fresh tensor of the type of both."""
    x, y = a.meta, b.meta
    if x.dtype is not y.dtype or not same_shape(x.shape, y.shape):
        raise Refusal(
            f"a value is {describe(a)} on one path and {describe(b)} on the other, which the inputs decide: give both "
            "the same shape and type"
        )
    with m.tape.mode:
        return torch.empty(x.shape, dtype=x.dtype)


def filled(value: Any, results: Sequence[Any], done: dict[int, Any] | None = None) -> Any:
    """A value with its slots replaced by results."""
    done = {} if done is None else done
    if isinstance(value, Slot):
        return results[value.index]
    if isinstance(value, Length):
        return replace(value, value=filled(value.value, results, done))
    parts = pieces(value)
    if parts is not None:
        return put_together(value, [filled(v, results, done) for v in parts]) if _has_slot(value) else value
    if isinstance(value, (list, dict)) and _has_slot(value):
        if id(value) not in done:
            done[id(value)] = value
            restore(value, filled_contents(content(value), results, done))
        return value
    return value


def filled_contents(value: Any, results: Sequence[Any], done: dict[int, Any] | None = None) -> Any:
    if isinstance(value, dict):
        return {k: filled(v, results, done) for k, v in value.items()}
    return [filled(v, results, done) for v in value]


def _has_slot(value: Any) -> bool:
    if isinstance(value, (Slot, Length)):
        return isinstance(value, Slot) or isinstance(value.value, Slot)
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else pieces(value)
    return any(_has_slot(v) for v in parts or ())
