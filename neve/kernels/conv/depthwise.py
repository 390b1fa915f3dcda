"""Depthwise convolution: the choice of its register tile, and its weights."""

from __future__ import annotations

from neve.build.target import Target
from neve.ir.loops import Tensor, cast
from neve.ir.packing import Packing
from neve.ir.types import DType
from neve.kernels.conv.spec import ASSUMED_SPATIAL, ConvSpec, guess
from neve.kernels.kernel import Choice, Pack
from neve.kernels.panels import Panels

WEIGHT_BYTES = 16 * 1024
UNITS = 12
CHAIN = 3.0
"""Below the latency of a multiply-add, as the next tile begins before this one ends."""
FOLDED = 1.1
"""A load that is part of a multiply-add, against one by itself."""
MOST_KEPT = 16
"""depthwise.h unrolls the loading of as many weights of a row."""
FIRST_LEVEL = 0.75
"""The share of the first cache level that a tile's inputs may take."""
MOST_INPUT_ROWS = 32
"""depthwise.h unrolls as many under a tile of several output rows."""


def choice(spec: ConvSpec, target: Target) -> Choice:
    """depthwise.h: groups == channels, channel stride 1, any multiplier."""
    return with_tile(spec, target, *min(tiles(spec, target), key=lambda t: _cycles(spec, target, *t)))


def with_tile(spec: ConvSpec, target: Target, rows: int, cols: int) -> Choice:
    """depthwise.h with a tile of so many output rows and columns; every tile gives the same bits."""
    vl, (kh, kw) = target.vl, spec.kernel
    vectors, chunk = -(-spec.out_channels // vl), _chunk(spec, target, rows)
    seconds = _cycles(spec, target, rows, cols) * vectors * guess(spec.batch, 1) * 4 * vl / target.flops
    size = 4 * spec.pixels() * spec.out_channels * (1 + spec.stride[0] * spec.stride[1])
    keep = int(_keeps(spec, target, rows, cols))
    return Choice(
        header="conv/depthwise.h",
        label=f"depthwise {kh}x{kw} {rows}x{cols}, chunks of {chunk} vectors",
        macros=(*spec.macros(), ("CONV_MR", rows), ("CONV_RW", cols), ("CONV_CB", chunk), ("CONV_KEEP", keep)),
        pack=Pack(pack, (vl,)),
        cost=max(seconds, size / target.bandwidth),
    )


def _chunk(spec: ConvSpec, target: Target, rows: int) -> int:
    """Channel vectors at a time: their weights stay in the first cache level, and there are enough chunks to share."""
    vl, (kh, kw) = target.vl, spec.kernel
    vectors = -(-spec.out_channels // vl)
    bands = guess(spec.batch, 1) * -(-guess(spec.out_height, ASSUMED_SPATIAL) // rows)
    chunk = max(4, WEIGHT_BYTES // (4 * vl * kh * kw))
    chunk = max(1, min(chunk, vectors, -(-vectors * bands // UNITS)))
    return -(-vectors // -(-vectors // chunk))


def tiles(spec: ConvSpec, target: Target) -> list[tuple[int, int]]:
    """Tiles (rows, columns) that leave registers for an input vector and some weights."""
    most = max(1, target.registers - 6)
    shapes = [(1, c) for c in (2, 3, 4, 5, 6, 7, 8, 9, 10)]
    for r in (2, 3, 4):
        if max(spec.kernel) <= 5 and _input_rows(spec, r) <= MOST_INPUT_ROWS:
            shapes += [(r, c) for c in (2, 3, 4, 5, 6, 7, 8) if r == 2 or _keeps(spec, target, r, c)]
    if spec.kernel[1] > 16:
        shapes = [(1, 4)]
    return [t for t in shapes if t[0] * t[1] <= most] or [(1, 1)]


def _input_rows(spec: ConvSpec, rows: int) -> int:
    return (rows - 1) * spec.stride[0] + (spec.kernel[0] - 1) * spec.dilation[0] + 1


def _keeps(spec: ConvSpec, target: Target, rows: int, cols: int) -> bool:
    """Whether there are registers for the weights that an input row meets, beside sums, an input and a spare one, and
    a mask of the border where that is no operand from memory.
    """
    (kh, kw), live = spec.kernel, (rows - 1) * spec.stride[0] // spec.dilation[0] + 1
    other = 2 if target.core.loads_operands else 3
    return kw <= MOST_KEPT and rows * cols + min(kh, live) * kw + other <= target.registers


def _cycles(spec: ConvSpec, target: Target, rows: int, cols: int) -> float:
    """Clock cycles of one image and one channel vector: multiply-adds and loads at the core's costs, but no sum faster
    than CHAIN cycles a term; and some for each tile, each store, each input in a tile at the border, and each input
    that comes from the second cache level: all but the columns that the tile to the left has read, if a tile's inputs
    fit the first. Weights are loaded once a tile if they stay in registers, else for each multiply-add.
    """
    (kh, kw), (sh, sw), core = spec.kernel, spec.stride, target.core
    height, width = guess(spec.out_height, ASSUMED_SPATIAL), guess(spec.out_width, ASSUMED_SPATIAL)
    across, total = -(-width // cols), 0.0
    for count, high in ((height // rows, rows), (height % rows, 1)):
        lines = (high - 1) * sh + kh
        inputs, fresh = lines * min((cols - 1) * sw + kw, cols * kw), lines * cols * min(sw, kw)
        if 4 * target.vl * inputs * _chunk(spec, target, rows) > FIRST_LEVEL * target.l1:
            fresh = inputs
        products = high * cols * kh * kw
        weights = kh * kw if _keeps(spec, target, high, cols) else products * (FOLDED if core.loads_operands else 1)
        # the kernel's rows are a loop under one output row
        start = 4 if high > 1 else 4 + 3 * kh
        loads = inputs + weights
        work = max(
            core.multiply * products, core.vector * loads, core.instruction * (products + loads), CHAIN * kh * kw
        )
        tile = work + start + 1.5 * high * cols + 0.5 * fresh
        total += count * (across * tile + min(across, 2) * 0.25 * inputs)
    return total


def pack(w: Tensor, lanes: int) -> Packing:
    """(OC, 1, KH, KW) as depthwise.h reads it: [oc / lanes][kh][kw][lanes], zero-filled."""
    channels, _, kh, kw = w.type.sizes
    panels = Panels.by_vectors(channels, lanes, lanes)
    p = Packing(panels.size(kh * kw), DType.float32)
    panels.put(p, [], (kh, kw), lambda at, c: cast(w(c, 0, *at), DType.float32))
    return p
