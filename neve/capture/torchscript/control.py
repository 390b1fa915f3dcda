"""Branches and loops whose condition is known at run time only.

A branch runs both sides, each in a region of its own, undoes what they did to variables and containers, and makes what
differs a result of one "cond" step. A loop runs its body until it knows which variables, list entries, attributes and
tensors change from turn to turn: these become carried values of one "while" step; all else is as before the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from neve.capture.torchscript.numbers import convert, decided, is_number, kind_of
from neve.capture.torchscript.pickles import Obj
from neve.capture.torchscript.tape import ATEN, Region
from neve.capture.torchscript.values import (
    KINDS,
    UNINITIALIZED,
    Dim,
    Named,
    Names,
    Num,
    Raised,
    Refusal,
    Uninitialized,
    Var,
    content,
    describe,
    needs_of,
    restore,
)

if TYPE_CHECKING:
    from neve.capture.torchscript.machine import Frame, Machine

Changes = dict[int, tuple[Any, Any]]
MAX_ROUNDS = 50


@dataclass(frozen=True)
class Slot:
    """The place of result `index` of a branch or loop in a value that is being put together."""

    index: int


@dataclass
class Side:
    """What one side of a branch, or a loop's body, did."""

    region: Region
    locals: dict[str, Any]
    changes: Changes
    raised: str | None = None


def run_side(m: Machine, frame: Frame, body: Callable[[], None], needs: Names) -> Side:
    """Run body in a region of its own; variables and containers are as before afterwards."""
    before = dict(frame.locals)
    region = m.tape.open()
    m.heap.begin()
    raised = None
    try:
        body()
    except Raised as error:
        raised = error.message
    except Refusal as error:
        error.needs |= needs
        raise
    finally:
        changes = m.heap.end()
        m.tape.close()
        after, frame.locals = frame.locals, before
    return Side(region, after, changes, raised)


def branch(m: Machine, frame: Frame, pred: Num, then: Callable[[], None], orelse: Callable[[], None]) -> None:
    """`if pred` with a predicate that the run decides."""
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
    merger = Merger(m)
    variables = {
        k: merger.merge(a.locals[k], b.locals[k], k) for k in a.locals.keys() & b.locals.keys()
    }  # what only one side sets is not read afterwards
    known = m.reachable()
    contents = {}
    for key in [k for k in {**a.changes, **b.changes} if k in known]:
        container = (a.changes.get(key) or b.changes[key])[0]
        now = content(container)
        ours, theirs = (s.changes[key][1] if key in s.changes else now for s in sides)
        contents[key] = container, merger.contents(ours, theirs, describe(container))
    results = merger.record(pred, a.region, b.region)
    frame.locals = {k: filled(v, results) for k, v in variables.items()}
    for obj in merger.objects:
        obj.attrs = filled_contents(obj.attrs, results)
    for container, value in contents.values():
        m.heap.touch(container)
        restore(container, filled_contents(value, results))


