"""Recurrent layers: the panels of W_hh for recurrent.h, their packing, scratch and cost.

A panel holds all the gates of a few units, so that a unit's step is finished in registers: (panel, k, gate, vector,
lane).
"""

from __future__ import annotations

from dataclasses import dataclass

from neve.build.target import Target
from neve.ir.loops import Tensor, cast
from neve.ir.packing import Packing, dense, zero
from neve.ir.types import DType
from neve.kernels.kernel import STORED, Choice, Macro, Pack, Size

KINDS = {"tanh": 0, "relu": 1, "gru": 2, "lstm": 3}
GATES = {"tanh": 1, "relu": 1, "gru": 3, "lstm": 4}
VECTORS = {"tanh": 4, "relu": 4, "gru": 2, "lstm": 1}
"""Vectors of a gate in a panel: two panels' sums fit the registers, and are enough chains to hide the latency."""


@dataclass(frozen=True)
class RecurrentSpec:
    """One layer in one direction: kind "tanh", "relu", "gru" or "lstm", with PyTorch's gate order and formulas.

    Operands p[0] = x W_ihᵀ + b_ih (steps, batch, gates · hidden), p[1] = packed W_hh, p[2] = b_hh if bias, p[3] = h0
    and p[4] = c0 if initial, p[5], p[6] = final states if final. x_step, x_batch are element strides of p[0],
    state_batch of the states (None: hidden). batch_bound bounds a symbolic batch: shared memory is sized for it.
    weight_type is what W_hh is stored as. Raises ValueError for an unknown kind or a missing bound.
    """

    kind: str
    steps: Size
    batch: Size
    hidden: int
    x_step: Size
    x_batch: Size
    bias: bool = True
    initial: bool = True
    final: bool = True
    reverse: bool = False
    state_batch: Size | None = None
    batch_bound: int = 0
    steps_bound: int = 0
    weight_type: DType = DType.float32

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no recurrent cell {self.kind!r}; there are {', '.join(KINDS)}")
        if not isinstance(self.batch, int) and not self.batch_bound:
            raise ValueError("a symbolic batch needs batch_bound")


def pack_recurrent(w: Tensor, kind: str, vl: int, dtype: DType = DType.float32) -> Packing:
    """weight_hh (gates · H, H) as recurrent.h reads it: [panel][k][gate][unit], missing units being 0."""
    hidden, width, gates = w.type.sizes[1], VECTORS[kind] * vl, GATES[kind]
    full, left = divmod(hidden, width)
    p = Packing(-(-hidden // width) * gates * width * hidden, dtype)
    step = hidden * gates * width
    inner = dense((hidden, gates), width)
    p.put(
        0,
        [(full, step), *inner, (width, 1)],
        lambda i, k, g, u: cast(w(g * hidden + i * width + u, k), dtype),
    )
    if left:
        p.put(full * step, [*inner, (left, 1)], lambda k, g, u: cast(w(g * hidden + full * width + u, k), dtype))
        p.put(full * step + left, [*inner, (width - left, 1)], lambda *i: zero(dtype))
    return p


def candidates(spec: RecurrentSpec, target: Target) -> list[Choice]:
    """The one choice for spec, at the cost of W_hh's bandwidth a step (L2 while it fits) or many rows' flops."""
    gates, vectors = GATES[spec.kind], VECTORS[spec.kind]
    width = vectors * target.vl
    padded = -(-spec.hidden // width) * width
    batch = spec.batch if isinstance(spec.batch, int) else spec.batch_bound
    steps = spec.steps if isinstance(spec.steps, int) else spec.steps_bound or 1
    macros: tuple[tuple[str, Macro], ...] = (
        ("RNN_KIND", KINDS[spec.kind]),
        ("RNN_T", spec.steps),
        ("RNN_B", spec.batch),
        ("RNN_H", spec.hidden),
        ("RNN_XT", spec.x_step),
        ("RNN_XB", spec.x_batch),
        ("RNN_SB", spec.hidden if spec.state_batch is None else spec.state_batch),
        ("RNN_BIAS", int(spec.bias)),
        ("RNN_INIT", int(spec.initial)),
        ("RNN_FINAL", int(spec.final)),
        ("RNN_REVERSE", int(spec.reverse)),
        ("RNN_NV", vectors),
        ("RNN_TYPE", STORED.index(spec.weight_type)),
    )
    weights = float(spec.weight_type.size) * gates * padded * spec.hidden
    bandwidth = target.bandwidth * (1.5 if weights > target.l2 * 0.8 else 1.9)
    step = (
        max(weights / bandwidth, 2.0 * batch * gates * padded * spec.hidden / (0.8 * target.flops))
        + 3e-10 * (gates + 1) * batch * padded * 8 / target.vl
    )
    kind = spec.kind
    return [
        Choice(
            "recurrent/recurrent.h",
            f"{kind}, panels of {width} units",
            macros,
            Pack(pack_recurrent, (kind, target.vl, spec.weight_type)),
            0,
            4 * (3 if kind == "lstm" else 2) * batch * padded,
            steps * step,
        )
    ]
