"""Helpers to match arithmetic: products flattened into factors, sums with a number, values with casts that change
nothing looked through.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from neve.ir.graph import Value
from neve.ir.types import Dim, same
from neve.passes.rewrite import Rewriter


@dataclass(frozen=True)
class Product:
    """number · Π factors."""

    number: float
    factors: tuple[Value, ...]

    def without(self, *values: Value) -> tuple[Value, ...] | None:
        """The other factors, if each of values is one (as often as given)."""
        left = list(self.factors)
        for v in values:
            at = next((i for i, f in enumerate(left) if f is v), None)
            if at is None:
                return None
            del left[at]
        return tuple(left)


def product(v: Value, rw: Rewriter, depth: int = 5, root: bool = True) -> Product:
    """v as a product of what cannot be split further: through mul, division by numbers, neg. Values used elsewhere
    are not split.
    """
    n = rw.producer(v)
    number = rw.scalar(v)
    if number is not None and v.dtype.is_float:
        return Product(float(number), ())
    if n is None or depth == 0 or (not root and rw.uses(v) > 1 and n.op.name != "neg") or not v.dtype.is_float:
        return Product(1.0, (v,))
    if n.op.name == "mul":
        if n.inputs[0] is n.inputs[1]:
            return Product(1.0, n.inputs)
        a, b = (product(x, rw, depth - 1, root=False) for x in n.inputs)
        return Product(a.number * b.number, a.factors + b.factors)
    if n.op.name == "div" and (c := rw.scalar(n.inputs[1])):
        a = product(n.inputs[0], rw, depth - 1, root=False)
        return Product(a.number / float(c), a.factors)
    if n.op.name == "neg":
        a = product(n.inputs[0], rw, depth - 1, root=False)
        return Product(-a.number, a.factors)
    return Product(1.0, (v,))


def cube(p: Product, x: Value, rw: Rewriter) -> bool:
    """Whether p's factors are x · x · x, some of them perhaps multiplied elsewhere or pow(x, 3)."""
    factors: list[Value] = []
    for f in p.factors:
        n = rw.producer(f)
        if n is not None and n.op.name == "mul":
            factors += n.inputs
        elif n is not None and n.op.name == "pow" and rw.scalar(n.inputs[1]) == 3:
            factors += [n.inputs[0]] * 3
        else:
            factors.append(f)
    out: list[Value] = []
    for f in factors:
        n = rw.producer(f)
        out += n.inputs if n is not None and n.op.name == "mul" and n.inputs[0] is n.inputs[1] else (f,)
    return len(out) == 3 and all(f is x for f in out)


def squared(v: Value, rw: Rewriter) -> Value | None:
    """x if v is x·x or pow(x, 2)."""
    n = rw.producer(v)
    if n is not None and n.op.name == "mul" and n.inputs[0] is n.inputs[1]:
        return n.inputs[0]
    return n.inputs[0] if n is not None and n.op.name == "pow" and rw.scalar(n.inputs[1]) == 2 else None


def plus_number(v: Value, rw: Rewriter) -> tuple[Value, float] | None:
    """(x, c) if v is x + c or c + x with a number c."""
    n = rw.op(v, "add")
    if n is not None:
        for i in (1, 0):
            c = rw.scalar(n.inputs[i])
            if c is not None:
                return n.inputs[1 - i], float(c)
    return None


def near(a: float, b: float) -> bool:
    """Whether two numbers agree to float32 and a bit."""
    return math.isclose(a, b, rel_tol=2e-6)


def trailing(dims: tuple[int, ...], rank: int) -> int | None:
    """How many trailing axes dims are, if they are that."""
    return len(dims) if dims and sorted(dims) == list(range(rank - len(dims), rank)) else None


def has_shape(v: Value, shape: tuple[Dim, ...]) -> bool:
    return len(v.shape) == len(shape) and all(same(a, b) for a, b in zip(v.shape, shape, strict=True))
