"""Loops whose number of iterations is known at run time only.

The body is run until it is known which variables, list entries, attributes and tensors change from one iteration to the
next: these become carried values of one "while" step; all else is as before the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
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
from neve.capture.torchscript.entries import entries_of, template_of
from neve.capture.torchscript.grown import (
    capacity,
    difference,
    grown_of,
    longer_axis,
    simple,
    size_of,
)
from neve.capture.torchscript.iterations import Iterations, bound
from neve.capture.torchscript.memory import contiguous
from neve.capture.torchscript.numbers import binary, kind_of
from neve.capture.torchscript.pickles import Obj
from neve.capture.torchscript.places import LENGTH, Spot, label, outgrown, parts_of, value_at, with_parts
from neve.capture.torchscript.tape import Invalidated
from neve.capture.torchscript.values import (
    KINDS,
    UNINITIALIZED,
    Dim,
    Grown,
    Length,
    Num,
    Refusal,
    Uninitialized,
    Var,
    content,
    describe,
    entries_in,
    needs_of,
)

if TYPE_CHECKING:
    from neve.capture.torchscript.machine import Frame, Machine

MAX_ROUNDS = 50
MAX_ALL_ROUNDS = 1_500
"""Of all loops of a method together: those of an inner loop are multiplied by those of the outer ones."""


@dataclass(frozen=True)
class Growth:
    """How something grows: along an axis (None: a list), by how much an iteration at most; template: a list's entry.

    whole: the list at the place is the container itself, not one that a variable gets.
    """

    axis: int | None
    most: Any
    template: Any = None
    whole: bool = False


class Loop:
    """One loop at run time. iteration() runs the body once and leaves the next condition in `go`."""

    def __init__(
        self,
        m: Machine,
        frame: Frame,
        body: Callable[[], Any],
        start: Any,
        skip: Collection[str] = (),
        iterations: Iterations | None = None,
    ) -> None:
        self.m, self.frame, self.body, self.start, self.skip, self.iterations = m, frame, body, start, skip, iterations
        self.carried: dict[Spot, Any] = {}  # place → a value of the kind and type that it has (Var or number)
        self.expanded: dict[Spot, int] = {}
        self.growths: dict[Spot, Growth] = {}
        self.unread: set[Spot] = set()  # set in an iteration, with sizes that change, never read before or after
        self.converted: dict[Spot, tuple[tuple[Growth, Iterations], Any]] = {}
        self.trial = False  # whether what grows has space for one iteration, to see what its length is compared with
        self.starts: dict[Spot, Any] = {}
        self.known = m.reachable()
        self.invalidated: Invalidated = {}
        self.loose: dict[Spot, None] = {}
        self.sharing: dict[Spot, dict[Any, None]] = {}  # place → the outer tensors and places that it may be

    def run(self) -> None:
        """Find what is carried, record the loop, and leave its results in variables and containers."""
        tape = self.m.tape
        for _ in range(MAX_ROUNDS):
            self.m.rounds += 1
            if self.m.rounds > MAX_ALL_ROUNDS:
                raise Refusal("loops whose number of iterations the inputs decide are nested too deep, or too many")
            self._convert()
            clean, sharing = tape.invalidated, {k: dict(v) for k, v in tape.sharing.items()}
            count = self._found()
            tape.invalidated = clean | self.invalidated
            side, params, starts, ends = self._turn()
            tape.invalidated = clean
            if side.raised is not None:
                tape.sharing = sharing
                tape.fail(tape.number(self.start, bool), side.raised)
                return
            if self.iterations is None and (self.growths or any(isinstance(e, Length) for e in ends.values())):
                self.iterations = bound(self.m, ends["go",], params, starts, ends)
            self._measure(params, ends)
            new = self._new_writes(side), self._new_sharing(side, params, ends)
            if self._found() == count and not any(new) and self.iterations is None and self.growths and not self.trial:
                self.trial = True
            elif self._found() == count and not any(new):
                self._require_iterations(ends["go",])
                self._record(side, params, starts, ends)
                return
            tape.sharing = sharing
        raise Refusal("the values that change in this loop cannot be determined", needs_of(self.start))

    def _found(self) -> Any:
        growths = {k: str(_meta(g.most)) for k, g in self.growths.items()}
        return len(self.carried), len(self.expanded), len(self.unread), growths, self.iterations, self.trial

    def _require_iterations(self, go: Any) -> None:
        if self.iterations is None and self.growths:
            raise Refusal(
                f"{label(next(iter(self.growths)))} grows in a loop, and the number of its iterations has no bound "
                "that neve finds: loop over range(n) with an int argument or a size n, or compare a counter in it",
                needs_of(self.start, go),
            )

    def _measure(self, params: Mapping[Spot, Any], ends: Mapping[Spot, Any]) -> None:
        """Correct the growth in an iteration of what is known to grow, now that its length is a carried value."""
        for place, growth in list(self.growths.items()):
            at = (*place, LENGTH) if growth.axis is not None or growth.whole else (*place, 0, LENGTH)
            end = ends.get(at)
            if isinstance(end, Length):
                self._require_origin(end, params[at], place)
                more = difference(end.most, growth.most)
                if more is None or more > 0:
                    self.growths[place] = replace(growth, most=end.most)

    def _require_origin(self, end: Length, param: Any, place: Spot) -> None:
        if end.origin is not None and end.origin is not param:
            raise Refusal(f"the length of {label(place)} is another one's, which the inputs decide")

    def _new_writes(self, side: Side) -> bool:
        """Whether the body wrote tensors whose content had been taken as known when it ran."""
        stale = [w for w in side.region.written if w.value is not None]
        for w in stale:
            w.value = None
        return bool(stale)

    def _new_sharing(self, side: Side, params: Mapping[Spot, Any], ends: Mapping[Spot, Any]) -> bool:
        """Whether an iteration leaves tensors shared, or invalidated, that it did not find so."""
        tape, before = self.m.tape, self._count()
        self.invalidated |= {
            v: text
            for v, text in side.invalidated.items()
            if (v in self.known if isinstance(v, int) else not side.region.inside(v))
        }
        first: dict[Var, Spot] = {}
        for place, end in ends.items():
            if isinstance(end, Var) and place in params and place in self.carried:
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
        return len(self.invalidated) + len(self.loose) + sum(map(len, self.sharing.values()))

    def _turn(self) -> tuple[Side, dict[Spot, Any], dict[Spot, Any], dict[Spot, Any]]:
        params: dict[Spot, Any] = {}
        starts = self.starts = self._with_growths(self._expanded(self._roots_now(self.frame.locals, {})))
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
            lists.update({k: list(c) for k, c in self.known.items() if isinstance(c, list)})
            go.append(self.body())

        begin: dict[Spot, Any] = {}
        lists: dict[int, list[Any]] = {}
        side = run_side(self.m, self.frame, body, needs_of(self.start))
        if side.raised is not None:
            return side, params, initial, {}
        after = self._roots_now(side.locals, side.changes)
        ends: dict[Spot, Any] = {}
        self.lists: dict[int, Any] = {}
        longer = {k for k, old in lists.items() if k in side.changes and outgrown(old, side.changes[k][1])}
        for key in longer:
            if not self._grows(("entry", key, 0), lists[key], side.changes[key][1], whole=True):
                raise Refusal(
                    f"{describe(lists[key])} gets shorter in a loop whose number of iterations the inputs decide"
                )
        for root, old in begin.items():
            if root[0] == "entry" and root[1] in longer:
                continue
            if root in after:
                self._compare(old, after[root], root, label(root), ends)
            elif root[0] == "entry":
                raise Refusal(f"{label(root)} is removed inside a loop whose number of iterations the inputs decide")
        for root in after:
            if root[0] == "entry" and root not in begin and root[1] in self.known and root[1] not in longer:
                raise Refusal(
                    f"{label(root)}: a dict grows in a loop whose number of iterations the inputs decide: give it all "
                    "its keys before the loop",
                    needs_of(self.start),
                )
        ends["go",] = go[0]
        return side, params, initial, ends

    def _roots_now(self, variables: Mapping[str, Any], changes: Changes) -> dict[Spot, Any]:
        """Everything that the body could change: variables, and entries of containers that exist before the loop."""
        found: dict[Spot, Any] = {("local", k, None): v for k, v in variables.items() if k not in self.skip}
        for key, container in self.known.items():
            held = changes[key][1] if key in changes else content(container)
            for k, v in held.items() if isinstance(held, dict) else enumerate(held):
                found["entry", key, k] = v
        return found

    def _expanded(self, starts: dict[Spot, Any]) -> dict[Spot, Any]:
        """With tuples of nothing where nothing is, if the body sets a tuple there."""
        for place, count in self.expanded.items():
            starts[place[:3]] = with_parts(self.m.heap, starts[place[:3]], {place[3:]: (UNINITIALIZED,) * count})
        return starts

    def _convert(self) -> None:
        """Give what grows space for all iterations, outside of the loop; once for each finding of how much it grows."""
        starts = self._roots_now(self.frame.locals, {})
        for place, growth in self.growths.items():
            iterations = self.iterations or (Iterations(1) if self.trial else None)
            if iterations is None or (place in self.converted and self.converted[place][0] == (growth, iterations)):
                continue
            space = binary(self.m.tape, "mul", growth.most, iterations.most)
            held: Any = list(self.known[place[1]]) if growth.whole else value_at(starts[place[:3]], place[3:])
            if growth.axis is not None:
                made: Any = replace(grown_of(self.m, held, growth.axis, space), reserved=True)
            else:
                entries = replace(entries_of(self.m, held, growth.template, space), reserved=True)
                made = entries if growth.whole else [entries]
            self.converted[place] = (growth, iterations), made

    def _with_growths(self, starts: dict[Spot, Any]) -> dict[Spot, Any]:
        """With what grows as it has been converted."""
        for place, (_, made) in self.converted.items():
            root = place[:3]
            if self.growths[place].whole:
                starts = {k: v for k, v in starts.items() if k[:2] != root[:2]}
                starts[root] = made
            else:
                starts[root] = with_parts(self.m.heap, starts[root], {place[3:]: made})
        return starts

    def _grows(self, place: Spot, old: Any, new: Any, whole: bool = False) -> bool:
        """Note that a list or tensor is longer after an iteration, if that is all that has changed."""
        if isinstance(old, list) and isinstance(new, list):
            known = entries_in(new)
            template = known.template if known else template_of(new[0])[0]
            before, after = (len(v) if entries_in(v) is None else capacity(v[0]) for v in (old, new))
            axis = None
        elif isinstance(old, (Var, Grown)) and isinstance(new, (Var, Grown)):
            x, y = (v.buffer if isinstance(v, Grown) else v for v in (old, new))
            axis = new.axis if isinstance(new, Grown) else longer_axis(x, y)
            if axis is None or (isinstance(old, Grown) and old.axis != axis) or x.meta.dtype is not y.meta.dtype:
                return False
            template, before, after = None, x.meta.shape[axis], y.meta.shape[axis]
        else:
            return False
        most = self._more(before, after)
        if most is None:
            return False
        for key in [k for k in self.carried if k[: len(place)] == place]:
            del self.carried[key]
            self.loose.pop(key, None)
            self.sharing.pop(key, None)
            for others in self.sharing.values():
                others.pop(key, None)
        if not whole and isinstance(value_at(self.starts[place[:3]], place[3:]), Uninitialized):
            self.unread.add(place)
            return True
        self.growths[place] = Growth(axis, most, template, whole)
        return True

    def _more(self, before: Any, after: Any) -> Any:
        """after - before as an int or a Dim; None if it is less."""
        apart = difference(after, before)
        if apart is not None:
            return apart if apart >= 0 else None
        sizes = [size_of(self.m, n) for n in (after, before)]
        return binary(self.m.tape, "sub", *sizes)

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

    def _put(self, starts: Mapping[Spot, Any], params: Mapping[Spot, Any]) -> None:
        """Set variables and entries, with params in their places."""
        growing = self.converted
        by_root: dict[Spot, dict[Spot, Any]] = {place[:3]: {} for place in (*self.expanded, *growing)}
        for place, value in params.items():
            by_root.setdefault(place[:3], {})[place[3:]] = value
        for root, parts in by_root.items():
            value = with_parts(self.m.heap, starts[root], parts)
            if root[0] == "local":
                self.frame.locals[root[1]] = value
            else:
                container = self.known[root[1]]
                self.m.heap.touch(container)
                if root in growing and self.growths[root].whole:
                    container[:] = [value]
                    continue
                target = container.attrs if isinstance(container, Obj) else container
                target[root[2]] = value

    def _compare(self, old: Any, new: Any, place: Spot, what: str, ends: dict[Spot, Any]) -> None:
        if place in self.unread:
            return
        if place in self.carried:
            ends[place] = self._end(old, new, place, what)
            return
        if same(old, new) or isinstance(new, Uninitialized):
            return
        if isinstance(old, Length) and isinstance(new, Length):
            self.carried[place] = 0
            return
        if outgrown(old, new) and self._grows(place, old, new):
            return
        pairs = parts_of(old, new)
        if pairs is not None:
            count = len(self.carried), len(ends)
            for key, x, y in pairs:
                self._compare(x, y, (*place, key), f"{what}[{key}]", ends)
            if isinstance(new, (list, dict)):
                self._replaced(new, what, count == (len(self.carried), len(ends)))
            return
        if isinstance(old, Uninitialized) and mergeable(new):
            self.carried[place] = new
        elif isinstance(old, Uninitialized) and isinstance(new, tuple):
            self.expanded[place] = len(new)
        elif isinstance(old, Uninitialized) and (isinstance(new, Grown) or entries_in(new) is not None):
            self.unread.add(place)
        elif mergeable(old) and mergeable(new) and isinstance(old, Var) == isinstance(new, Var):
            self.carried[place] = old
            self._end(old, new, place, what)
        elif not self._grows(place, old, new):
            raise Refusal(
                f"{what} is {describe(old)} before an iteration of the loop and {describe(new)} after it: it must keep "
                "its type, as the inputs decide how often the loop runs",
                needs_of(self.start),
            )

    def _replaced(self, new: Any, what: str, unchanged: bool) -> None:
        """Refusal if a list or dict that takes the place of another may be written where the other one is."""
        if unchanged or id(new) in self.known or id(new) in self.lists:
            raise Refusal(
                f"{what} becomes another {type(new).__name__} in a loop whose number of iterations the inputs decide: "
                "write into the old one, or copy what is assigned (x = y.copy())",
                needs_of(self.start),
            )
        self.lists[id(new)] = new

    def _end(self, old: Any, new: Any, place: Spot, what: str) -> Any:
        like = self.carried[place]
        if isinstance(new, Uninitialized):
            return old
        if isinstance(new, Length):
            return new
        if isinstance(like, Var) and isinstance(new, Var):
            if new.meta.dtype is like.meta.dtype and same_shape(new.meta.shape, like.meta.shape):
                return new
        elif (
            mergeable(new) and not isinstance(new, Var) and not isinstance(like, Var) and kind_of(new) is kind_of(like)
        ):
            return new
        if self._grows(place, like, new):
            return old
        raise Refusal(
            f"{what} is {describe(like)} before an iteration of the loop and {describe(new)} after it: its shape and "
            "type must stay, as the inputs decide how often the loop runs",
            needs_of(self.start, new),
        )

    def _record(
        self, side: Side, params: Mapping[Spot, Any], initial: Mapping[Spot, Any], ends: Mapping[Spot, Any]
    ) -> None:
        tape, region, clean = self.m.tape, side.region, self.m.tape.invalidated
        places = list(self.carried)
        written = list(region.written)
        messages: list[str] = []
        tape.region, tape.invalidated = region, side.invalidated
        try:
            outputs = [tape.resolve(tape.number(ends["go",], bool))]
            outputs += [leaf(self.m, ends[p], (ends[p], self.carried[p])) for p in places]
            outputs += [tape.resolve(w) for w in written]
            outputs.append(tape.resolve(tape.failure_code(messages)))
        finally:
            assert region.parent is not None
            tape.region, tape.invalidated = region.parent, clean
        region.outputs = outputs
        go = tape.unless_failed(tape.number(self.start, bool))
        starts = [go, *(self._initial(initial[p], self.carried[p]) for p in places), *written, tape.number(0, int)]
        inner = [_var(params[p]) for p in places]
        needs = needs_of(*outputs, *starts, self.start)
        metas = [self._fresh(v) for v in starts]
        captured = {outer: tape.resolve(outer) for outer in region.captured if outer not in region.written}
        carried = tuple(tape.resolve(v) for v in starts)
        outs = tape.structured("while", (carried, region, inner, written, captured), metas, needs)
        tape.invalidated = dict(side.invalidated)
        for w, out in zip(written, outs[1 + len(places) :], strict=False):
            tape.overwrite(w, out)
        tape.check_code(outs[-1], messages)
        for out, start, end in zip(outs[1 : 1 + len(places)], starts[1:], outputs[1:], strict=False):
            out.loose = any(v.loose or not contiguous(v.meta) for v in (start, end))
            tape.may_share(out, [start.root])
            shared(self.m, out, (region, end))
        group_sharing(self.m, outs[1 : 1 + len(places)], outputs[1 : 1 + len(places)], starts[1 : 1 + len(places)])
        results = {p: wrap(out, self.carried[p]) for p, out in zip(places, outs[1:], strict=False)}
        for p in places:
            if isinstance(ends[p], Length):
                results[p] = self._length(initial[p], ends[p], params[p], results[p])
        self._put(self.starts, results)
        self._finish()

    def _length(self, start: Length, end: Length, param: Any, value: Num) -> Length:
        """A length after all iterations."""
        self._require_origin(end, param, ())
        iterations = self.iterations
        if iterations is None:
            raise Refusal("a list grows in a loop whose number of iterations has no bound", needs_of(self.start))
        most = binary(self.m.tape, "add", start.most, binary(self.m.tape, "mul", end.most, iterations.most))
        exact = iterations.exact and end.origin is not None and end.value is None and start.value is None
        return Length(start.origin, most, None if exact else value)

    def _finish(self) -> None:
        """What has grown here has no space left; what fills its buffer is a tensor as any other."""
        for place in self.growths:
            root, path = place[:3], place[3:]
            holder = self.known[root[1]] if root[0] == "entry" else self.frame.locals
            holder = holder.attrs if isinstance(holder, Obj) else holder
            key = root[2] if root[0] == "entry" else root[1]
            value = value_at(holder[key], path)
            done = (
                [replace(value[0], reserved=False)]
                if isinstance(value, list)
                else simple(replace(value, reserved=False))
            )
            holder[key] = with_parts(self.m.heap, holder[key], {path: done})

    def _initial(self, value: Any, like: Any) -> Var:
        return leaf(self.m, value, (value, like))

    def _fresh(self, var: Var) -> Any:
        with self.m.tape.mode:
            return torch.empty(var.meta.shape, dtype=var.meta.dtype)


def _var(value: Any) -> Var:
    var: Var = value.var if isinstance(value, Num) else value
    return var


def _meta(number: Any) -> Any:
    return number.var.meta if isinstance(number, Dim) else number
