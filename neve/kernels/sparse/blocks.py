"""Sparse products: packing of weights that are mostly zeros, and the choice of block, strip and chunk for sparse.h.

The analysis counts cycles of two multiply-adds and two loads, as that of the dense product does. A block of r outputs
by one term costs, for a strip of v vectors of rows, r · v multiply-adds and r + v loads; v of these come from the
second cache where a chunk of the strip does not fit the first.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from neve.build.target import Target
from neve.ir.types import DType
from neve.kernels.conv.spec import ConvSpec
from neve.kernels.kernel import Choice, PackByValue, Size

BLOCKS = (4, 2, 1)
"""Outputs of a block that share a term."""
MOST_VECTORS = 8
"""sparse.h has strips of up to as many."""
FILL = 5.0
"""Cycles to transpose a vector of a strip, and to see whether it is finite."""
POINT = 3.0
"""Cycles to find a pixel's channels under a tap of a convolution."""
STORE = 6.5
"""Cycles to transpose and store a vector of results."""
RUN = 9.0
"""Cycles of a run of blocks beyond its terms: its length is known to no branch predictor."""
FAR = 2.2
"""Loads from the first cache that one from the second costs."""
LATENCY = 3.5
"""Cycles of a block at least: its multiply-adds wait for those of the one before."""
MARGIN = 1.15
"""So much faster than the dense kernel it has to be by analysis."""
SINGLE = 2.5
"""A dense product of one or two rows reads weights so much faster where they lie in the second cache, not the last."""
WINOGRAD = 4
"""Multiplications that a dense 3×3 convolution may do without: one of so many is left."""
ASSUMED_ROWS = 128
"""Where they are symbolic, as the dense kernels assume."""
LONGEST = (1 << 16) - 1
"""Terms of a chunk, and how many a run has of them, are numbers of 16 bits."""


@dataclass(frozen=True)
class SparseSpec:
    """C[m, n] = Σ_k A[m, k] · W[n, k] for a constant W.

    m and lda, the elements between rows of A, may be symbolic. weight is an array (N, K) in layout "nk", (K, N) in
    "kn", (N, C, KH, KW) for a convolution, with no side of 0; dtype is the model's, in which a dense product stores
    it. If scaled, A[m, k] is multiplied by a factor s[k]. With `image`, a convolution of one group, row m is what the
    kernel sees of output pixel m.
    """

    m: Size
    lda: Size
    weight: np.ndarray
    layout: Literal["nk", "kn"] = "nk"
    dtype: DType = DType.float32
    scaled: bool = False
    image: ConvSpec | None = None

    @property
    def n(self) -> int:
        """Outputs."""
        return int(self.present.shape[0])

    @property
    def k(self) -> int:
        """Terms."""
        return int(self.present.shape[1])

    @cached_property
    def present(self) -> np.ndarray:
        """Where W (N, K) is not zero, which NaN is not."""
        return np.asarray(matrix(self.weight, self.layout) != 0)

    def least_rows(self) -> int:
        """The rows if every symbolic size is 1."""
        if isinstance(self.m, int):
            return max(self.m, 1)
        return max(int(self.m.value(defaultdict(lambda: 1))), 1)

    def rows(self) -> int:
        """Rows for cost estimates."""
        if isinstance(self.m, int):
            return max(self.m, 1)
        return ASSUMED_ROWS if self.image is None else max(self.image.pixels(), 1)


@dataclass(frozen=True)
class Form:
    """Outputs a block, vectors of rows a strip, terms a chunk, outputs a group."""

    r: int
    nv: int
    kc: int
    ng: int


