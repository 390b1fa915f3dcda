"""permute(f(permute⁻¹(x), …)) = f(x, …) for pointwise f: a transposition and its inverse around pointwise ops
disappear.

Every other operand of f is a number, a value permuted the same way, or a constant (which is permuted at compile
time). f's result must have no other use. Also through chains of pointwise ops, one link a round.
Exactness: EXACT: the same numbers are computed, elsewhere.
"""

from __future__ import annotations

from neve.ir.graph import Node, Value
from neve.ops.cast import Cast
from neve.ops.pointwise import Pointwise
from neve.ops.shape import Permute, Reshape
from neve.ops.source import Constant
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def cancel(node: Node, rw: Rewriter) -> Value | None:
    if not isinstance(node.op, Permute):
        return None
    f = rw.producer(node.inputs[0])
    if f is None or not isinstance(f.op, (Pointwise, Cast)) or rw.uses(f.output) != 1:
        return None
    if not any(_is_inverse(v, node.op, rw) or _leads_to_inverse(v, node.op, rw) for v in f.inputs):
        return None
    moved = [_moved(v, f.output.type.rank, node.op, rw) for v in f.inputs]
    if any(v is None for v in moved):
        return None
    return rw.emit(f.op, *[v for v in moved if v is not None])


def _is_inverse(v: Value, op: Permute, rw: Rewriter) -> bool:
    n = rw.producer(v)
    return (
        n is not None
        and isinstance(n.op, Permute)
        and len(n.op.dims) == len(op.dims)
        and [n.op.dims[d] for d in op.dims] == list(range(len(op.dims)))
    )


def _leads_to_inverse(v: Value, op: Permute, rw: Rewriter, depth: int = 6) -> bool:
    """Whether v is a chain of pointwise ops, used here alone, on numbers, constants and values permuted inversely."""
    n = rw.producer(v)
    if depth == 0 or n is None or not isinstance(n.op, (Pointwise, Cast)) or rw.uses(v) != 1:
        return False
    inner = [x for x in n.inputs if x.type.rank and not isinstance(getattr(rw.producer(x), "op", None), Constant)]
    return bool(inner) and all(_is_inverse(x, op, rw) or _leads_to_inverse(x, op, rw, depth - 1) for x in inner)


def _moved(v: Value, rank: int, op: Permute, rw: Rewriter) -> Value | None:
    """v as an operand on the other side of the permutation."""
    n = rw.producer(v)
    if _is_inverse(v, op, rw):
        assert n is not None
        return n.inputs[0]
    if all(d == 1 for d in v.shape) and v.type.rank == 0:
        return v
    if n is not None and isinstance(n.op, Constant):
        full = v if v.type.rank == rank else rw.emit(Reshape((*(1,) * (rank - v.type.rank), *v.shape)), v)
        return rw.emit(op, full)
    return rw.emit(op, v) if v.type.rank == rank and _leads_to_inverse(v, op, rw) else None


PASS = rules_pass("cancel_transposes", Exactness.EXACT, cancel, repeat=8)
