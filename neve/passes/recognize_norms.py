"""Normalisations spelled out become one op.

exp(x − amax(x)) / Σ exp(x − amax(x)) = softmax(x); d = x − mean(x): d / √(mean(d²) + eps) = layer_norm(x), the
variance also as `var`; x / √(mean(x²) + eps) = rms_norm(x), each also with · rsqrt(…); a multiplication by a weight
(and an addition of a bias) of the normalised shape goes into the op. Statistics are over the last axes, keepdim.
Exactness: ROUNDING. Declined: a softmax without its maximum (it overflows where softmax does not).
"""

from __future__ import annotations

from neve.ir.graph import Node, Value
from neve.ops.norm import LayerNorm, RmsNorm, Softmax
from neve.ops.reduce import Amax, Mean, Sum, Var
from neve.passes.match import has_shape, plus_number, squared, trailing
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def softmax(node: Node, rw: Rewriter) -> Value | None:
    if node.op.name != "div":
        return None
    e, total = node.inputs
    exp, reduced = rw.op(e, "exp"), rw.producer(total)
    if exp is None or reduced is None or not isinstance(reduced.op, Sum) or reduced.inputs[0] is not e:
        return None
    op = reduced.op
    sub = rw.op(exp.inputs[0], "sub")
    top = rw.producer(sub.inputs[1]) if sub is not None else None
    if len(op.dims) != 1 or not op.keepdim:
        return None
    if (
        sub is None
        or top is None
        or not isinstance(top.op, Amax)
        or top.op.dims != op.dims
        or not top.op.keepdim
        or top.inputs[0] is not sub.inputs[0]
    ):
        return rw.miss("softmax without subtracting the maximum")
    return rw.emit(Softmax(op.dims[0]), sub.inputs[0])


def norm(node: Node, rw: Rewriter) -> Value | None:
    """d · rsqrt(s + eps) or d / sqrt(s + eps)."""
    if node.op.name == "mul":
        sides = ((node.inputs[0], node.inputs[1], "rsqrt"), (node.inputs[1], node.inputs[0], "rsqrt"))
    elif node.op.name == "div":
        sides = ((node.inputs[0], node.inputs[1], "sqrt"),) * 2
    else:
        return None
    for d, root, name in sides:
        r = rw.op(root, name)
        shifted = plus_number(r.inputs[0], rw) if r is not None else None
        if shifted is None or not d.dtype.is_float or not has_shape(d, node.output.shape):
            continue
        found = _norm(d, *shifted, rw)
        if found is not None:
            return found
    return None


def _norm(d: Value, statistic: Value, eps: float, rw: Rewriter) -> Value | None:
    n = rw.producer(statistic)
    if n is None or not isinstance(n.op, (Mean, Var)) or not n.op.keepdim:
        return None
    rank = trailing(n.op.dims, d.type.rank)
    if rank is None:
        return None
    if isinstance(n.op, Var):
        x = _centered(d, n.op.dims, rw)
        return rw.emit(LayerNorm(rank, eps), x) if x is not None and x is n.inputs[0] and n.op.correction == 0 else None
    if squared(n.inputs[0], rw) is not d:
        return None
    x = _centered(d, n.op.dims, rw)
    return rw.emit(LayerNorm(rank, eps), x) if x is not None else rw.emit(RmsNorm(rank, eps), d)


def _centered(d: Value, dims: tuple[int, ...], rw: Rewriter) -> Value | None:
    """x if d is x − mean(x)."""
    n = rw.op(d, "sub")
    mean = rw.producer(n.inputs[1]) if n is not None else None
    if (
        n is None
        or mean is None
        or not isinstance(mean.op, Mean)
        or not mean.op.keepdim
        or sorted(mean.op.dims) != sorted(dims)
    ):
        return None
    return n.inputs[0] if mean.inputs[0] is n.inputs[0] else None


def weight(node: Node, rw: Rewriter) -> Value | None:
    """weight · norm(x), norm(x) + bias."""
    if node.op.name not in ("mul", "add"):
        return None
    for i in (0, 1):
        n = rw.producer(node.inputs[i])
        w = node.inputs[1 - i]
        if n is None or not isinstance(n.op, (LayerNorm, RmsNorm)) or rw.uses(node.inputs[i]) != 1:
            continue
        shape = n.output.shape[n.output.type.rank - n.op.rank :]
        if not has_shape(w, shape):
            continue
        if node.op.name == "mul" and len(n.inputs) == 1:
            return rw.emit(n.op, n.inputs[0], w)
        if node.op.name == "add" and isinstance(n.op, LayerNorm) and len(n.inputs) == 2:
            return rw.emit(n.op, *n.inputs, w)
    return None


PASS = rules_pass("recognize_norms", Exactness.ROUNDING, softmax, norm, weight)
