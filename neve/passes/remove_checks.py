"""A check that cannot fail is removed, and one that is made before.

any_outside(x) is False where the least and greatest element of x are known to be in range, all(x != 0) is True where
they have one sign: they follow from constants, counts, clamps, remainders, positions that argmax or sort give, and the
declared ranges of sizes. any_outside of the same elements in another order or integer type is any_outside of what they
come from. A raise on False goes, and a second one on the same value: the first has ended the call.
Exactness: EXACT, for integers that do not overflow int64.
"""

from __future__ import annotations

from neve.ir.graph import Graph, Node, Program, Value
from neve.ir.types import DType
from neve.ops.cast import Cast
from neve.ops.control import Raise
from neve.ops.index import AnyOutside
from neve.ops.pad import Roll
from neve.ops.reduce import All, Any
from neve.ops.shape import Flip, Permute, Reshape
from neve.ops.source import Full
from neve.passes.ranges import Limits, Sizes, limits, not_negative
from neve.passes.remove_identities import holds
from neve.passes.rewrite import Exactness, Log, ProgramPass, Rewriter, rewrite


def run(program: Program, log: Log) -> Program:
    return program.map(lambda graph: _graph(graph, log, program.symbols))


def _graph(graph: Graph, log: Log, sizes: Sizes) -> Graph:
    def in_range(node: Node, rw: Rewriter) -> Value | None:
        if not isinstance(node.op, AnyOutside):
            return None
        if _inside(limits(node.inputs[0], rw, sizes), node.op, sizes):
            return rw.emit(Full((), False, DType.bool))
        source = _source(node.inputs[0], rw)
        return None if source is node.inputs[0] else rw.emit(node.op, source)

    def not_zero(node: Node, rw: Rewriter) -> Value | None:
        if not isinstance(node.op, All) or (test := rw.op(node.inputs[0], "ne")) is None:
            return None
        x, zero = test.inputs
        if not x.dtype.is_int or rw.scalar(zero) != 0:
            return None
        known = _guarded(x, rw) or _one_sign(limits(x, rw, sizes), sizes)
        return rw.emit(Full(node.output.shape, True, DType.bool)) if known else None

    return rewrite(graph, log, in_range, not_zero, uniform, Raises())


def _inside(x: Limits, op: AnyOutside, sizes: Sizes) -> bool:
    if x.low is None or x.high is None:
        return False
    return not_negative(x.low - op.low, sizes) and not_negative(op.high - 1 - x.high, sizes)


def _source(x: Value, rw: Rewriter) -> Value:
    """The value whose elements, all of them, x has in another order or a wider integer type."""
    n = rw.producer(x)
    if n is None or not isinstance(n.op, (Reshape, Permute, Flip, Roll, Cast)):
        return x
    (inner,) = n.inputs
    return _source(inner, rw) if inner.dtype.is_int and holds(inner.dtype, x.dtype) else x


def _one_sign(x: Limits, sizes: Sizes) -> bool:
    above = x.low is not None and not_negative(x.low - 1, sizes)
    return above or (x.high is not None and not_negative(-1 - x.high, sizes))


def _guarded(x: Value, rw: Rewriter) -> bool:
    """Whether x is where(y == 0, c, y) with another number c."""
    chosen = rw.op(x, "where")
    test = rw.op(chosen.inputs[0], "eq") if chosen is not None else None
    if chosen is None or test is None or rw.scalar(test.inputs[1]) != 0 or test.inputs[0] is not chosen.inputs[2]:
        return False
    return rw.scalar(chosen.inputs[1]) not in (None, 0)


def uniform(node: Node, rw: Rewriter) -> Value | None:
    """any of False, all of True, of any size: also of none."""
    if not isinstance(node.op, (Any, All)) or rw.scalar(node.inputs[0]) is not isinstance(node.op, All):
        return None
    return rw.emit(Full(node.output.shape, isinstance(node.op, All), DType.bool))


class Raises:
    """The rule for the raises of one graph, which remembers what each was for; graphs in it have rules of their own."""

    def __init__(self) -> None:
        self.made: dict[Rewriter, set[Value]] = {}

    def __call__(self, node: Node, rw: Rewriter) -> tuple[Value, ...] | None:
        if not isinstance(node.op, Raise) or not node.inputs:
            return None
        (wrong,) = node.inputs
        made = self.made.setdefault(rw, set())
        if rw.scalar(wrong) is False or wrong in made:
            return ()
        made.add(wrong)
        return None


PASS = ProgramPass("remove_checks", Exactness.EXACT, run)
