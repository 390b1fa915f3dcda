"""Winograd convolution F(m, r), also polyphase and along one dimension: where it applies, its blocks, its weights G g G'."""
from __future__ import annotations

import math
from functools import partial

import numpy as np

from neve.build.target import Target
from neve.plan.templates.choice import Choice
from neve.plan.templates.conv_spec import ASSUMED_SPATIAL, ConvSpec, align, guess, pack_panels, weight_seconds

PANEL_VECTORS = 2
EFFICIENCY = 0.93
FLOPS_PER_CYCLE_AND_LANE = 4
# clock cycles to load, transform and store one point of a vector of channels: input, output
TRANSFORM_CYCLES = (4.5, 4.0)
# tiles that a thread should at least have before the threads share the output channels instead
FEW_TILES = 48


def choices(spec: ConvSpec, target: Target) -> list[Choice]:
    """The forms of winograd.h that fit spec: 3x3 or 1x3 with stride 1 and channels enough, or a stem with stride 2 from planar input."""
    if spec.groups != 1 or spec.dilation != (1, 1) or spec.out_channels < target.vl:
        return []
    if spec.strides[1] == 1:
        fits = spec.kernel in ((3, 3), (1, 3)) and spec.stride[1] == 1 and spec.stride[0] in (1, spec.kernel[0]) and spec.channels >= target.vl
        return [_choice(spec, target, n) for n in (4, 6)] if fits else []
    fits = spec.kernel in ((7, 7), (5, 5)) and spec.stride == (2, 2) and spec.channels <= 4
    return [_choice(spec, target, 6)] if fits else []


def _choice(spec: ConvSpec, target: Target, n: int) -> Choice:
    vl, planar = target.vl, spec.strides[1] != 1
    mr = max(1, min(8, (target.registers - PANEL_VECTORS - 2) // PANEL_VECTORS))
    m, points, depth = _outputs(spec, n), _points(spec, n), _phases(spec) * spec.channels
    ic, oc = _up(depth, vl), _up(spec.out_channels, vl)
    down = guess(spec.out_height, ASSUMED_SPATIAL) if spec.kernel[0] == 1 else -(-guess(spec.out_height, ASSUMED_SPATIAL) // m)
    tiles = max(1, guess(spec.batch, 1)) * down * -(-guess(spec.out_width, ASSUMED_SPATIAL) // m)
    weight_bytes = 4 * points * depth * oc
    # the two matrices of a block may overflow the second cache level where reading the weights again would cost more
    room = target.l2 * (2 if weight_bytes > 2 * target.l2 else 1)
    block = max(2 * mr, room // (4 * points * (ic + oc)))
    block = min(block, 192)
    block = -(-tiles // -(-tiles // block)) if isinstance(spec.batch, int) else min(block, max(tiles, 2 * mr))
    split = int(weight_bytes > 4 * points * tiles * ic and tiles < FEW_TILES and not planar)
    flops = 2.0 * points * tiles * depth * oc
    transforms = points * tiles * (TRANSFORM_CYCLES[0] * ic + TRANSFORM_CYCLES[1] * oc) * FLOPS_PER_CYCLE_AND_LANE / target.flops
    cost = max(flops / (EFFICIENCY * target.flops), weight_seconds(weight_bytes, -(-tiles // block), target)) + transforms
    private, shared = scratch(spec, target, n, block, bool(split))
    return Choice(
        header="winograd.h", label=f"winograd F({m},{n + 1 - m}) {mr}x{PANEL_VECTORS * vl}, blocks of {block} tiles",
        macros=(*spec.macros(), ("CONV_NV", PANEL_VECTORS), ("CONV_MR", mr), ("WINO_N", n), ("WINO_M", m), ("WINO_T", block),
                ("WINO_PLANAR", int(planar)), ("CONV_SPLIT_OC", split)),
        pack=partial(pack, stride=spec.stride, n=n, panel=PANEL_VECTORS * vl, lanes=vl), scratch=private, shared=shared, cost=cost)


def _up(size: int, lanes: int) -> int:
    return -(-size // lanes) * lanes


def _outputs(spec: ConvSpec, n: int) -> int:
    return n + 1 - -(-spec.kernel[1] // spec.stride[1])


def _points(spec: ConvSpec, n: int) -> int:
    return n if spec.kernel[0] == 1 else n * n


def _phases(spec: ConvSpec) -> int:
    return spec.stride[1] * (1 if spec.kernel[0] == 1 else spec.stride[0])


def scratch(spec: ConvSpec, target: Target, n: int, block: int, split: bool) -> tuple[int, int]:
    """Bytes (a thread, shared): zeros or a band of gathered input, and both matrices of a block; with `split` the inputs' is shared."""
    points, m = _points(spec, n), _outputs(spec, n)
    ic, oc = _up(_phases(spec) * spec.channels, target.vl), _up(spec.out_channels, target.vl)
    zeros = _up(spec.channels, target.vl) if spec.strides[1] == 1 else points // n * (block * m + n - m) * ic
    inputs, products = (4 * points * (block * c + 16) for c in (ic, oc))
    return align(4 * (zeros + 16) + products + (0 if split else inputs)), align(inputs) if split else 0


def kernel_transform(n: int, taps: int) -> np.ndarray:
    """G, (n x taps), in float64, for the n points that winograd.h evaluates at, the last of them infinity."""
    a, b = math.sqrt(0.5), math.sqrt(2.0)
    points = {4: ((0.0, 1.0), (1.0, 0.5), (-1.0, 0.5)),
              6: ((0.0, 1.0), (a, -2 / 3), (-a, -2 / 3), (b, 1 / 6), (-b, 1 / 6))}[n]
    finite = [[scale * x ** power for power in range(taps)] for x, scale in points]
    return np.array([*finite, [0.0] * (taps - 1) + [1.0]])


def pack(weight: np.ndarray, stride: tuple[int, int], n: int, panel: int, lanes: int) -> np.ndarray:
    """(OC, IC, KH, KW) as winograd.h reads it: for each point the column panels of G g G' of every phase, computed in float64."""
    oc, ic, kh, kw = weight.shape
    down, across = 1 if kh == 1 else stride[0], stride[1]
    tall, wide = -(-kh // down), -(-kw // across)
    padded = np.pad(weight.astype(np.float64), ((0, 0), (0, 0), (0, tall * down - kh), (0, wide * across - kw)))
    phases = padded.reshape(oc, ic, tall, down, wide, across)
    vertical = np.ones((1, 1)) if kh == 1 else kernel_transform(n, tall)
    points = np.einsum("pr,ocratb,qt->pqabco", vertical, phases, kernel_transform(n, wide), optimize=True).astype(np.float32)
    return np.concatenate([pack_panels(matrix, panel, lanes) for matrix in points.reshape(-1, down * across * ic, oc)])
