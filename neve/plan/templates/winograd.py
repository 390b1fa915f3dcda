"""Winograd convolution F(m x m, 3 x 3): when it applies, how many tiles a block, and its weights G g G'."""
from __future__ import annotations

import math
from functools import partial

import numpy as np

from neve.build.target import Target
from neve.plan.templates.choice import Choice
from neve.plan.templates.conv_spec import ASSUMED_SPATIAL, ConvSpec, align, guess, pack_panels, weight_seconds

PANEL_VECTORS = 2
EFFICIENCY = 0.93
# clock cycles to transform a vector of one tile: input, output
TRANSFORM_CYCLES = {2: (60.0, 50.0), 4: (190.0, 150.0)}
CYCLE_FLOPS = 4


def choices(spec: ConvSpec, target: Target) -> list[Choice]:
    """winograd.h with m = 2 and m = 4, if spec is a 3x3 convolution with stride 1 of enough channels."""
    fits = (spec.kernel == (3, 3) and spec.stride == (1, 1) and spec.dilation == (1, 1) and spec.groups == 1 and spec.strides[1] == 1
            and spec.channels >= target.vl and spec.out_channels >= target.vl)
    return [_choice(spec, target, m) for m in (2, 4)] if fits else []


def _choice(spec: ConvSpec, target: Target, m: int) -> Choice:
    points, vl = (m + 2) ** 2, target.vl
    mr = max(1, min(8, (target.registers - PANEL_VECTORS - 2) // PANEL_VECTORS))
    ic, oc = -(-spec.channels // vl) * vl, -(-spec.out_channels // vl) * vl
    tiles = max(1, guess(spec.batch, 1)) * math.prod(-(-guess(side, ASSUMED_SPATIAL) // m) for side in (spec.out_height, spec.out_width))
    weight_bytes = 4 * points * spec.channels * oc
    # the two matrices of a block may overflow the second cache level where reading the weights again would cost more
    room = target.l2 * (2 if weight_bytes > 2 * target.l2 else 1)
    block = max(2 * mr, room // (4 * points * (ic + oc)))
    block = -(-tiles // -(-tiles // block)) if isinstance(spec.batch, int) else min(block, max(tiles, 2 * mr))
    split = int(weight_bytes > 4 * points * tiles * ic and tiles < 8 * mr)
    blocks = -(-tiles // block)
    flops = 2.0 * points * tiles * spec.channels * oc
    into, out = TRANSFORM_CYCLES[m]
    transforms = tiles * (into * ic + out * oc) * CYCLE_FLOPS / target.flops
    cost = max(flops / (EFFICIENCY * target.flops), weight_seconds(weight_bytes, blocks, target)) + transforms
    private, shared = scratch(spec, target, m, block, bool(split))
    return Choice(
        header="winograd.h", label=f"winograd F({m},3) {mr}x{PANEL_VECTORS * vl}, blocks of {block} tiles",
        macros=(*spec.macros(), ("CONV_NV", PANEL_VECTORS), ("CONV_MR", mr), ("WINO_M", m), ("WINO_T", block), ("CONV_SPLIT_OC", split)),
        pack=partial(pack, m=m, panel=PANEL_VECTORS * vl, lanes=vl), scratch=private, shared=shared, cost=cost)


def scratch(spec: ConvSpec, target: Target, m: int, block: int, split: bool) -> tuple[int, int]:
    """Bytes (a thread, shared): a run of zeros and both matrices of a block; with `split` the threads share the inputs'."""
    ic, oc = (-(-c // target.vl) * target.vl for c in (spec.channels, spec.out_channels))
    inputs, products = (4 * (m + 2) ** 2 * (block * c + 16) for c in (ic, oc))
    return align(4 * (ic + 16) + products + (0 if split else inputs)), align(inputs) if split else 0


def kernel_transform(m: int) -> np.ndarray:
    """G, ((m + 2) x 3), in float64, for the points that winograd.h evaluates at."""
    if m == 2:
        return np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    a, b = math.sqrt(0.5), math.sqrt(2.0)
    rows = [[1.0, 0.0, 0.0]]
    rows += [[scale, scale * x, scale * x * x] for x, scale in ((a, -2 / 3), (-a, -2 / 3), (b, 1 / 6), (-b, 1 / 6))]
    return np.array([*rows, [0.0, 0.0, 1.0]])


def pack(weight: np.ndarray, m: int, panel: int, lanes: int) -> np.ndarray:
    """(OC, IC, 3, 3) as winograd.h reads it: for each point the column panels of G g G', computed in float64."""
    g = kernel_transform(m)
    points = np.einsum("ph,ochw,qw->pqco", g, weight.astype(np.float64), g, optimize=True).astype(np.float32)
    return np.concatenate([pack_panels(matrix, panel, lanes) for matrix in points.reshape(-1, *points.shape[2:])])
