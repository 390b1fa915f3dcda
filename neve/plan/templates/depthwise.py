"""Depthwise convolution: the choice of its register tile, and its weights."""

from __future__ import annotations

from functools import partial

import numpy as np

from neve.build.target import Target
from neve.plan.templates.choice import Choice
from neve.plan.templates.conv_spec import ASSUMED_SPATIAL, ConvSpec, guess

WEIGHT_BYTES = 16 * 1024
UNITS = 12


def choice(spec: ConvSpec, target: Target) -> Choice:
    """depthwise.h: groups == channels, channel stride 1, any multiplier."""
    vl, (kh, kw) = target.vl, spec.kernel
    rows, cols = min(_tiles(spec, target), key=lambda t: _cycles(spec, *t))
    vectors = -(-spec.out_channels // vl)
    bands = guess(spec.batch, 1) * -(-guess(spec.out_height, ASSUMED_SPATIAL) // rows)
    # the weights of a chunk stay in the first cache level
    chunk = max(4, WEIGHT_BYTES // (4 * vl * kh * kw))
    chunk = max(1, min(chunk, vectors, -(-vectors * bands // UNITS)))
    chunk = -(-vectors // -(-vectors // chunk))
    seconds = _cycles(spec, rows, cols) * vectors * guess(spec.batch, 1) * 4 * vl / target.flops
    size = 4 * spec.pixels() * spec.out_channels * (1 + spec.stride[0] * spec.stride[1])
    return Choice(
        header="depthwise.h",
        label=f"depthwise {kh}x{kw} {rows}x{cols}, chunks of {chunk} vectors",
        macros=(*spec.macros(), ("CONV_MR", rows), ("CONV_RW", cols), ("CONV_CB", chunk)),
        pack=partial(pack, lanes=vl),
        cost=max(seconds, size / target.bandwidth),
    )


def _tiles(spec: ConvSpec, target: Target) -> list[tuple[int, int]]:
    """Tiles (rows, columns) that leave registers for an input vector and some weights."""
    most = max(1, target.registers - 6)
    shapes = [(1, c) for c in (2, 3, 4, 5, 6, 7, 8, 9, 10)]
    if max(spec.kernel) <= 5:
        shapes += [(2, c) for c in (2, 3, 4, 5)]
    if spec.kernel[1] > 16:
        shapes = [(1, 4)]
    return [t for t in shapes if t[0] * t[1] <= most] or [(1, 1)]


def _cycles(spec: ConvSpec, rows: int, cols: int) -> float:
    """Clock cycles of one image and one channel vector: two loads and two multiply-adds a cycle, and some for
    each tile, each store and each input that comes from the second cache level.
    """
    (kh, kw), (sh, sw) = spec.kernel, spec.stride
    height, width = guess(spec.out_height, ASSUMED_SPATIAL), guess(spec.out_width, ASSUMED_SPATIAL)
    total = 0.0
    for count, high in ((height // rows, rows), (height % rows, 1)):
        inputs = ((high - 1) * sh + kh) * min((cols - 1) * sw + kw, cols * kw)
        tile = (
            max(high * cols * kh * kw / 2, (inputs + high * cols * kh * kw / 2) / 2)
            + 4
            + 1.5 * high * cols
            + 0.5 * inputs
        )
        total += count * -(-width // cols) * tile
    return total


def pack(weight: np.ndarray, lanes: int) -> np.ndarray:
    """(OC, 1, KH, KW) as depthwise.h reads it: [oc / lanes][kh][kw][lanes], zero-filled."""
    channels = len(weight)
    flat = np.pad(weight.reshape(channels, -1), ((0, -channels % lanes), (0, 0)))
    return np.ascontiguousarray(flat.reshape(-1, lanes, flat.shape[1]).transpose(0, 2, 1), np.float32).reshape(-1)
