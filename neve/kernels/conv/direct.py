"""Choice of a convolution kernel: direct over row pointers, direct from planar input, Winograd, or depthwise."""

from __future__ import annotations

import math
from collections.abc import Sequence

from neve.build.target import Target
from neve.ir.index import Index
from neve.ir.loops import Expr, Tensor, cast
from neve.ir.packing import Packing
from neve.ir.types import DType
from neve.kernels.conv import depthwise, winograd
from neve.kernels.conv.spec import PANEL_VECTORS, ConvSpec, align, guess, tile_rows, weight_seconds
from neve.kernels.kernel import Choice, Pack
from neve.kernels.panels import Panels

__all__ = [
    "ConvSpec",
    "candidates",
    "direct",
    "direct_scratch",
    "pack_direct",
    "pack_planar",
    "planar",
    "planar_scratch",
]

DIRECT_EFFICIENCY = 0.93
# its weights are 1.8 to 16 times as large and its rounding errors two to four times: a small gain is none
WINOGRAD_HANDICAP = 1.1
POINTER = 8
PLANAR_BYTES = 192 * 1024


def candidates(spec: ConvSpec, target: Target) -> list[Choice]:
    """Ways to run spec on target, the fastest by the cost model first; none if the input must be transposed before."""
    if spec.depthwise:
        choices = [depthwise.choice(spec, target)] if spec.strides[1] == 1 else []
    elif spec.strides[1] == 1:
        choices = [direct(spec, target), *winograd.choices(spec, target)]
    else:
        choices = [planar(spec, target), *winograd.choices(spec, target)] if spec.groups == 1 else []
    return sorted(choices, key=lambda c: c.cost * (WINOGRAD_HANDICAP if c.header == winograd.HEADER else 1.0))


# --- direct, channels-last -------------------------------------------------------------------------------------------


