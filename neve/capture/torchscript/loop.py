"""Loops whose number of turns is known at run time only.

The body is run until it is known which variables, list entries, attributes and tensors change from turn to turn: these
become carried values of one "while" step; all else is as before the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from neve.capture.torchscript.control import (
    Changes,
    Side,
    group_sharing,
    leaf,
    mergeable,
    run_side,
    same,
    same_shape,
    shared,
    wrap,
)
from neve.capture.torchscript.numbers import kind_of
from neve.capture.torchscript.pickles import Obj
from neve.capture.torchscript.tape import Tainted, contiguous
from neve.capture.torchscript.values import (
    KINDS,
    UNINITIALIZED,
    Heap,
    Named,
    Num,
    Refusal,
    Uninitialized,
    Var,
    content,
    describe,
    needs_of,
)

if TYPE_CHECKING:
    from neve.capture.torchscript.machine import Frame, Machine

MAX_ROUNDS = 50
Place = tuple[Any, ...]
"""("local", name, *path) or ("entry", id of a container, key, *path); the path goes through tuples and new lists."""


class Loop:
    """One loop at run time. turn() runs the body once and leaves the next condition in `go`."""

    def __init__(self, m: Machine, frame: Frame, body: Callable[[], Any], start: Any) -> None:
        self.m, self.frame, self.body, self.start = m, frame, body, start
        self.carried: dict[Place, Any] = {}  # place → a value of the kind and type that it has (Var or number)
        self.expanded: dict[Place, int] = {}
        self.known = m.reachable()
        self.tainted: Tainted = {}
        self.loose: dict[Place, None] = {}
        self.sharing: dict[Place, dict[Any, None]] = {}  # place → the outer tensors and places that it may be

    def run(self) -> None:
        """Find what is carried, record the loop, and leave its results in variables and containers."""
        tape = self.m.tape
        for _ in range(MAX_ROUNDS):
            clean, sharing = tape.tainted, {k: dict(v) for k, v in tape.sharing.items()}
            count = len(self.carried) + len(self.expanded)
            tape.tainted = clean | self.tainted
            side, params, starts, ends = self._turn()
            tape.tainted = clean
            if side.raised is not None:
                tape.sharing = sharing
                tape.fail(tape.number(self.start, bool), side.raised)
                return
            new = self._new_writes(side), self._new_sharing(side, params, ends)
            if len(self.carried) + len(self.expanded) == count and not any(new):
                self._record(side, params, starts, ends)
                return
            tape.sharing = sharing
        raise Refusal("the values that change in this loop cannot be determined", needs_of(self.start))

    def _new_writes(self, side: Side) -> bool:
        """Whether the body wrote tensors whose content had been taken as known when it ran."""
        stale = [w for w in side.region.written if w.value is not None]
        for w in stale:
            w.value = None
        return bool(stale)

    def _new_sharing(self, side: Side, params: Mapping[Place, Any], ends: Mapping[Place, Any]) -> bool:
        """Whether a turn leaves tensors shared, or tainted, that it did not find so."""
        tape, before = self.m.tape, self._count()
        self.tainted |= {
            v: text
            for v, text in side.tainted.items()
            if (v in self.known if isinstance(v, int) else not side.region.inside(v))
        }
        first: dict[Var, Place] = {}
        for place, end in ends.items():
            if isinstance(end, Var) and place in params:
                if end.loose or not contiguous(end.meta):
                    self.loose[place] = None
                found = self.sharing.setdefault(place, {})
                for root in tape.may_be(end):
                    shared_by = first.setdefault(root, place)
                    if shared_by is not place:
                        found[shared_by] = None
                    if not side.region.inside(root):
                        found[root] = None
        return self._count() > before

    def _count(self) -> int:
        return len(self.tainted) + len(self.loose) + sum(map(len, self.sharing.values()))

    def _turn(self) -> tuple[Side, dict[Place, Any], dict[Place, Any], dict[Place, Any]]:
        params: dict[Place, Any] = {}
        starts = self._expanded(self._roots_now(self.frame.locals, {}))
        initial = {place: value_at(starts[place[:3]], place[3:]) for place in self.carried}
        go: list[Any] = []

        def body() -> None:
            for place, like in self.carried.items():
                params[place] = self._param(like, initial[place])
                _var(params[place]).loose |= place in self.loose
            for place, others in self.sharing.items():
                roots = [_var(params[o] if isinstance(o, tuple) else o) for o in others]
                self.m.tape.may_share(_var(params[place]), roots)
            self._put(starts, params)
            begin.update(self._roots_now(self.frame.locals, {}))
            go.append(self.body())

        begin: dict[Place, Any] = {}
        side = run_side(self.m, self.frame, body, needs_of(self.start))
        if side.raised is not None:
            return side, params, initial, {}
        after = self._roots_now(side.locals, side.changes)
        ends: dict[Place, Any] = {}
        self.lists: dict[int, Any] = {}
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
            starts[place[:3]] = with_parts(self.m.heap, starts[place[:3]], {place[3:]: (UNINITIALIZED,) * count})
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
            var.loose = initial.loose or not contiguous(initial.meta)
        return wrap(var, like)

    def _put(self, starts: Mapping[Place, Any], params: Mapping[Place, Any]) -> None:
        """Set variables and entries, with params in their places."""
        by_root: dict[Place, dict[Place, Any]] = {place[:3]: {} for place in self.expanded}
        for place, value in params.items():
            by_root.setdefault(place[:3], {})[place[3:]] = value
        for root, parts in by_root.items():
            value = with_parts(self.m.heap, starts[root], parts)
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
            count = len(self.carried), len(ends)
            for key, x, y in pairs:
                self._compare(x, y, (*place, key), f"{what}[{key}]", ends)
            if isinstance(new, list):
                self._replaced(new, what, count == (len(self.carried), len(ends)))
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

    def _replaced(self, new: list[Any], what: str, unchanged: bool) -> None:
        """Refusal if a list that takes the place of another may be written where the other one is."""
        if unchanged or id(new) in self.known or id(new) in self.lists:
            raise Refusal(
                f"{what} becomes another list in a loop whose number of turns the inputs decide: write into the list, "
                "or copy what is assigned (x = y.copy())",
                needs_of(self.start),
            )
        self.lists[id(new)] = new

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
        tape, region, clean = self.m.tape, side.region, self.m.tape.tainted
        places = list(self.carried)
        written = list(region.written)
        messages: list[str] = []
        tape.region, tape.tainted = region, side.tainted
        try:
            outputs = [tape.resolve(tape.number(ends["go",], bool))]
            outputs += [leaf(self.m, ends[p], (ends[p], self.carried[p])) for p in places]
            outputs += [tape.resolve(w) for w in written]
            outputs.append(tape.resolve(tape.failure_code(messages)))
        finally:
            assert region.parent is not None
            tape.region, tape.tainted = region.parent, clean
        region.outputs = outputs
        go = tape.unless_failed(tape.number(self.start, bool))
        starts = [go, *(self._initial(initial[p], self.carried[p]) for p in places), *written, tape.number(0, int)]
        inner = [_var(params[p]) for p in places]
        needs = needs_of(*outputs, *starts, self.start)
        metas = [self._fresh(v) for v in starts]
        captured = {outer: tape.resolve(outer) for outer in region.captured if outer not in region.written}
        carried = tuple(tape.resolve(v) for v in starts)
        outs = tape.structured("while", (carried, region, inner, written, captured), metas, needs)
        tape.tainted = dict(side.tainted)
        for w, out in zip(written, outs[1 + len(places) :], strict=False):
            tape.overwrite(w, out)
        tape.check_code(outs[-1], messages)
        for out, start, end in zip(outs[1 : 1 + len(places)], starts[1:], outputs[1:], strict=False):
            out.loose = any(v.loose or not contiguous(v.meta) for v in (start, end))
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


def with_parts(heap: Heap, value: Any, parts: Mapping[Place, Any]) -> Any:
    """The value with the parts at these paths replaced."""
    if () in parts:
        return parts[()]
    inner: dict[Any, dict[Place, Any]] = {}
    for path, new in parts.items():
        inner.setdefault(path[0], {})[path[1:]] = new
    items = value.items if isinstance(value, Named) else value
    made = [with_parts(heap, v, inner[i]) if i in inner else v for i, v in enumerate(items)]
    if isinstance(value, Named):
        return Named(value.cls, value.fields, tuple(made))
    if isinstance(value, tuple):
        return tuple(made)
    heap.may_share(made, value)
    return made


def _label(root: Place) -> str:
    return str(root[1]) if root[0] == "local" else f"the entry {root[2]!r}"