def widths(m: Size, nv: int, vl: int) -> dict[int, int]:
    """The strips of all rows: {vectors: number of strips}; of unknown rows as many as are assumed."""
    vectors = max(1, -(-(m if isinstance(m, int) else ASSUMED_ROWS) // vl))
    strips = -(-vectors // nv)
    least, more = divmod(vectors, strips)
    return {v: c for v, c in ((least, strips - more), (least + 1, more)) if c}


def matrix(weight: np.ndarray, layout: str) -> np.ndarray:
    """W (N, K) of a weight in that layout; of a convolution the terms as [kh][kw][c]."""
    if weight.ndim == 4:
        weight = weight.transpose(0, 2, 3, 1)
    return weight.T if layout == "kn" else weight.reshape(len(weight), -1)


def blocks_of(present: np.ndarray, r: int) -> np.ndarray:
    """Which blocks of r outputs have a weight: (ceil(N / r), K)."""
    padded = np.pad(present, ((0, -len(present) % r), (0, 0)))
    return np.asarray(padded.reshape(-1, r, padded.shape[1]).any(1))


def pack(weight: np.ndarray, layout: str, form: Form) -> np.ndarray:
    """A constant as sparse.h reads it, as bytes: blocks before each group and in all, values, their terms, the
    blocks of each run.
    """
    weight = np.asarray(matrix(weight, layout), np.float32)
    n, k = weight.shape
    blocks = blocks_of(weight != 0, form.r)
    values = np.pad(weight, ((0, -n % form.r), (0, 0))).reshape(len(blocks), form.r, k).transpose(0, 2, 1)
    first, parts, terms, counts = [0], [], [], []
    each = form.ng // form.r
    for b in range(0, len(blocks), each):
        for k0 in range(0, k, form.kc):
            run = blocks[b : b + each, k0 : k0 + form.kc]
            where, which = np.nonzero(run)
            parts.append(values[b : b + each, k0 : k0 + form.kc][where, which])
            terms.append(which)
            counts.append(run.sum(1))
        first.append(first[-1] + int(blocks[b : b + each].sum()))
    sections = (
        np.array(first, np.uint32),
        np.concatenate(parts),
        np.concatenate(terms).astype(np.uint16),
        np.concatenate(counts).astype(np.uint16),
    )
    return np.concatenate([s.reshape(-1).view(np.uint8) for s in sections])


def packed_bytes(n: int, k: int, blocks: int, form: Form) -> int:
    """Bytes of a packed weight that has so many blocks."""
    return 4 * (-(-n // form.ng) + 1) + blocks * (4 * form.r + 2) + 2 * -(-n // form.r) * -(-k // form.kc)


def forms(spec: SparseSpec, r: int, target: Target) -> list[Form]:
    """The forms worth considering for blocks of r outputs: all whose strip fits the second cache."""
    vl = target.vl
    most = min(MOST_VECTORS, (target.registers - 1) // (r + (r > 1)))
    ng = min(64, -(-spec.n // max(vl, r)) * max(vl, r))
    found = []
    for nv in range(1, min(most, -(-spec.rows() // vl)) + 1):
        width = 4 * nv * vl
        if nv > 1 and width * spec.k > target.l2 * 7 // 8:
            break
        near = max(16, (target.l1 * 7 // 8) // width // 8 * 8)
        found += [Form(r, nv, min(kc, spec.k, LONGEST), ng) for kc in sorted({min(near, spec.k), spec.k})]
    return found


def cycles(spec: SparseSpec, form: Form, blocks: int, rows: int, target: Target) -> float:
    """Predicted cycles on so many rows."""
    n, k, r = spec.n, spec.k, form.r
    runs, chunks = -(-n // r), -(-k // form.kc)
    fill = k * FILL + (POINT * target.vl * k / spec.image.channels if spec.image is not None else 0)
    total = 0.0
    for nv, count in widths(rows, form.nv, target.vl).items():
        far = 1 - min(1.0, target.l1 / (4 * nv * target.vl * form.kc))
        block = max(r * nv / 2, (r + nv * (1 + (FAR - 1) * far)) / 2, LATENCY)
        sums = (chunks - 1) * n * nv + chunks * runs * RUN
        total += count * (nv * fill + blocks * block + sums + n * nv * STORE)
    return total


def seconds(spec: SparseSpec, form: Form, blocks: int, rows: int, target: Target) -> float:
    """Predicted time on so many rows."""
    computing = cycles(spec, form, blocks, rows, target) * 4 * target.vl / target.flops
    loading = packed_bytes(spec.n, spec.k, blocks, form) / target.bandwidth
    return 0.1 * computing + max(0.9 * computing, loading)


def dense_seconds(spec: SparseSpec, rows: int, target: Target) -> float:
    """The least time that a dense product can take."""
    size = spec.n * spec.k
    c = spec.image
    saved = WINOGRAD if c is not None and (c.kernel, c.stride, c.dilation) == ((3, 3), (1, 1), (1, 1)) else 1
    return max(2.0 * rows * size / saved / target.flops, 4.0 * size / (SINGLE * target.bandwidth))


def choice(spec: SparseSpec, form: Form, blocks: int, target: Target) -> Choice:
    """The product by that form; blocks are those that have a weight."""
    kept = 100 * float(np.count_nonzero(spec.present)) / spec.present.size
    some = widths(spec.m, form.nv, target.vl) if isinstance(spec.m, int) else range(1, form.nv + 1)
    return Choice(
        header="sparse/sparse.h",
        label=f"sparse {form.r}x1, {kept:.2g} % of the weights, {form.nv * target.vl} rows",
        macros=(
            ("SPARSE_M", spec.m),
            ("SPARSE_LDA", spec.lda),
            ("SPARSE_N", spec.n),
            ("SPARSE_K", spec.k),
            ("SPARSE_R", form.r),
            ("SPARSE_NV", form.nv),
            ("SPARSE_WIDTHS", sum(1 << v for v in some)),
            ("SPARSE_KC", form.kc),
            ("SPARSE_NG", form.ng),
            ("SPARSE_SCALED", int(spec.scaled)),
            ("SPARSE_CONV", int(spec.image is not None)),
            *(spec.image.macros() if spec.image is not None else ()),
        ),
        pack=PackByValue(pack, (spec.layout, form)),
        scratch=4 * ((spec.k + form.ng) * form.nv * target.vl + (spec.image.channels if spec.image is not None else 0)),
        cost=(SINGLE if spec.m in (1, 2) else MARGIN) * seconds(spec, form, blocks, spec.rows(), target),
        loops=True,
    )


def candidates(spec: SparseSpec, target: Target) -> list[Choice]:
    """Ways to compute the product, the best by analysis first; none where the packed weights are no smaller than the
    dense ones, or where a call with few rows may be slower than a dense one.
    """
    found = []
    least = spec.least_rows()
    for r in BLOCKS:
        blocks = int(np.count_nonzero(blocks_of(spec.present, r)))
        for form in forms(spec, r, target):
            smaller = packed_bytes(spec.n, spec.k, blocks, form) < spec.n * spec.k * spec.dtype.size
            few = seconds(spec, form, blocks, least, target) < dense_seconds(spec, least, target)
            if smaller and (few or isinstance(spec.m, int)):
                found.append(choice(spec, form, blocks, target))
    return sorted(found, key=lambda c: c.cost)


def best_zeros(target: Target) -> tuple[int, int]:
    """The block (outputs, terms) by which a layer of middle size is best pruned; the smaller one of two as good."""

    def cost(r: int) -> float:
        weight = np.repeat(np.arange(512 // r * 512).reshape(-1, 512) % 10 == 0, r, 0)
        spec = SparseSpec(ASSUMED_ROWS, 512, weight.astype(np.float32))
        return min(seconds(spec, f, weight.sum() // r, ASSUMED_ROWS, target) for f in forms(spec, r, target))

    return min(sorted(BLOCKS), key=cost), 1