def direct(spec: ConvSpec, target: Target) -> Choice:
    """conv.h: channel stride 1, anything else."""
    rows = int(
        spec.groups == 1
        and spec.dilation[1] == 1
        and spec.channels < 64
        and spec.strides[3] == spec.channels
        and spec.kernel[1] > 1
    )
    vl, mr = target.vl, tile_rows(target)
    depth, columns = spec.depth, spec.out_channels // spec.groups
    pixels = spec.pixels()
    weight_bytes = spec.weight_type.size * depth * spec.out_channels
    # a block's input and the panel that is passing over it share the second cache level; large weights want few blocks
    per_pixel = 4 * spec.channels * min(spec.stride[0], spec.kernel[0]) * min(spec.stride[1], spec.kernel[1])
    capacity = target.l2 * (3 if weight_bytes > target.l2 else 2) // 4
    block = max(4 * mr, min(192, capacity // max(1, per_pixel)))
    if pixels < block * 2:
        block = max(pixels, mr)
    split = int(weight_bytes > 4 * pixels * spec.channels * spec.stride[0] * spec.stride[1])
    lanes = -(-columns // vl) * vl
    flops = 2.0 * pixels * depth * lanes * spec.groups
    blocks = -(-pixels // block)
    cost = max(flops / (DIRECT_EFFICIENCY * target.flops), weight_seconds(weight_bytes, blocks, target)) + pixels * 4e-9
    return Choice(
        header="conv/conv.h",
        label=f"direct {spec.kernel[0]}x{spec.kernel[1]} {mr}x{PANEL_VECTORS * vl}, blocks of {block}",
        macros=(
            *spec.macros(),
            ("CONV_NV", PANEL_VECTORS),
            ("CONV_MR", mr),
            ("CONV_MB", block),
            ("CONV_ROWS", rows),
            ("CONV_SPLIT_OC", split),
        ),
        pack=Pack(pack_direct, (spec.groups, PANEL_VECTORS * vl, vl, spec.weight_type)),
        scratch=direct_scratch(spec, block, bool(rows)) + widened_panel(spec, target),
        cost=cost,
    )


def direct_scratch(spec: ConvSpec, block: int, rows: bool) -> int:
    """Bytes: zeros for a tap in the padding, a block's pointers, and with `rows` copies of rows cut by the padding."""
    taps = spec.kernel[0] * (1 if rows else spec.kernel[1])
    run = spec.channels * spec.kernel[1] if rows else spec.channels
    return align(4 * run) + align(block * taps * POINTER) + (align(4 * block * spec.kernel[0] * run) if rows else 0)


def widened_panel(spec: ConvSpec, target: Target) -> int:
    """Bytes of a panel of halves as floats."""
    return 0 if spec.weight_type is DType.float32 else 4 * spec.depth * PANEL_VECTORS * target.vl


def pack_direct(w: Tensor, groups: int, width: int, lanes: int, dtype: DType) -> Packing:
    """(OC, IC/groups, KH, KW) as conv.h reads it: per group column panels of [kh][kw][ic]."""
    oc, ic, kh, kw = w.type.sizes
    panels = Panels.by_vectors(oc // groups, width, lanes)
    size = panels.size(ic * kh * kw)
    p = Packing(groups * size, dtype)

    def element(at: Sequence[Index], column: Index) -> Expr:
        g, i, j, c = at
        return cast(w(g * panels.columns + column, c, i, j), dtype)

    panels.put(p, [(groups, size)], (kh, kw, ic), element)
    return p


# --- direct, any strides, few channels -------------------------------------------------------------------------------


def planar(spec: ConvSpec, target: Target) -> Choice:
    """conv_planar.h: groups 1, any strides."""
    vl, mr = target.vl, tile_rows(target)
    (kh, kw), (sh, sw), (dh, dw) = spec.kernel, spec.stride, spec.dilation
    sizes = (spec.height, spec.width, spec.out_height, spec.out_width)
    inplace = 0
    if spec.padding == (0, 0) and spec.strides[3] == 1 and all(isinstance(size, int) for size in sizes):
        h, w, oh, ow = (guess(size, 0) for size in sizes)
        inplace = int((oh - 1) * sh + (kh - 1) * dh < h and (ow - 1) * sw + (kw - 1) * dw < w)
    out_height, out_width = guess(spec.out_height, 1 << 30), guess(spec.out_width, 1 << 30)
    width = min(out_width, 128)
    if out_width > 128 and out_width < 1 << 30:
        width = -(-out_width // -(-out_width // 128))
    # all the panels pass over a block while its input stays in the second cache level
    resident = target.l2 // 2 // (4 * spec.channels * sh * guess(spec.width, 1)) if inplace else 192 // width
    height = min(out_height, max(1, resident))
    if inplace:
        height = -(-out_height // -(-out_height // height))
    while not inplace and planar_scratch(spec, height, width, False) > PLANAR_BYTES and (height > 1 or width > mr):
        height, width = (height // 2, width) if height > 1 else (height, -(-width // 2))
    flops = 2.0 * spec.pixels() * spec.depth * (-(-spec.out_channels // vl) * vl)
    return Choice(
        header="conv/conv_planar.h",
        label=f"direct planar {kh}x{kw} {mr}x{PANEL_VECTORS * vl}, blocks of {height}x{width}",
        macros=(
            *spec.macros(),
            ("CONV_NV", PANEL_VECTORS),
            ("CONV_MR", mr),
            ("CONV_RB", height),
            ("CONV_WB", width),
            ("CONV_INPLACE", inplace),
        ),
        pack=Pack(pack_planar, (PANEL_VECTORS * vl, vl, spec.weight_type)),
        scratch=planar_scratch(spec, height, width, bool(inplace)) + widened_panel(spec, target),
        cost=flops / (DIRECT_EFFICIENCY * target.flops),
    )


def planar_scratch(spec: ConvSpec, height: int, width: int, inplace: bool) -> int:
    """Bytes: one offset for each term of the sum, and the padded input under height x width output pixels."""
    rows = (height - 1) * spec.stride[0] + (spec.kernel[0] - 1) * spec.dilation[0] + 1
    cols = (width - 1) * spec.stride[1] + (spec.kernel[1] - 1) * spec.dilation[1] + 1
    return align(8 * spec.depth) + (0 if inplace else align(4 * spec.channels * rows * cols))


def pack_planar(w: Tensor, width: int, lanes: int, dtype: DType) -> Packing:
    """(OC, IC, KH, KW) as conv_planar.h reads it: column panels of [ic][kh][kw]."""
    oc, *terms = w.type.sizes
    panels = Panels.by_vectors(oc, width, lanes)
    p = Packing(panels.size(math.prod(terms)), dtype)
    panels.put(p, [], terms, lambda at, column: cast(w(column, *at), dtype))
    return p
