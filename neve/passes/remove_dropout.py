"""dropout(x) = x: what is left of dropout in evaluation mode. Exactness: EXACT."""

from __future__ import annotations

from neve.ir.graph import Node, Value
from neve.ops.activation import Dropout
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def remove(node: Node, rw: Rewriter) -> Value | None:
    return node.inputs[0] if isinstance(node.op, Dropout) else None


PASS = rules_pass("remove_dropout", Exactness.EXACT, remove)
