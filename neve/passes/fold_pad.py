"""convolution(constant_pad(x, 0)) = convolution(x) with that padding added to its own.

Declined: a pad value other than 0, negative pads (they cut), pads of batch or channels, symbolic pads.
Exactness: EXACT: the same zeros are multiplied.
"""

from __future__ import annotations

from dataclasses import replace

from neve.ir.graph import Node, Value
from neve.ops.conv import Conv
from neve.ops.pad import Pad
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def fold(node: Node, rw: Rewriter) -> Value | None:
    if not isinstance(node.op, Conv):
        return None
    pad = rw.op(node.inputs[0], "constant_pad")
    if pad is None:
        return None
    assert isinstance(pad.op, Pad)
    if pad.op.value != 0:
        return rw.miss(f"the padding is {pad.op.value}, not 0")
    pairs = [(p, q) for p, q in pad.op.pads if isinstance(p, int) and isinstance(q, int) and p >= 0 and q >= 0]
    if len(pairs) < len(pad.op.pads) or any(pair != (0, 0) for pair in pairs[:2]):
        return rw.miss("the padding cuts, is symbolic, or is not of spatial axes")
    padding = tuple((a + p, b + q) for (a, b), (p, q) in zip(node.op.padding, pairs[2:], strict=True))
    return rw.emit(replace(node.op, padding=padding), pad.inputs[0], *node.inputs[1:])


PASS = rules_pass("fold_pad", Exactness.EXACT, fold)
