"""sparse.h on edge sizes, in each compiler, against float64, infinities included; threads give the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from neve.build.target import AVX2, AVX512, BASES, Target, runs_here
from neve.ir.types import DType
from neve.kernels.conv.spec import ConvSpec
from neve.kernels.gemm.tiles import GemmSpec
from neve.kernels.gemm.tiles import candidates as dense
from neve.kernels.kernel import Choice, Size
from neve.kernels.sparse.blocks import Form, SparseSpec, blocks_of, candidates, choice, matrix, pack, packed_bytes
from tests.kernels.harness import S, compilers, defines, guarded, load_all

GENERIC = replace(AVX2, name="x86_64", isa="generic", vl=4)
PAD = 3
"""Columns after each row of the output that must stay as they were."""
INF, NAN = float("inf"), float("nan")


def pruned(n: int, k: int, r: int, kept: float, seed: int = 0) -> np.ndarray:
    """Random weights (n, k) of which that share of blocks of r outputs is kept; output 1 has none, if there is one."""
    rng = np.random.default_rng(seed)
    keep = np.repeat(rng.random((-(-n // r), k)) < kept, r, 0)[:n]
    keep[1:2] = False
    return np.where(keep, rng.standard_normal((n, k)), 0).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Problem:
    """A product, the numbers of rows to run it with if they are symbolic, and how: a form, or a target's best."""

    spec: SparseSpec
    form: Form
    rows: tuple[int, ...] = (0,)

    def choice(self, target: Target) -> Choice:
        whole = -(-self.form.ng // target.vl) * target.vl
        return choice(self.spec, replace(self.form, ng=whole), 0, target)


def problem(
    m: Size, n: int, k: int, r: int, nv: int, kc: int, *rows: int, kept: float = 0.2, **more: object
) -> Problem:
    lda = more.pop("lda", k)
    spec = SparseSpec(m, lda, pruned(n, k, r, kept), **more)  # type: ignore[arg-type]
    return Problem(spec, Form(r, nv, min(kc, k), 16), rows or (0,))


def convolution(spec: ConvSpec, r: int, nv: int, kc: int) -> Problem:
    kh, kw = spec.kernel
    weight = pruned(spec.out_channels, spec.depth, r, 0.2).reshape(-1, kh, kw, spec.channels).transpose(0, 3, 1, 2)
    made = SparseSpec(spec.pixels(), 0, np.ascontiguousarray(weight), image=spec)
    return Problem(made, Form(r, nv, min(kc, spec.depth), 16))


def image(c: int, oc: int, kernel: tuple[int, int], **more: tuple[int, int]) -> ConvSpec:
    """Of two images of 9 by 7 pixels; two rows and columns of padding at the ends that do not say."""
    h, w, (top, left) = 9, 7, more.get("padding", (0, 0))
    (sh, sw), (dh, dw) = more.get("stride", (1, 1)), more.get("dilation", (1, 1))
    out_h, out_w = (
        (h + top + 2 - dh * (kernel[0] - 1) - 1) // sh + 1,
        (w + left + 2 - dw * (kernel[1] - 1) - 1) // sw + 1,
    )
    return ConvSpec(2, c, h, w, oc, out_h, out_w, kernel, (h * w * c, 1, w * c, c), **more)  # type: ignore[arg-type]


def seen(spec: ConvSpec, flat: np.ndarray) -> np.ndarray:
    """What the kernel sees of each output pixel: (pixels, kh * kw * c)."""
    rows = []
    x = flat.reshape(spec.batch, spec.height, spec.width, spec.channels)
    for n, oh, ow, kh, kw in np.ndindex(spec.batch, spec.out_height, spec.out_width, *spec.kernel):  # type: ignore[arg-type]
        ih = oh * spec.stride[0] - spec.padding[0] + kh * spec.dilation[0]
        iw = ow * spec.stride[1] - spec.padding[1] + kw * spec.dilation[1]
        inside = 0 <= ih < x.shape[1] and 0 <= iw < x.shape[2]
        rows.append(x[n, ih, iw] if inside else np.zeros(spec.channels, np.float32))
    return np.array(rows, np.float32).reshape(spec.pixels(), spec.depth)


def matmul(one: Problem) -> Problem:
    return replace(one, spec=replace(one.spec, weight=np.ascontiguousarray(one.spec.weight.T), layout="kn"))


PROBLEMS = (
    problem(1, 1, 8, 1, 1, 8),
    problem(1, 37, 30, 4, 1, 30),
    problem(7, 33, 9, 4, 2, 9, lda=12),
    problem(23, 16, 20, 2, 3, 7),
    matmul(problem(40, 50, 33, 4, 2, 16)),
    problem(100, 66, 70, 1, 8, 24),
    problem(65, 31, 40, 4, 2, 40, scaled=True),
    problem(20, 35, 24, 4, 1, 24, kept=0),
    problem(20, 35, 24, 4, 1, 10, kept=1),
    convolution(image(10, 21, (3, 3), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), 4, 2, 30),
    convolution(image(33, 16, (1, 1), stride=(2, 2)), 1, 4, 33),
    problem(S[0], 90, 37, 4, 2, 16, 0, 1, 5, 17, 150, lda=S[0] + 37),
    problem(S[0], 40, 24, 1, 7, 24, 1, 9, 200),
)


def source(one: Problem, name: str, target: Target) -> str:
    """The kernel NAME_run of A, weights, factors if any, C (m, n + PAD) that gets product + the column's bias, bias."""
    out = 2 + one.spec.scaled
    return f"""
#define KN(x) {name}_##x
{"#define K_STORE_LOOP 1" if int(name[1:]) % 2 else ""}
{defines(one.choice(target).macros)}
NEVE_INLINE float *{name}_at(void *const *p, int64_t m, int64_t n)
{{ return (float *)p[{out}] + m * {one.spec.n + PAD} + n; }}
#define K_STORE(v, b, m, n) vstore({name}_at(p, m, n), (v) + vload((const float *)p[{out + 1}] + (n)))
#define K_STORE_N(v, cnt, b, m, n) \\
    vstore_n({name}_at(p, m, n), (v) + vload_n((const float *)p[{out + 1}] + (n), cnt), cnt)
#include "sparse/sparse.h"
"""


def check(one: Problem, run: object, target: Target, m: int, special: bool) -> Iterator[str]:
    """Run a problem; yields what is wrong. special: with infinities and NaN in some rows."""
    spec, rng = one.spec, np.random.default_rng(m)
    lda = spec.lda if isinstance(spec.lda, int) else int(spec.lda.value({"0": m}))
    conv = spec.image
    pixels = 2 * 9 * 7 * conv.channels if conv is not None else max(0, (m - 1) * lda + spec.k)
    flat = rng.standard_normal(pixels).astype(np.float32)
    if special and m:
        flat[rng.integers(len(flat), size=3)] = [INF, -INF, NAN]
    a = seen(conv, flat) if conv is not None else np.lib.stride_tricks.as_strided(flat, (m, spec.k), (4 * lda, 4))
    w = matrix(spec.weight, spec.layout).astype(np.float64)
    factor = rng.standard_normal(spec.k).astype(np.float32) if spec.scaled else np.ones(spec.k, np.float32)
    bias = rng.standard_normal(spec.n).astype(np.float32)
    with np.errstate(invalid="ignore"):
        terms = (a.astype(np.float64) * factor)[:, None] * w
        want, scale = terms.sum(-1) + bias, np.abs(terms).sum(-1) + np.abs(bias)
    form = one.choice(target)
    assert form.pack is not None
    out = guarded(np.full((m, spec.n + PAD), 7, np.float32))
    arrays = [
        guarded(flat),
        guarded(form.pack.array(spec.weight)),
        *([guarded(factor)] if spec.scaled else []),
        out,
        guarded(bias),
    ]
    first: np.ndarray | None = None
    for threads in (1, 2, 3):
        out[...] = 7
        run(arrays, (m,), threads, form.scratch)  # type: ignore[operator]
        got = out[:, : spec.n]
        finite = np.isfinite(want)
        if not np.array_equal(got[~finite], want[~finite].astype(np.float32), equal_nan=True):
            yield f"{one} {m} rows, {threads} threads: wrong infinities or NaN"
        if not (np.abs(got[finite] - want[finite]) <= 1e-6 * scale[finite] + 1e-30).all():
            yield f"{one} {m} rows, {threads} threads: wrong values"
        if not (out[:, spec.n :] == 7).all():
            yield f"{one} {m} rows: wrote past the row"
        if first is not None and not np.array_equal(first, got, equal_nan=True):
            yield f"{one} {m} rows: {threads} threads differ from 1"
        first = got.copy()


RUNS = [(c, AVX2) for c in compilers()] + [(compilers()[0], t) for t in (GENERIC, AVX512) if not runs_here(t)]


@pytest.mark.parametrize(("compiler", "target"), RUNS, ids=lambda x: getattr(x, "isa", x))
def test_sparse(compiler: str, target: Target) -> None:
    unit = "".join(source(q, f"k{i}", target) for i, q in enumerate(PROBLEMS))
    names = tuple(f"k{i}_run" for i in range(len(PROBLEMS)))
    kernels = load_all(f'#include "rt.h"\n#include "vec.h"\n{unit}', compiler, names, target.isa)
    wrong = [
        text
        for name, one in zip(names, PROBLEMS, strict=True)
        for m in (one.rows if one.rows != (0,) else (one.spec.m,))
        for special in (False, True)
        for text in check(one, kernels[name], target, int(m), special)  # type: ignore[call-overload]
    ]
    assert wrong == []


@pytest.mark.parametrize("r", [1, 2, 4])
def test_packed_weights_are_as_large_as_foreseen(r: int) -> None:
    weight = pruned(70, 45, r, 0.3)
    form = Form(r, 1, 16, 32)
    blocks = int(blocks_of(weight != 0, r).sum())
    assert pack(weight, "nk", form).nbytes == packed_bytes(70, 45, blocks, form)


@pytest.mark.parametrize("target", BASES.values(), ids=list(BASES))
def test_only_what_pays(target: Target) -> None:
    """By analysis: blocks of four where they are pruned so, nothing for dense weights, more gain for more zeros; less
    weight to store than the dense product has, whatever its type.
    """
    costs = []
    for kept in (0.1, 0.3, 0.6, 1.0):
        spec = SparseSpec(128, 256, pruned(256, 256, 4, kept))
        best = candidates(spec, target)[:1]
        costs += [c.cost for c in best]
        assert all(dict(c.macros)["SPARSE_R"] == 4 for c in best)
        for half in (DType.float32, DType.bfloat16):
            for c in candidates(replace(spec, dtype=half), target):
                assert c.pack is not None and c.pack.array(spec.weight).nbytes < 256 * 256 * half.size
    floor = dense(GemmSpec(128, 256, 256), target)[0].cost
    assert costs == sorted(costs) and costs[0] < floor / 3
    assert not [c for c in costs[3:] if c < floor]


def test_a_call_of_one_row_may_be_dense() -> None:
    """With a number of rows that the run chooses, sparse weights need to pay for a single one too."""
    half = SparseSpec(S[0], 256, pruned(256, 256, 4, 0.5))
    assert candidates(replace(half, m=128), AVX512) and not candidates(half, AVX512)
    assert candidates(SparseSpec(S[0], 768, pruned(768, 768, 4, 0.05)), AVX512)
