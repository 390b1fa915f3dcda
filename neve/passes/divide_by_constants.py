"""x / c = x · (1/c) for a constant c whose reciprocal is a normal number.

Division is ten times slower than multiplication in vector units. Exactness: ROUNDING (at most 1.5 ulp instead of
0.5); where every c is a power of two nothing changes, and `divide_by_powers_of_two` does it EXACTly. Declined before
a step, which would give another integer at multiples of c.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neve.ir.graph import Node, Value
from neve.ops.activation import Hardsigmoid, Hardswish
from neve.ops.pointwise import Mul
from neve.ops.source import Constant
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def _reciprocal(node: Node, rw: Rewriter, exact: bool) -> Value | None:
    x, below = node.inputs
    dtype = below.dtype
    c = rw.scalar(below)
    array = np.asarray(c, dtype.numpy) if c is not None else rw.array(below)
    producer = rw.producer(below)
    if array is None or dtype.size < 4 or (c is None and (producer is None or not isinstance(producer.op, Constant))):
        return None
    with np.errstate(all="ignore"):
        inverse = (1 / array.astype(np.float64)).astype(dtype.numpy)
    tiny = np.finfo(dtype.numpy).tiny
    if array.size == 0 or not (np.isfinite(inverse) & (abs(inverse) >= tiny) & np.isfinite(array)).all():
        return None
    if not (np.frexp(array)[0] == np.copysign(0.5, array)).all():
        if exact:
            return None
        if rw.before_step(node.output):
            return rw.miss("the quotient decides a step")
    return rw.emit(
        Mul(),
        x,
        rw.number(inverse.item(), dtype)
        if array.size == 1 and array.ndim == 0
        else rw.constant(inverse, dtype, below.name),
    )


def powers_of_two(node: Node, rw: Rewriter) -> Value | None:
    return _reciprocal(node, rw, exact=True) if node.op.name == "div" else None


def any_constant(node: Node, rw: Rewriter) -> Value | None:
    return _reciprocal(node, rw, exact=False) if node.op.name == "div" else None


def sixths(node: Node, rw: Rewriter) -> Value | None:
    """Those of hardsigmoid and hardswish."""
    op = node.op
    if not isinstance(op, Hardsigmoid | Hardswish) or op.by_product or node.output.dtype.size < 4:
        return None
    if rw.before_step(node.output):
        return rw.miss("the quotient decides a step")
    return rw.emit(replace(op, by_product=True), *node.inputs)


EXACT = rules_pass("divide_by_powers_of_two", Exactness.EXACT, powers_of_two)
PASS = rules_pass("divide_by_constants", Exactness.ROUNDING, any_constant, sixths)
