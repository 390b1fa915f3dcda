"""Prologues: x · s before a 1×1 convolution, s one factor a channel, becomes a convolution of x with scaled weights.

Squeeze-and-excitation has it after every depthwise convolution. The product's kernel scales a panel of weights in
scratch when it comes to it, which costs a row's share of the product, instead of a pass over x. The factors have to be
small whatever the input is: with huge ones, scaled weights could overflow where x · s does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf, isnan

from neve.ir.index import Index
from neve.ir.loops import Call, Const, Expr, Load, Tensor
from neve.ir.types import DType
from neve.plan.select import takes_factor
from neve.plan.stages import Compute, Stage, Template

CHANNELS = 1
"""The axis of a convolution's channels."""
LARGEST = 1e4
"""Of a factor that no weight of a trained model overflows with."""
RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
ENDS: dict[str, Callable[[float, float, float, float], tuple[float, ...]]] = {
    "minimum": lambda a, b, c, d: (min(a, c), min(b, d)),
    "maximum": lambda a, b, c, d: (max(a, c), max(b, d)),
    "add": lambda a, b, c, d: (a + c, b + d),
    "mul": lambda a, b, c, d: (a * c, a * d, b * c, b * d),
}
"""Among which the least and the greatest value are, for operands in a..b and c..d."""


def scale_weights(
    stages: Sequence[Stage], readers: Counter[Tensor], required: set[Tensor], mutable: frozenset[Tensor]
) -> list[Stage]:
    """The stages with each such product moved into the convolution that alone reads it.

    readers counts the stages that read a tensor; required tensors must have memory at the end; what reads mutable ones
    stays put.
    """
    made = {t: s for s in stages for t in s.outputs}
    products = {s.out: s for s in stages if isinstance(s, Compute) and readers[s.out] == 1 and s.out not in required}
    moved: set[Stage] = set()
    out: list[Stage] = []
    for s in stages:
        if isinstance(s, Template) and (c := products.get(s.inputs[0])) is not None and takes_factor(s):
            found = _factors(c)
            if found is not None and not {x.tensor for x in found} & mutable and _bounded(found[1].tensor, made):
                x, factor = (f.tensor for f in found)
                scaled = replace(s, inputs=(x, *s.inputs[1:]), factor=factor, label=f"{c.label}+{s.label}")
                if c.out not in scaled.reads:  # its epilogue may read the product too
                    moved.add(c)
                    s = scaled
        out.append(s)
    return [s for s in out if s not in moved]


def _factors(c: Compute) -> tuple[Load, Load] | None:
    """The loads of x and s if c is x · s, x read where c is written and s by the channel alone."""
    e = c.expr
    if not (isinstance(e, Call) and e.fn == "mul" and e.dtype is DType.float32):
        return None
    if not all(isinstance(a, Load) and a.dtype is DType.float32 for a in e.args):
        return None
    own = tuple(Index.of(0) if v.extent.const == 1 else Index.of(v) for v in c.vars)
    for x, s in (e.args, e.args[::-1]):
        assert isinstance(x, Load) and isinstance(s, Load)
        channel = tuple(i if k == CHANNELS else Index.of(0) for k, i in enumerate(own))
        vector = all(d == 1 for k, d in enumerate(s.tensor.shape) if k != CHANNELS)
        if x.index == own and x.tensor.shape == c.out.shape and s.index == channel and vector:
            return x, s
    return None


def _bounded(t: Tensor, made: dict[Tensor, Stage]) -> bool:
    """Whether the elements of t are within -LARGEST..LARGEST, or NaN, whatever the input is."""
    s = made.get(t)
    if isinstance(s, Compute):
        low, high = _limits(s.expr)
    elif isinstance(s, Template) and s.epilogue is not None:
        low, high = _limits(s.epilogue.expr)
    else:
        return False
    return max(-low, high) <= LARGEST


def _limits(e: Expr) -> tuple[float, float]:
    """Bounds of e's value, but that it may be NaN."""
    if isinstance(e, Const):
        return float(e.value), float(e.value)
    if isinstance(e, Call) and e.fn in RANGES:
        return RANGES[e.fn]
    if isinstance(e, Call) and e.fn in ENDS:
        (a, b), (c, d) = (_limits(x) for x in e.args)
        ends = ENDS[e.fn](a, b, c, d)
        if not any(map(isnan, ends)):
            return min(ends), max(ends)
    return -inf, inf
