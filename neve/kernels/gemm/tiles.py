"""Matrix products: the choice of tiles and blocks for gemm.h, and the packing of constant weights.

The analysis counts, for a tile of r rows by v vectors, the cycles of one term as the largest of its multiply-adds, its
loads, its instructions and the latency of one chain, at the costs of the target's core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from neve.build.target import Target
from neve.ir.index import Index
from neve.ir.loops import Expr, Tensor
from neve.ir.packing import Packing
from neve.ir.types import DType
from neve.kernels.kernel import STORED, Choice, Macro, Offset, Pack, Size
from neve.kernels.panels import Panels
from neve.kernels.terms import rows_that_fit, term_cycles

HALVED = 16
"""Lanes of a vector that vec.h can take the half of."""
MAX_ROWS = 12
"""gemm_tiles.h compiles tiles of up to as many rows."""
TILE_OVERHEAD = 30.0
"""Cycles of a tile beyond its terms: the call, clearing, the stores of the sums."""
WIDENED_FROM = 25
"""Rows of A from which on a panel of halves is widened once for all tiles."""
LONGEST_TERMS = 2048
"""A run-time B is packed as many terms at a time at most."""


@dataclass(frozen=True)
class GemmSpec:
    """C[b, m, n] = Σ_k A[b, m, k] · B[b, k, n].

    lda and ldk are the elements between rows of A and between successive k of a row (lda=None: k). a_batch is the
    elements between batches of A, or an expression in the variable b. If b_packed, B is a weight handed to
    `Choice.pack` as (n, k) (b_layout "nk", as torch's linear) or (k, n) ("kn"), with a leading batch axis if b_batched;
    n and k must be literal. Otherwise B is a run-time matrix with ldb elements between successive k, ldn between
    successive n (ldb=None: n), b_batch as a_batch. If scaled, each term k of a packed B is multiplied by a run-time
    factor s[k]. b_type is what a packed B is stored as: float32, or a type of halves; dtype what A, the sums and
    any other B are: float32, or float64, and then a packed B too. Raises ValueError for a packed B whose n or k is
    symbolic, and for one that is scaled or of halves, but not packed, or of another type than A in float64.
    """

    m: Size
    n: Size
    k: Size
    batch: Size = 1
    lda: Size | None = None
    ldk: Size = 1
    a_batch: Size = 0
    b_packed: bool = True
    b_layout: Literal["nk", "kn"] = "nk"
    b_batched: bool = False
    ldb: Size | None = None
    ldn: Size = 1
    b_batch: Size = 0
    scaled: bool = False
    b_type: DType = DType.float32
    dtype: DType = DType.float32

    def __post_init__(self) -> None:
        if self.scaled and not self.b_packed:
            raise ValueError("only packed weights can be scaled")
        if self.b_type.size < 4 and not self.b_packed:
            raise ValueError(f"only packed weights can be {self.b_type}")
        if DType.float64 in (self.dtype, self.b_type) and self.b_packed and self.dtype is not self.b_type:
            raise ValueError(f"a packed weight of {self.b_type} in a product of {self.dtype}")
        if self.b_packed and not (isinstance(self.n, int) and isinstance(self.k, int)):
            raise ValueError(f"a packed weight needs literal sizes, not n={self.n}, k={self.k}")

    @property
    def widened(self) -> bool:
        """Whether packed halves become float32 panel by panel; in products of few rows the tiles widen them."""
        return self.b_type.size < 4 and not (isinstance(self.m, int) and self.m < WIDENED_FROM)

    def lanes(self, target: Target) -> int:
        """Columns of a vector."""
        return target.vl * DType.float32.size // self.dtype.size

    @property
    def copied(self) -> bool:
        """Whether the tiles read B in scratch."""
        return not self.b_packed or self.scaled or self.widened

    @property
    def columns(self) -> int:
        """n, where it is known."""
        assert isinstance(self.n, int)
        return self.n

    @property
    def terms(self) -> int:
        """k, where it is known."""
        assert isinstance(self.k, int)
        return self.k


@dataclass(frozen=True)
class Tiles:
    """Vectors of a panel and of the last panel, and the most rows of their tiles; half: half of the last vector."""

    nv: int
    last: int
    mr: int
    mr_last: int
    half: bool = False

    def last_columns(self, vl: int) -> int:
        """Columns of the last panel."""
        return self.last * vl - (vl // 2 if self.half else 0)


def ceil_div(a: int, b: int) -> int:
    """The quotient rounded up."""
    return -(-a // b)


def cut(rows: int, most: int) -> dict[int, int]:
    """How gemm.h cuts a block of rows into tiles: {rows of a tile: number of them}."""
    count = ceil_div(rows, most)
    base, more = divmod(rows, count)
    return {r: c for r, c in ((base, count - more), (base + 1, more)) if c}


def blocks(m: int, mb: int, mr: int) -> dict[int, int]:
    """How gemm.h cuts all rows into blocks: {rows of a block: number of them}."""
    even = ceil_div(ceil_div(m, ceil_div(m, mb)), mr) * mr
    used = ceil_div(m, even)
    rest = m - (used - 1) * even
    return {even: used} if rest == even else {r: c for r, c in ((even, used - 1), (rest, 1)) if c}


def row_set(spec: GemmSpec, mb: int, mr: int, unit: int) -> int:
    """The bits of GEMM_ROWS for tiles of at most mr rows; blocks are multiples of `unit` rows."""
    if not isinstance(spec.m, int):
        return sum(1 << r for r in range(1, mr + 1))
    return sum(1 << r for r in {r for b in blocks(max(spec.m, 1), mb, unit) for r in cut(b, mr)})


def panel_count(n: int, tiles: Tiles, vl: int) -> int:
    """Panels of n columns, the last one included."""
    return 1 + max(0, ceil_div(n - tiles.last_columns(vl), tiles.nv * vl))


def tile_options(spec: GemmSpec, target: Target) -> list[Tiles]:
    """The panel widths worth considering."""
    widest = max(2, min(4, (target.registers - 2) // 7)) if target.registers > 16 else 2
    if not isinstance(spec.n, int):
        rows = rows_that_fit(widest, target, MAX_ROWS)
        return [Tiles(widest, widest, rows, rows)]
    if spec.m == 1 and spec.b_packed:
        return [Tiles(2, 2, 1, 1)]
    options, vl = set(), spec.lanes(target)
    wide = (1, 2, 3, 4, 6, 8) if spec.m == 1 else (1, 2, 3, 4)
    for nv in wide:
        for last in wide if isinstance(spec.m, int) or spec.n <= 64 else (nv,):
            most = 1 if spec.m == 1 else MAX_ROWS
            mr, mr_last = (rows_that_fit(v, target, most) for v in (nv, last))
            tiles = Tiles(nv, last, mr, mr_last)
            panels = panel_count(spec.n, tiles, vl)
            if panels == 1:
                options.add(Tiles(last, last, mr_last, mr_last))
            elif spec.n > (panels - 1) * nv * vl:
                options.add(tiles)
    return sorted((_halved(spec, t, vl) for t in options), key=lambda t: (t.nv, t.last))


def _halved(spec: GemmSpec, tiles: Tiles, vl: int) -> Tiles:
    """With half of the last vector, if no more of it is used: its multiply-adds then cost half on some processors."""
    left = spec.columns - (panel_count(spec.columns, tiles, vl) - 1) * tiles.nv * vl
    fits = (
        vl == HALVED
        and spec.b_packed
        and (spec.widened or spec.b_type is DType.float32)
        and isinstance(spec.m, int)
        and spec.m > 1
    )
    return replace(tiles, half=True) if fits and 0 < left <= tiles.last * vl - vl // 2 else tiles


def block_rows(spec: GemmSpec, tiles: Tiles, target: Target) -> int:
    """Rows of A that stay in the second cache while panels of B pass by."""
    terms = spec.k if isinstance(spec.k, int) else 512
    single = isinstance(spec.n, int) and panel_count(spec.n, tiles, spec.lanes(target)) == 1
    capacity = max(132, min(504, int(0.6 * target.l2) // (spec.dtype.size * max(terms, 1))))
    if isinstance(spec.m, int) and single and spec.ldk == 1 and spec.b_packed:
        capacity = max(capacity, spec.m)
    most = ceil_div(max(spec.m, 1), tiles.mr) * tiles.mr if isinstance(spec.m, int) else capacity
    return max(tiles.mr, min(capacity // tiles.mr * tiles.mr, most))


def cycles(spec: GemmSpec, tiles: Tiles, mb: int, target: Target) -> float:
    """Predicted cycles of one batch; symbolic sizes count as 128."""
    m, n, k = (v if isinstance(v, int) else 128 for v in (spec.m, spec.n, spec.k))
    vl = spec.lanes(target)
    panels = panel_count(n, tiles, vl)
    total = 0.0
    for rows, count in blocks(max(m, 1), mb, tiles.mr).items():
        for nv, mr, times in (
            (tiles.nv, tiles.mr, panels - 1),
            (tiles.last_columns(vl) / vl, tiles.mr_last, 1),
        ):
            one = sum(
                c * (k * term_cycles(r, nv, target.core) + TILE_OVERHEAD + 1.5 * r * nv)
                for r, c in cut(rows, mr).items()
            )
            copies = 1.5 if not spec.b_packed else 1.0 if spec.copied else 0.0
            total += count * times * (one + copies * k * nv)
    return total


def panels_at_once(spec: GemmSpec, tiles: Tiles, target: Target) -> int:
    """GEMM_GEMV: several panels are several streams from memory and enough chains of multiply-adds; 0 for one panel."""
    single = spec.m == 1 or not isinstance(spec.m, int)
    if not spec.b_packed or spec.scaled or not single or tiles.nv != tiles.last or tiles.half:
        return 0
    panels, most = panel_count(spec.columns, tiles, spec.lanes(target)), max(1, 8 // tiles.nv)
    if panels == 1:
        return 0
    return min((g for g in range(1, most + 1) if g > most // 2 - 1 or most == 1), key=lambda g: (-panels % g, -g))


def pack(w: Tensor, panels: Panels, layout: str, batched: bool) -> Packing:
    """A weight as gemm.h reads it: panels of columns, term after term, a batch behind the other.

    w is (n, k) or (k, n) by the layout, a batch before it, axes of size 1 behind it; it is stored as its own type.
    """
    batch, n, k = ((1,) if not batched else ()) + w.type.sizes[: 3 if batched else 2]
    if layout == "kn":
        n, k = k, n
    size = panels.size(k)
    p = Packing(batch * size, w.dtype)

    def element(at: Sequence[Index], column: Index) -> Expr:
        b, term = at
        matrix = (column, term) if layout == "nk" else (term, column)
        lead = (b,) if batched else ()
        return w(*lead, *matrix, *[0] * (w.type.rank - len(lead) - 2))

    panels.put(p, [(batch, size)], (k,), element)
    return p


def panels_of(spec: GemmSpec, tiles: Tiles, vl: int) -> Panels:
    """The panels of a packed weight."""
    full = panel_count(spec.columns, tiles, vl) - 1
    return Panels(spec.columns, tiles.nv * vl, full, tiles.last_columns(vl))


def packed_size(spec: GemmSpec, tiles: Tiles, target: Target) -> int:
    """Elements of one batch of a packed weight."""
    return panels_of(spec, tiles, spec.lanes(target)).size(spec.terms)


@dataclass(frozen=True)
class Scratch:
    """Copies in scratch: terms of B at once, whether K is split, elements between terms of A (0: no copy), bytes."""

    kc: int
    split: bool
    stride: int
    size: int


def scratch(spec: GemmSpec, tiles: Tiles, mb: int, target: Target) -> Scratch:
    """Bytes as gemm.h lays them out: A, then a panel of B, then the sums of a split K."""
    k = spec.k if isinstance(spec.k, int) else None
    split = not spec.b_packed and (k is None or k > LONGEST_TERMS)
    kc, element = 512 if split or k is None else k, spec.dtype.size
    stride = ceil_div(mb, 16) * 16 + 16
    if spec.ldk == 1 or k is None or element * k * stride > target.l2:
        stride = 0
    widest = max(tiles.nv, tiles.last) * spec.lanes(target)
    size = ceil_div(element * (k or 0) * stride, 64) * 64
    if spec.copied:
        size += ceil_div(element * kc * widest, 64) * 64
    if split:
        size += element * max(ceil_div(mb, mr) * mr for mr in (tiles.mr, tiles.mr_last)) * widest
    return Scratch(kc, split, stride, size)


def _macros(spec: GemmSpec, tiles: Tiles, mb: int, space: Scratch, target: Target) -> tuple[tuple[str, Macro], ...]:
    b_batch = spec.b_batch
    if spec.b_packed:
        b_batch = packed_size(spec, tiles, target) if spec.b_batched else 0
    direct = not spec.b_packed and spec.ldn == 1 and isinstance(spec.m, int) and spec.m <= 2 * tiles.mr
    large = spec.b_packed and spec.b_type.size * packed_size(spec, tiles, target) > target.l1 // 2
    return (
        ("GEMM_BATCH", spec.batch),
        ("GEMM_M", spec.m),
        ("GEMM_N", spec.n),
        ("GEMM_K", spec.k),
        ("GEMM_LDA", spec.k if spec.lda is None else spec.lda),
        ("GEMM_LDK", spec.ldk),
        ("GEMM_A_BATCH", Offset(spec.a_batch)),
        ("GEMM_B_PACKED", int(spec.b_packed)),
        ("GEMM_LDB", spec.n if spec.ldb is None else spec.ldb),
        ("GEMM_LDN", spec.ldn),
        ("GEMM_B_BATCH", Offset(b_batch)),
        ("GEMM_B_SCALED", int(spec.scaled)),
        ("GEMM_B_WIDENED", int(spec.widened)),
        ("GEMM_B_TYPE", 0 if spec.dtype is DType.float64 else STORED.index(spec.b_type)),
        ("GEMM_B_DIRECT", int(direct)),
        ("GEMM_NV", tiles.nv),
        ("GEMM_NV_LAST", tiles.last),
        ("GEMM_HALF", int(tiles.half)),
        ("GEMM_MR", tiles.mr),
        ("GEMM_MR_LAST", tiles.mr_last),
        ("GEMM_ROWS", row_set(spec, mb, tiles.mr, tiles.mr)),
        ("GEMM_ROWS_LAST", row_set(spec, mb, tiles.mr_last, tiles.mr)),
        ("GEMM_MB", mb),
        ("GEMM_KC", space.kc),
        ("GEMM_K_SPLIT", int(space.split)),
        ("GEMM_A_PACK", int(space.stride > 0)),
        ("GEMM_A_STRIDE", space.stride),
        ("GEMM_GEMV", panels_at_once(spec, tiles, target)),
        ("GEMM_PREFETCH", int(large)),
    )


def _choice(spec: GemmSpec, tiles: Tiles, mb: int, target: Target) -> Choice:
    batch = spec.batch if isinstance(spec.batch, int) else 1
    seconds = batch * cycles(spec, tiles, mb, target) * 4 * target.vl / target.flops
    if spec.b_packed:
        loading = spec.b_type.size * packed_size(spec, tiles, target) / target.bandwidth
        seconds = 0.1 * seconds + max(0.9 * seconds, loading)
    vl, double = spec.lanes(target), spec.dtype is DType.float64
    columns = tiles.last_columns(vl)
    wide = f"{tiles.nv * vl}" + (f"/{columns}" if columns != tiles.nv * vl else "")
    space = scratch(spec, tiles, mb, target)
    return Choice(
        header="gemm/gemm_f64.h" if double else "gemm/gemm.h",
        label=f"gemm {tiles.mr}x{wide}, blocks of {mb}",
        macros=_macros(spec, tiles, mb, space, target),
        pack=Pack(pack, (panels_of(spec, tiles, vl), spec.b_layout, spec.b_batched)) if spec.b_packed else None,
        scratch=space.size,
        cost=seconds,
        loops=True,
    )


def candidates(spec: GemmSpec, target: Target) -> list[Choice]:
    """Ways to compute the product on the target, the best by analysis first; at least one."""
    choices = [_choice(spec, tiles, block_rows(spec, tiles, target), target) for tiles in tile_options(spec, target)]
    return sorted(choices, key=lambda c: c.cost)
