"""Winograd convolution F(m, r), also polyphase and along one dimension: where it applies, its blocks, its weights."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from neve.build.target import Target
from neve.ir.index import Index
from neve.ir.loops import Expr, Tensor, call, cast, const
from neve.ir.packing import Packing, zero
from neve.ir.types import DType
from neve.kernels.conv.spec import ASSUMED_SPATIAL, MEMORY_BANDWIDTH, PANEL_VECTORS, ConvSpec, align, guess, tile_rows
from neve.kernels.kernel import Choice, Matrix, Pack
from neve.kernels.panels import Panels

HEADER = "conv/winograd.h"
FLOPS_PER_CYCLE_AND_LANE = 4
# clock cycles to load, transform and store one point of a vector of channels: input, output
TRANSFORM_CYCLES = (4.5, 4.0)
# clock cycles to begin and store a register tile
TILE_CYCLES = 24
# bytes that pass between the second and the third cache level for each byte that a block has too much
OVERFLOW = 2.5
# share of the second cache level that a block's matrices may take
ROOM = 0.8
# tiles that all the threads together should have at least, before they share the output channels instead
FEW_TILES = 48


@dataclass(frozen=True)
class _Blocks:
    """What the matrix products of a layer cost, as a function of the tiles in a block."""

    tiles: int
    points: int
    depth: int
    ic: int
    oc: int
    rows: int
    target: Target

    def seconds(self, block: int) -> float:
        """Products and weights overlap; the first block has its weights from memory, the others from cache."""
        blocks = -(-self.tiles // block)
        each = self.tiles / blocks
        heights = -(-each // self.rows)
        panels = self.oc / (PANEL_VECTORS * self.target.vl)
        # below five rows the latency of the multiply-adds shows
        cycles = (
            self.points * panels * heights * (self.depth * max(each / heights, 4.4) * PANEL_VECTORS / 2 + TILE_CYCLES)
        )
        compute = cycles * FLOPS_PER_CYCLE_AND_LANE * self.target.vl / self.target.flops
        weights = 4 * self.points * self.depth * self.oc
        matrices = 4 * self.points * each * (self.ic + self.oc)
        overflow = OVERFLOW * max(0.0, matrices - ROOM * self.target.l2) / self.target.bandwidth
        return (
            max(compute, weights / min(MEMORY_BANDWIDTH, self.target.bandwidth))
            + (blocks - 1) * max(compute, weights / self.target.bandwidth)
            + blocks * overflow
        )


def choices(spec: ConvSpec, target: Target) -> list[Choice]:
    """The forms of winograd.h that fit spec: kernels k x k or 1 x k, stride 1 or 2, channels enough."""
    (kh, kw), (sh, sw) = spec.kernel, spec.stride
    if spec.groups != 1 or spec.dilation != (1, 1) or spec.out_channels < target.vl or sw > 2:
        return []
    if kh != 1 and (kh != kw or sh != sw):
        return []
    if spec.strides[1] == 1:
        if spec.channels < target.vl or (sw == 2 and spec.channels % target.vl):
            return []
    elif spec.channels * _phases(spec) < 4:
        return []
    taps = -(-kw // sw)
    return [_choice(spec, target, n) for n in (4, 6) if taps >= 2 and n + 1 - taps >= 2]


def _choice(spec: ConvSpec, target: Target, n: int) -> Choice:
    vl, mr, planar = target.vl, tile_rows(target), spec.strides[1] != 1
    m, points, depth = _outputs(spec, n), _points(spec, n), _phases(spec) * spec.channels
    ic, oc = _up(depth, vl), _up(spec.out_channels, vl)
    down = (
        guess(spec.out_height, ASSUMED_SPATIAL)
        if spec.kernel[0] == 1
        else -(-guess(spec.out_height, ASSUMED_SPATIAL) // m)
    )
    tiles = max(1, guess(spec.batch, 1)) * down * -(-guess(spec.out_width, ASSUMED_SPATIAL) // m)
    weight_bytes = 4 * points * depth * oc
    layout = _Blocks(tiles, points, depth, ic, oc, mr, target)
    # a block of planar input gathers within one row of tiles
    line = -(-guess(spec.out_width, ASSUMED_SPATIAL) // m) if planar else tiles
    block = min((-(-line // blocks) for blocks in range(1, max(2, line // (2 * mr) + 1))), key=layout.seconds)
    split = int(weight_bytes > 4 * points * tiles * ic and tiles < FEW_TILES and not planar)
    transforms = (
        points * tiles * (TRANSFORM_CYCLES[0] * ic + TRANSFORM_CYCLES[1] * oc) * FLOPS_PER_CYCLE_AND_LANE / target.flops
    )
    cost = layout.seconds(block) + transforms
    private, shared = scratch(spec, target, n, block, bool(split))
    return Choice(
        header=HEADER,
        label=f"winograd F({m},{n + 1 - m}) {mr}x{PANEL_VECTORS * vl}, blocks of {block} tiles",
        macros=(
            *spec.macros(),
            ("CONV_NV", PANEL_VECTORS),
            ("CONV_MR", mr),
            ("WINO_N", n),
            ("WINO_M", m),
            ("WINO_T", block),
            ("WINO_PLANAR", int(planar)),
            ("WINO_INVERSE", _rows(np.linalg.pinv(kernel_transform(n, n + 1 - m)))),
            ("CONV_SPLIT_OC", split),
        ),
        pack=Pack(pack, (spec.stride, n, PANEL_VECTORS * vl, vl)),
        scratch=private,
        shared=shared,
        cost=cost,
    )


def _rows(matrix: np.ndarray) -> Matrix:
    return tuple(tuple(float(x) for x in row) for row in matrix.astype(np.float32))


def _up(size: int, lanes: int) -> int:
    return -(-size // lanes) * lanes


def _outputs(spec: ConvSpec, n: int) -> int:
    return n + 1 - -(-spec.kernel[1] // spec.stride[1])


def _points(spec: ConvSpec, n: int) -> int:
    return n if spec.kernel[0] == 1 else n * n


def _phases(spec: ConvSpec) -> int:
    return spec.stride[1] * (1 if spec.kernel[0] == 1 else spec.stride[0])


def scratch(spec: ConvSpec, target: Target, n: int, block: int, split: bool) -> tuple[int, int]:
    """Bytes (a thread, shared): zeros or a gathered band, and a block's matrices; the inputs' is shared if `split`.

    Behind the inputs there is a float a tile, for winograd.h to remember whether all of them were finite.
    """
    points, m = _points(spec, n), _outputs(spec, n)
    ic, oc = _up(_phases(spec) * spec.channels, target.vl), _up(spec.out_channels, target.vl)
    zeros = _up(spec.channels, target.vl) if spec.strides[1] == 1 else points // n * (block * m + n - m) * ic
    inputs, products = (4 * points * (block * c + 16) for c in (ic, oc))
    inputs += 4 * block
    return align(4 * (zeros + 16) + products + (0 if split else inputs)), align(inputs) if split else 0


def kernel_transform(n: int, taps: int) -> np.ndarray:
    """G, (n x taps), in float64, for the n points that winograd.h evaluates at, the last of them infinity."""
    a, b = math.sqrt(0.5), math.sqrt(2.0)
    points = {
        4: ((0.0, 1.0), (1.0, 0.5), (-1.0, 0.5)),
        6: ((0.0, 1.0), (a, -2 / 3), (-a, -2 / 3), (b, 1 / 6), (-b, 1 / 6)),
    }[n]
    finite = [[scale * x**power for power in range(taps)] for x, scale in points]
    return np.array([*finite, [0.0] * (taps - 1) + [1.0]])


def pack(w: Tensor, stride: tuple[int, int], n: int, width: int, lanes: int) -> Packing:
    """(OC, IC, KH, KW) as winograd.h reads it: for each point panels of G g G' of all phases, computed in float64."""
    oc, ic, kh, kw = w.type.sizes
    down, across = 1 if kh == 1 else stride[0], stride[1]
    vertical = np.ones((1, 1)) if kh == 1 else kernel_transform(n, -(-kh // down))
    terms = _Terms(w, vertical, kernel_transform(n, -(-kw // across)), down, across)
    panels = Panels.by_vectors(oc, width, lanes)
    depth, size, left = down * across * ic, panels.size(down * across * ic), oc - panels.full * width
    p = Packing(len(vertical) * n * size, DType.float32)
    terms.put(p, 0, panels.full, width, 0, width, size)
    begin = panels.full * width * depth
    terms.put(p, panels.full * width, min(left, 1), left, begin, panels.last, size)
    p.put(
        begin + left,
        [(len(vertical) * n, size), (depth, panels.last), (panels.last - left, 1)],
        lambda *i: zero(DType.float32),
    )
    return p


@dataclass(frozen=True, eq=False)
class _Terms:
    """The transform of w: vertical and horizontal are G along its rows and columns, of every down-th and across-th tap.

    One input channel and panel at a time, whose taps, and sums of columns of taps, lie side by side in cache.
    """

    w: Tensor
    vertical: np.ndarray
    horizontal: np.ndarray
    down: int
    across: int

    def put(self, p: Packing, first: int, panels: int, used: int, offset: int, width: int, size: int) -> None:
        """Panels of `used` columns from output channel `first` on, in panels `width` wide, the first at offset; size
        elements lie between points.
        """
        if not panels:
            return
        _, ic, kh, kw = self.w.type.sizes
        rows, shape = p.rows(2), (panels, ic, used)

        def tap(r: int, s: int) -> Tensor:
            return rows.between(shape, DType.float32, lambda i, c, o: self.w(first + i * used + o, c, r, s))

        taps = [[tap(r, s) for s in range(kw)] for r in range(kh)]
        steps = (self.down * self.across * ic * width, width, 1)
        for (k, row), a in itertools.product(enumerate(self.vertical), range(self.down)):
            sums = [rows.between(shape, DType.float64, _sum(row, [t[s] for t in taps[a :: self.down]]))
                    for s in range(kw)]  # fmt: skip
            for (m, column), b in itertools.product(enumerate(self.horizontal), range(self.across)):
                at = (k * len(self.horizontal) + m) * size + (a * self.across + b) * ic * width
                total = _sum(column, sums[b :: self.across])
                rows.fill(p.array, offset + at, list(zip(shape, steps, strict=True)),
                          lambda *i, total=total: cast(total(*i), DType.float32))  # fmt: skip


def _sum(factors: np.ndarray, terms: Sequence[Tensor]) -> Callable[..., Expr]:
    """Σ factors · terms in float64, without what counts nothing; the last terms may be missing."""

    def element(*i: Index) -> Expr:
        scaled = [(float(x), cast(t(*i), DType.float64)) for x, t in zip(factors, terms, strict=False) if x]
        products = [t if x == 1.0 else call("mul", t, const(x, DType.float64)) for x, t in scaled]
        return functools.reduce(lambda a, b: call("add", a, b), products) if products else zero(DType.float64)

    return element
