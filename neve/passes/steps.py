"""Which values must come out as they do in eager, bit for bit: those that a step turns into another integer.

A step is an op that jumps: floor, a comparison, a cast to integers, argmax. What lies before it, back to the nearest
op whose own rounding is not specified (a sum of products, an approximated function), is arithmetic that eager rounds
once an op; x · (1/c) for x / c there is another integer at multiples of c. Rules of a ROUNDING pass that rewrite such
arithmetic ask `Rewriter.before_step`. Not promised before a step is what eager itself rounds by the processor: where
ATen has AVX2 it fuses product and sum in add and sub with alpha, addcmul and lerp, elsewhere it does not; here they are
two roundings. Values in graphs inside a graph, and what state keeps, count as read by a step.
"""

from __future__ import annotations

from neve.ir.graph import Graph, Node, Value
from neve.ir.walk import subgraphs
from neve.ops.cast import Cast
from neve.ops.control import If, While, WriteState
from neve.ops.image import GridSample

STEPS = frozenset(
    [
        "floor",
        "ceil",
        "trunc",
        "round",
        "floor_divide",
        "trunc_divide",
        "remainder",
        "fmod",
        "sign",
        "signbit",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "isnan",
        "isinf",
        "logical_not",
        "logical_and",
        "logical_or",
        "logical_xor",
        "any",
        "all",
        "argmax",
        "argmin",
        "sort",
        "topk",
        "kthvalue",
        "median",
        "mode",
        "searchsorted",
        "max_pool_indices",
        "adaptive_max_pool_indices",
        "cummax",
        "cummin",
        "nextafter",
        "frexp_exponent",
        "frexp_mantissa",
    ]
)
"""Ops that jump in every float input."""

UNSPECIFIED = frozenset(
    [
        "convolution",
        "conv_transpose",
        "matmul",
        "linear",
        "scaled_dot_product_attention",
        "batch_norm",
        "layer_norm",
        "group_norm",
        "rms_norm",
        "softmax",
        "log_softmax",
        "rnn",
        "gru",
        "lstm",
        "prepacked_convolution",
        "prepacked_conv_transpose",
        "prepacked_linear",
        "linalg_vector_norm",
        "logsumexp",
        "var",
        "logcumsumexp",
        "upsample_antialias",
        "upsample_linear",
        "upsample_bicubic",
        "gelu",
        "gelu_tanh",
        "silu",
        "mish",
        "elu",
        "softplus",
        "exp",
        "exp2",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "asinh",
        "acosh",
        "atanh",
        "sigmoid",
        "logsigmoid",
        "erf",
        "erfc",
        "erfinv",
        "lgamma",
        "digamma",
        "polygamma",
        "zeta",
        "ndtr",
        "ndtri",
        "log_ndtr",
        "i0",
        "i0e",
        "i1",
        "i1e",
        "sinc",
        "pow",
        "atan2",
        "hypot",
        "xlogy",
        "xlog1py",
        "logaddexp",
        "logaddexp2",
        "igamma",
        "igammac",
    ]
)
"""Ops whose result differs from eager's by some ulps anyway: nothing before them decides what a step sees."""


def before_steps(graph: Graph, inner: bool = False) -> frozenset[Value]:
    """The values of graph (those of graphs in it not counted) from which a step is reached; inner: the outputs count
    as read by one.
    """
    found: set[Value] = {v for v in graph.outputs if v.dtype.is_float} if inner else set()
    for node in reversed(graph.nodes):
        reached = any(v in found for v in node.outputs)
        found.update(v for v in _read(node, reached) if v.dtype.is_float)
    return frozenset(found)


def _read(node: Node, reached: bool) -> tuple[Value, ...]:
    """The inputs that a step, this node or a later one, sees."""
    op = node.op
    if isinstance(op, (If, While)):
        graphs = [g for _, g in subgraphs(op)]
        operands = node.inputs[len(node.inputs) - len(graphs[0].inputs) :]
        seen = [before_steps(g, inner=True) for g in graphs]
        return tuple(
            v for i, v in enumerate(operands) if any(g.inputs[i] in s for g, s in zip(graphs, seen, strict=True))
        )
    if op.name in UNSPECIFIED:
        return ()
    jumps = isinstance(op, Cast) and not op.dtype.is_float
    if reached or jumps or op.name in STEPS or isinstance(op, WriteState):
        return node.inputs
    return node.inputs[1:] if isinstance(op, GridSample) and op.mode == "nearest" else ()
