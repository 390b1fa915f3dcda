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
from neve.capture.torchscript.tape import ATEN
from neve.capture.torchscript.values import (
    KINDS,
    UNINITIALIZED,
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