class Merger:
    """Puts the values of two sides together; what differs becomes a pair of results."""

    def __init__(self, m: Machine) -> None:
        self.m = m
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
        if mergeable(a) and mergeable(b) and (isinstance(a, Var) == isinstance(b, Var)):
            if not isinstance(a, Var) and kind_of(a) is not kind_of(b):
                raise Refusal(f"{what} is {describe(a)} on one path and {describe(b)} on the other")
            return self._slot(a, b)
        if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
            return tuple(self.merge(x, y, f"{what}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True)))
        if isinstance(a, Named) and isinstance(b, Named) and a.cls == b.cls:
            items = tuple(self.merge(x, y, f"{what}.{f}") for x, y, f in zip(a.items, b.items, a.fields, strict=True))
            return Named(a.cls, a.fields, items)
        if isinstance(a, (list, dict)) and type(a) is type(b):
            if (id(a), id(b)) not in self._known:
                self._known[id(a), id(b)] = self.contents(a, b, what)
            return self._known[id(a), id(b)]
        if isinstance(a, Obj) and isinstance(b, Obj) and a.cls == b.cls and a.attrs.keys() == b.attrs.keys():
            made = Obj(a.cls, packed=a.packed)
            made.attrs = {k: self.merge(a.attrs[k], b.attrs[k], f"{what}.{k}") for k in a.attrs}
            if any(_has_slot(v) for v in made.attrs.values()):
                self.objects.append(made)
            return made
        raise Refusal(
            f"{what} is {describe(a)} on one path and {describe(b)} on the other, which the inputs decide: give it "
            "the same type on both"
        )

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
        parts = value.items if isinstance(value, Named) else value
        if isinstance(parts, (list, tuple)):
            pairs = [(UNINITIALIZED, p) if isinstance(a, Uninitialized) else (p, UNINITIALIZED) for p in parts]
            made = [self.merge(x, y, f"{what}[{i}]") for i, (x, y) in enumerate(pairs)]
            if isinstance(value, Named):
                return Named(value.cls, value.fields, tuple(made))
            return made if isinstance(value, list) else tuple(made)
        if isinstance(value, (dict, Obj)):
            raise Refusal(f"{what} is {describe(value)} on one path only, which the inputs decide")
        return value

    def contents(self, a: Any, b: Any, what: str) -> Any:
        """What a container holds after both sides."""
        if isinstance(a, list) and len(a) == len(b):
            return [self.merge(x, y, f"{what}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True))]
        if isinstance(a, dict) and list(a) == list(b):
            return {k: self.merge(a[k], b[k], f"{what}[{k!r}]") for k in a}
        raise Refusal(
            f"{what} has other entries on one path than on the other, and the inputs decide which: its length must not "
            "depend on data"
        )

    def record(self, pred: Num, a: Region, b: Region) -> list[Any]:
        """The "cond" step; returns the value of each pair."""
        tape = self.m.tape
        written = list({**a.written, **b.written})
        messages: list[str] = []
        for region, pick in ((a, 0), (b, 1)):
            tape.region = region
            try:
                region.outputs = [leaf(self.m, pair[pick], pair) for pair in self.pairs]
                region.outputs += [tape.resolve(w) for w in written]
                codes = tape.failure_code(messages)
                region.outputs.append(tape.resolve(codes))
            finally:
                assert region.parent is not None
                tape.region = region.parent
        metas = [
            joint_meta(self.m, x, y, pair)
            for x, y, pair in zip(a.outputs, b.outputs, [*self.pairs, *((w, w) for w in written), (0, 0)], strict=True)
        ]
        needs = pred.needs | needs_of(*a.outputs, *b.outputs)
        captured = {outer: tape.resolve(outer) for outer in {**a.captured, **b.captured}}
        outs = tape.structured("cond", (tape.resolve(pred.var), a, b, captured), metas, needs)
        for k, w in enumerate(written):
            tape.call(ATEN.copy_.default, w, outs[len(self.pairs) + k])
        tape.check_code(outs[-1], messages)
        for out, x, y in zip(outs, a.outputs, b.outputs, strict=False):
            shared(self.m, out, (a, x), (b, y))
        group_sharing(self.m, outs[: len(self.pairs)], a.outputs, b.outputs)
        likes = [b if isinstance(a, Uninitialized) else a for a, b in self.pairs]
        return [wrap(out, like) for out, like in zip(outs, likes, strict=False)]


def leaf(m: Machine, value: Any, pair: Sequence[Any]) -> Var:
    """A value of a side as a tensor of the innermost region."""
    if isinstance(value, Var):
        return m.tape.resolve(value)
    if isinstance(value, Uninitialized):
        other = next(v for v in pair if not isinstance(v, Uninitialized))
        if isinstance(other, Var):
            zeros: Var = m.tape.call(ATEN.zeros.default, list(other.meta.shape), dtype=other.meta.dtype)
            return zeros
        value = kind_of(other)(0)
    if isinstance(value, Dim):
        return m.tape.resolve(size_tensor(m, value))
    return m.tape.resolve(m.tape.number(value, kind_of(value)))


def size_tensor(m: Machine, value: Dim) -> Var:
    """A number computed from sizes as a 0-d tensor."""
    var: Var = m.tape.call(ATEN.scalar_tensor.default, value.var, dtype=KINDS[value.kind])
    return var


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


def same_shape(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Whether two shapes are equal, as ints or as the same expression; symbols are not guarded on."""
    return len(a) == len(b) and all(str(x) == str(y) for x, y in zip(a, b, strict=True))


def shared(m: Machine, out: Var, *sources: tuple[Region, Var]) -> None:
    """Note which outer tensors a result may be."""
    for region, var in sources:
        root = var.root
        m.tape.may_share(out, [region_outer(region, root)] if not region.inside(root) or root in region.params else [])


def region_outer(region: Region, root: Var) -> Var:
    return next((outer for outer, inner in region.captured.items() if inner is root), root)


def group_sharing(m: Machine, outs: Sequence[Var], *sides: Sequence[Var]) -> None:
    """Results that are one tensor on some side share its memory."""
    for side in sides:
        roots: dict[Var, Var] = {}
        for out, var in zip(outs, side, strict=False):
            first = roots.setdefault(var.root, out)
            if first is not out:
                m.tape.may_share(out, [first])


def wrap(out: Var, like: Any) -> Any:
    return out if isinstance(like, Var) else Num(kind_of(like), out)


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same thing, whatever the run."""
    if a is b:
        return True
    if isinstance(a, (bool, int, float, str, torch.device)) or a is None:
        return type(a) is type(b) and (a == b or (a != a and b != b)) and str(a) == str(b)
    if isinstance(a, (Num, Dim)) and type(a) is type(b):
        return a.kind is b.kind and a.var is b.var
    return False


def mergeable(value: Any) -> bool:
    return isinstance(value, Var) or is_number(value)


def filled(value: Any, results: Sequence[Any], done: dict[int, Any] | None = None) -> Any:
    """A value with its slots replaced by results."""
    done = {} if done is None else done
    if isinstance(value, Slot):
        return results[value.index]
    if isinstance(value, tuple):
        return tuple(filled(v, results, done) for v in value) if _has_slot(value) else value
    if isinstance(value, Named):
        return Named(value.cls, value.fields, filled(value.items, results, done))
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
    if isinstance(value, Slot):
        return True
    parts = value.items if isinstance(value, Named) else value.values() if isinstance(value, dict) else value
    return isinstance(value, (tuple, list, dict, Named)) and any(_has_slot(v) for v in parts)


# Loops.

Place = tuple[Any, ...]
"""("local", name, *path) or ("entry", id of a container, key, *path); the path goes through tuples and new lists."""


class Loop:
    """One loop at run time. turn() runs the body once and leaves the next condition in `go`."""

    def __init__(self, m: Machine, frame: Frame, body: Callable[[], Any], start: Any) -> None:
        self.m, self.frame, self.body, self.start = m, frame, body, start
        self.carried: dict[Place, Any] = {}  # place → a value of the kind and type that it has (Var or number)
        self.expanded: dict[Place, int] = {}
        self.known = m.reachable()

    def run(self) -> None:
        """Find what is carried, record the loop, and leave its results in variables and containers."""
        for _ in range(MAX_ROUNDS):
            tainted, sharing = dict(self.m.tape.tainted), {k: set(v) for k, v in self.m.tape.sharing.items()}
            count = len(self.carried) + len(self.expanded)
            side, params, starts, ends = self._turn()
            if side.raised is not None:
                self.m.tape.tainted, self.m.tape.sharing = tainted, sharing
                self.m.tape.fail(self.m.tape.number(self.start, bool), side.raised)
                return
            if len(self.carried) + len(self.expanded) == count and not self._new_writes(side):
                self._record(side, params, starts, ends)
                return
            self.m.tape.tainted, self.m.tape.sharing = tainted, sharing
        raise Refusal("the values that change in this loop cannot be determined", needs_of(self.start))

    def _new_writes(self, side: Side) -> bool:
        """Whether the body wrote tensors whose content had been taken as known when it ran."""
        stale = [w for w in side.region.written if w.value is not None]
        for w in stale:
            w.value = None
        return bool(stale)

    def _turn(self) -> tuple[Side, dict[Place, Any], dict[Place, Any], dict[Place, Any]]:
        params: dict[Place, Any] = {}
        starts = self._expanded(self._roots_now(self.frame.locals, {}))
        initial = {place: value_at(starts[place[:3]], place[3:]) for place in self.carried}
        go: list[Any] = []

        def body() -> None:
            for place, like in self.carried.items():
                params[place] = self._param(like, initial[place])
            self._put(starts, params)
            begin.update(self._roots_now(self.frame.locals, {}))
            go.append(self.body())

        begin: dict[Place, Any] = {}
        side = run_side(self.m, self.frame, body, needs_of(self.start))
        if side.raised is not None:
            return side, params, initial, {}
        after = self._roots_now(side.locals, side.changes)
        ends: dict[Place, Any] = {}
        for root, old in begin.items():
            if root in after:
                self._compare(old, after[root], root, _label(root), ends)
            elif root[0] == "entry":
                raise Refusal(f"{_label(root)} is removed inside a loop whose number of turns the inputs decide")
        for root in after:
            if root[0] == "entry" and root not in begin and root[1] in self.known:
                raise Refusal(
                    f"{_label(root)}: a list or dict grows in a loop whose number of turns the inputs decide, so its "
                    "length has no bound: give it its full length before the loop, or write into a tensor of that size",
                    needs_of(self.start),
                )
        ends["go",] = go[0]
        return side, params, initial, ends

    def _roots_now(self, variables: Mapping[str, Any], changes: Changes) -> dict[Place, Any]:
        """Everything that the body could change: variables, and entries of containers that exist before the loop."""
        found: dict[Place, Any] = {("local", k, None): v for k, v in variables.items()}
        for key, container in self.known.items():
            held = changes[key][1] if key in changes else content(container)
            for k, v in held.items() if isinstance(held, dict) else enumerate(held):
                found["entry", key, k] = v
        return found

    def _expanded(self, starts: dict[Place, Any]) -> dict[Place, Any]:
        """With tuples of nothing where nothing is, if the body sets a tuple there."""
        for place, count in self.expanded.items():
            starts[place[:3]] = with_parts(starts[place[:3]], {place[3:]: (UNINITIALIZED,) * count})
        return starts

    def _param(self, like: Any, initial: Any) -> Any:
        tape = self.m.tape
        meta = like.meta if isinstance(like, Var) else None
        with tape.mode:
            made = torch.empty(meta.shape, dtype=meta.dtype) if meta is not None else None
            made = torch.empty((), dtype=KINDS[kind_of(like)]) if made is None else made
        var = tape.input(made, needs=needs_of(initial, self.start, like))
        if isinstance(initial, Var):
            tape.may_share(var, [initial.root])
        return wrap(var, like)

    def _put(self, starts: Mapping[Place, Any], params: Mapping[Place, Any]) -> None:
        """Set variables and entries, with params in their places."""
        by_root: dict[Place, dict[Place, Any]] = {place[:3]: {} for place in self.expanded}
        for place, value in params.items():
            by_root.setdefault(place[:3], {})[place[3:]] = value
        for root, parts in by_root.items():
            value = with_parts(starts[root], parts)
            if root[0] == "local":
                self.frame.locals[root[1]] = value
            else:
                container = self.known[root[1]]
                self.m.heap.touch(container)
                target = container.attrs if isinstance(container, Obj) else container
                target[root[2]] = value

    def _compare(self, old: Any, new: Any, place: Place, what: str, ends: dict[Place, Any]) -> None:
        if place in self.carried:
            ends[place] = self._end(old, new, place, what)
            return
        if same(old, new) or isinstance(new, Uninitialized):
            return
        pairs = _parts(old, new)
        if pairs is not None:
            for key, x, y in pairs:
                self._compare(x, y, (*place, key), f"{what}[{key}]", ends)
            return
        if isinstance(old, Uninitialized) and mergeable(new):
            self.carried[place] = new
        elif isinstance(old, Uninitialized) and isinstance(new, tuple):
            self.expanded[place] = len(new)
        elif mergeable(old) and mergeable(new) and isinstance(old, Var) == isinstance(new, Var):
            self.carried[place] = old
            self._end(old, new, place, what)
        else:
            raise Refusal(
                f"{what} is {describe(old)} before a turn of the loop and {describe(new)} after it: it must keep its "
                "type, as the inputs decide how often the loop runs",
                needs_of(self.start),
            )

    def _end(self, old: Any, new: Any, place: Place, what: str) -> Any:
        like = self.carried[place]
        if isinstance(new, Uninitialized):
            return old
        if isinstance(like, Var) and isinstance(new, Var):
            if new.meta.dtype is like.meta.dtype and same_shape(new.meta.shape, like.meta.shape):
                return new
        elif (
            mergeable(new) and not isinstance(new, Var) and not isinstance(like, Var) and kind_of(new) is kind_of(like)
        ):
            return new
        raise Refusal(
            f"{what} is {describe(like)} before a turn of the loop and {describe(new)} after it: its shape and type "
            "must stay, as the inputs decide how often the loop runs",
            needs_of(self.start, new),
        )

    def _record(
        self, side: Side, params: Mapping[Place, Any], initial: Mapping[Place, Any], ends: Mapping[Place, Any]
    ) -> None:
        tape, region = self.m.tape, side.region
        places = list(self.carried)
        written = list(region.written)
        messages: list[str] = []
        tape.region = region
        try:
            outputs = [tape.resolve(tape.number(ends["go",], bool))]
            outputs += [leaf(self.m, ends[p], (ends[p], self.carried[p])) for p in places]
            outputs += [tape.resolve(w) for w in written]
            outputs.append(tape.resolve(tape.failure_code(messages)))
        finally:
            assert region.parent is not None
            tape.region = region.parent
        region.outputs = outputs
        go = tape.number(self.start, bool)
        starts = [go, *(self._initial(initial[p], self.carried[p]) for p in places), *written, tape.number(0, int)]
        inner = [_var(params[p]) for p in places]
        needs = needs_of(*outputs, *starts, self.start)
        metas = [self._fresh(v) for v in starts]
        captured = {outer: tape.resolve(outer) for outer in region.captured if outer not in region.written}
        carried = tuple(tape.resolve(v) for v in starts)
        outs = tape.structured("while", (carried, region, inner, written, captured), metas, needs)
        for w, out in zip(written, outs[1 + len(places) :], strict=False):
            tape.call(ATEN.copy_.default, w, out)
        tape.check_code(outs[-1], messages)
        for out, start, end in zip(outs[1 : 1 + len(places)], starts[1:], outputs[1:], strict=False):
            tape.may_share(out, [start.root])
            shared(self.m, out, (region, end))
        group_sharing(self.m, outs[1 : 1 + len(places)], outputs[1 : 1 + len(places)], starts[1 : 1 + len(places)])
        results = {p: wrap(out, self.carried[p]) for p, out in zip(places, outs[1:], strict=False)}
        self._put(self._expanded(self._roots_now(self.frame.locals, {})), results)

    def _initial(self, value: Any, like: Any) -> Var:
        return leaf(self.m, value, (value, like))

    def _fresh(self, var: Var) -> Any:
        with self.m.tape.mode:
            return torch.empty(var.meta.shape, dtype=var.meta.dtype)


def _var(value: Any) -> Var:
    var: Var = value.var if isinstance(value, Num) else value
    return var


def _parts(old: Any, new: Any) -> Iterator[tuple[Any, Any, Any]] | None:
    """(key, old, new) of the parts of tuples and named tuples of one shape; None for anything else."""
    if isinstance(old, Named) and isinstance(new, Named) and old.cls == new.cls:
        old, new = old.items, new.items
    if isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
        return iter([(i, x, y) for i, (x, y) in enumerate(zip(old, new, strict=True))])
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return iter([(i, x, y) for i, (x, y) in enumerate(zip(old, new, strict=True))])
    return None


def value_at(value: Any, path: Place) -> Any:
    for key in path:
        value = value.items[key] if isinstance(value, Named) else value[key]
    return value


def with_parts(value: Any, parts: Mapping[Place, Any]) -> Any:
    """The value with the parts at these paths replaced."""
    if () in parts:
        return parts[()]
    inner: dict[Any, dict[Place, Any]] = {}
    for path, new in parts.items():
        inner.setdefault(path[0], {})[path[1:]] = new
    items = value.items if isinstance(value, Named) else value
    made = [with_parts(v, inner[i]) if i in inner else v for i, v in enumerate(items)]
    if isinstance(value, Named):
        return Named(value.cls, value.fields, tuple(made))
    return tuple(made) if isinstance(value, tuple) else made


def _label(root: Place) -> str:
    return str(root[1]) if root[0] == "local" else f"the entry {root[2]!r}"


def condition(m: Machine, value: Any) -> bool | Num:
    """A value as a condition: True or False if that is known now."""
    if isinstance(value, Var):
        known = m.tape.known_bool(value)
        if known is not None:
            return known
        raise Refusal("a tensor is used as a condition without bool()")
    value = convert(m.tape, value, bool) if is_number(value) else value
    if not is_number(value):
        raise Refusal(f"{describe(value)} is used as a condition")
    truth = decided(m.tape, value)
    return value if truth is None else truth


__all__ = ["UNINITIALIZED", "Loop", "branch", "condition"]
