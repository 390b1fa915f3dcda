"""op(x, w, b) = prepacked_op(x, *prepack(w, b)) for convolution, conv_transpose and linear with constant parameters.

prepack is evaluated by `fold_constants`, so a weight that two calls share is packed once. Exactness: EXACT. Not part
of the default pipeline: the plan packs weights by itself; this is the form that a user of optimize_for_mobile expects
to see.
"""

from __future__ import annotations

from neve.ir.graph import Node, Value
from neve.ops.conv import Conv, ConvTranspose
from neve.ops.matmul import Linear
from neve.ops.prepacked import Prepack, Prepacked, PrepackedConv, PrepackedConvTranspose, PrepackedLinear
from neve.passes.rewrite import Exactness, Rewriter, rules_pass


def insert(node: Node, rw: Rewriter) -> Value | None:
    op = node.op
    packed: Prepacked
    if isinstance(op, Conv):
        packed = PrepackedConv(op.stride, op.padding, op.dilation, op.groups)
    elif isinstance(op, ConvTranspose):
        packed = PrepackedConvTranspose(op.stride, op.padding, op.output_padding, op.dilation, op.groups)
    elif isinstance(op, Linear):
        packed = PrepackedLinear()
    else:
        return None
    if any(rw.array(v) is None for v in node.inputs[1:]):
        return rw.miss(f"the parameters of {op.name} are not constant")
    return rw.emit(
        packed, node.inputs[0], *rw.emit_all(Prepack(op.name), *node.inputs[1:], name=f"{node.output.name}_packed")
    )


PASS = rules_pass("insert_prepack", Exactness.EXACT, insert)
