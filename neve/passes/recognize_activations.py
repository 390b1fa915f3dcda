"""Activations spelled out become one op.

1/(1 + exp(−x)) = sigmoid(x); x·sigmoid(x) = x/(1 + exp(−x)) = silu(x); x·tanh(softplus(x)) = mish(x);
½·x·(1 + erf(x/√2)) = gelu(x); ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) = gelu_tanh(x);
clamp(x + 3, 0, 6)/6 = hardsigmoid(x); x·clamp(x + 3, 0, 6)/6 = x·hardsigmoid(x) = hardswish(x).
Numbers in any order and place within the product; they must agree with the formula's to 2e-6.
Exactness: ROUNDING. The parts must have no other use. Declined before a step.
"""

from __future__ import annotations

import math

from neve.ir.graph import Node, Value
from neve.ops.activation import Clamp, Gelu, GeluTanh, Hardsigmoid, Hardswish, Mish, Silu
from neve.ops.base import Op
from neve.ops.elementary import Sigmoid
from neve.passes.match import Product, cube, near, plus_number, product
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def activation(node: Node, rw: Rewriter) -> Value | None:
    if node.op.name not in ("mul", "div") or not node.output.dtype.is_float:
        return None
    quotient = _quotient(node, rw)
    if quotient is not None:
        return quotient
    p = _product_of(node, rw)
    found = _hardsigmoid(p, rw)
    for f in p.factors if found is None else ():
        found = _match(f, p, rw)
        if found is not None:
            break
    if found is None:
        return None
    if rw.before_step(node.output):
        return rw.miss("the product decides a step")
    op, x = found
    return rw.emit(op, x) if x.shape == node.output.shape else None


def _product_of(node: Node, rw: Rewriter) -> Product:
    """The product that node, not yet in the graph, computes."""
    if node.op.name == "div":
        c = rw.scalar(node.inputs[1])
        a = product(node.inputs[0], rw, root=False)
        return Product(a.number / float(c), a.factors) if c else Product(1.0, (node.output,))
    a, b = (product(v, rw, root=False) for v in node.inputs)
    return Product(a.number * b.number, a.factors + b.factors)


def _quotient(node: Node, rw: Rewriter) -> Value | None:
    """a / (1 + exp(−x)) for a = 1 or x."""
    if node.op.name != "div":
        return None
    a, below = node.inputs
    plus = plus_number(below, rw)
    exp = (
        rw.op(plus[0], "exp")
        if plus is not None and plus[1] == 1 and rw.uses(below) == 1 and rw.uses(plus[0]) == 1
        else None
    )
    negated = rw.op(exp.inputs[0], "neg") if exp is not None else None
    if negated is None:
        return None
    x = negated.inputs[0]
    if x.shape != node.output.shape:
        return None
    return rw.emit(Silu(), x) if a is x else rw.emit(Sigmoid(), x) if rw.scalar(a) == 1 else None


def _match(f: Value, p: Product, rw: Rewriter) -> tuple[Op, Value] | None:
    """The activation whose inner function is the factor f, and its input."""
    n = rw.producer(f)
    if n is None or rw.uses(f) != 1:
        return None
    if n.op.name == "sigmoid" and p.number == 1 and p.without(f, n.inputs[0]) == ():
        return Silu(), n.inputs[0]
    if n.op.name == "tanh" and p.number == 1:
        soft = rw.op(n.inputs[0], "softplus")
        return (Mish(), soft.inputs[0]) if soft is not None and p.without(f, soft.inputs[0]) == () else None
    if n.op.name == "hardsigmoid" and p.number == 1:
        return (Hardswish(), n.inputs[0]) if p.without(f, n.inputs[0]) == () else None
    plus = plus_number(f, rw)
    rest = p.without(f)
    if (
        plus is None
        or plus[1] != 1
        or rest is None
        or len(rest) != 1
        or not near(p.number, 0.5)
        or rw.uses(plus[0]) != 1
    ):
        return None
    inner, (x,) = rw.producer(plus[0]), rest
    if inner is None:
        return None
    argument = product(inner.inputs[0], rw, root=rw.uses(inner.inputs[0]) == 1)
    if inner.op.name == "erf" and argument.factors == (x,) and near(argument.number, math.sqrt(0.5)):
        return Gelu(), x
    return (GeluTanh(), x) if inner.op.name == "tanh" and _is_tanh_argument(argument, x, rw) else None


def _is_tanh_argument(p: Product, x: Value, rw: Rewriter) -> bool:
    """√(2/π)·(x + 0.044715·x³), or √(2/π)·x·(1 + 0.044715·x²)."""
    if not near(p.number, math.sqrt(2 / math.pi)):
        return False
    if len(p.factors) == 1:
        n = rw.op(p.factors[0], "add")
        if n is None or x not in n.inputs:
            return False
        other = product(n.inputs[1] if n.inputs[0] is x else n.inputs[0], rw)
        return near(other.number, 0.044715) and cube(other, x, rw)
    rest = p.without(x)
    plus = plus_number(rest[0], rw) if rest is not None and len(rest) == 1 else None
    if plus is None or plus[1] != 1:
        return False
    square = product(plus[0], rw)
    return near(square.number, 0.044715) and cube(Product(1.0, (*square.factors, x)), x, rw)


def _hardsigmoid(p: Product, rw: Rewriter) -> tuple[Op, Value] | None:
    """clamp(x + 3, 0, 6)/6, and x times that."""
    if not near(p.number, 1 / 6):
        return None
    for f in p.factors:
        clamp = rw.op(f, "clamp")
        if clamp is None or clamp.op != Clamp(0.0, 6.0) or rw.uses(f) != 1:
            continue
        plus = plus_number(clamp.inputs[0], rw)
        if plus is None or plus[1] != 3:
            continue
        rest = p.without(f)
        if rest == ():
            return Hardsigmoid(), plus[0]
        if rest is not None and len(rest) == 1 and rest[0] is plus[0]:
            return Hardswish(), plus[0]
    return None


PASS = rules_pass("recognize_activations", Exactness.ROUNDING, activation)
