"""attention.h against float64 and eager torch, at edge sizes, masks and strides, with 1 to 3 threads bit for bit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from neve.build.target import AVX2, AVX512, X86_64
from neve.kernels.attention.blocks import AttentionSpec, Mask, Strides, candidates, scratch_bytes, tile_rows
from neve.kernels.kernel import Size
from tests.kernels import harness
from tests.kernels.harness import S

TARGETS = {"avx2": AVX2, "avx512": AVX512, "generic": X86_64}
TEMPLATE = """
#include "rt.h"
#include "vec.h"
#define KN(x) k{i}_##x
{macros}
#define K_STORE(v, b, h, q, d) \\
  vstore((float *)p[{out}] + (((b) * (int64_t)({H}) + (h)) * (int64_t)({SQ}) + (q)) * {DV} + (d), v)
#define K_STORE_N(v, cnt, b, h, q, d) \\
  vstore_n((float *)p[{out}] + (((b) * (int64_t)({H}) + (h)) * (int64_t)({SQ}) + (q)) * {DV} + (d), v, cnt)
#include "attention/attention.h"
"""


@dataclass(frozen=True)
class Problem:
    """Sizes of one attention; operands are (b, h, s, d) if head_major, else (b, s, h, d) as of a linear layer."""

    b: int
    h: int
    sq: int
    sk: int
    d: int
    dv: int
    group: int = 1
    mask: str = ""
    causal: bool = False
    offset: int = 0
    head_major: bool = True
    symbolic: bool = False
    block: int = 0

    def spec(self) -> AttentionSpec:
        def strides(heads: int, rows: Size, width: int) -> Strides:
            if self.head_major:
                return Strides(heads * width * rows, width * rows, width)
            return Strides(heads * width * rows, width, heads * width)

        sq, sk = (S[1], S[2]) if self.symbolic else (self.sq, self.sk)
        masks = {
            "": None,
            "float": Mask("float", self.h * sq * sk, sq * sk, sk),
            "bool": Mask("bool", self.h * sq * sk, sq * sk, sk),
            "keys": Mask("float", sk, 0, 0),
            "rows": Mask("bool", 0, 0, 1, 0),
        }
        return AttentionSpec(
            S[0] if self.symbolic else self.b,
            self.h,
            sq,
            sk,
            self.d,
            self.dv,
            strides(self.h, sq, self.d),
            strides(self.h // self.group, sk, self.d),
            strides(self.h // self.group, sk, self.dv),
            self.group,
            None,
            masks[self.mask],
            self.causal,
            self.offset,
            self.sk,
            self.sq,
        )


def arrays(c: Problem, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """The kernel's operands, and Q, K, V as (b, h, s, d) and the mask broadcast to (b, h, sq, sk)."""
    rng = np.random.default_rng(seed)

    def operand(heads: int, rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(size=(c.b, heads, rows, width) if c.head_major else (c.b, rows, heads, width)).astype(np.float32)
        return x, x if c.head_major else x.transpose(0, 2, 1, 3)

    (q0, q), (k0, k), (v0, v) = (
        operand(c.h, c.sq, c.d),
        operand(c.h // c.group, c.sk, c.d),
        operand(c.h // c.group, c.sk, c.dv),
    )
    mask: np.ndarray | None = None
    if c.mask == "float":
        mask = rng.normal(size=(c.b, c.h, c.sq, c.sk)).astype(np.float32)
        mask[..., ::3] = -np.inf
        mask[0, 0, 0] = -np.inf
        mask[0, -1, -1] = np.finfo(np.float32).min
    elif c.mask == "bool":
        mask = rng.random((c.b, c.h, c.sq, c.sk)) < 0.7
        mask[0, 0, 0] = False
    elif c.mask == "keys":
        mask = np.where(np.arange(c.sk) < max(1, c.sk - 3), 0, -np.inf).astype(np.float32) * np.ones(
            (c.b, 1, 1, 1), np.float32
        )
    elif c.mask == "rows":
        mask = (np.arange(c.sq) % 3 != 1)[:, None]
    return (
        [q0, k0, v0]
        + ([] if mask is None else [np.ascontiguousarray(mask).view(np.uint8) if mask.dtype == bool else mask]),
        q,
        k,
        v,
        mask,
    )


def reference(c: Problem, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Eager's safe softmax in float64."""
    k, v = (np.repeat(x.astype(np.float64), c.group, 1) for x in (k, v))
    scores = q.astype(np.float64) @ k.swapaxes(-1, -2) * c.d**-0.5
    if mask is not None:
        scores = (
            np.where(mask, scores, -np.inf)
            if mask.dtype == bool
            else (scores.astype(np.float32) + mask).astype(np.float64)
        )
    if c.causal:
        scores = np.where(np.arange(c.sk) <= np.arange(c.sq)[:, None] + c.offset, scores, -np.inf)
    if c.sk == 0:
        return np.zeros((c.b, c.h, c.sq, c.dv))
    top = scores.max(-1, keepdims=True)
    e = np.exp(scores - np.where(np.isneginf(top), 0, top))
    total = e.sum(-1, keepdims=True)
    return np.asarray(e / np.where(total == 0, 1, total) @ v)


def unit(c: Problem, i: int, isa: str) -> tuple[str, int]:
    """C source of instance i and its scratch bytes."""
    choice = candidates(c.spec(), TARGETS[isa])[0]
    macros = dict(choice.macros)
    scratch = choice.scratch
    if c.block:
        macros |= {"ATT_BLOCK": c.block, "ATT_ROWS": tile_rows(c.spec().queries, c.block)}
        scratch = scratch_bytes(c.sk, c.d, c.dv, c.block, TARGETS[isa].vl)
    lines = harness.defines(tuple(macros.items()))
    return TEMPLATE.format(
        i=i, macros=lines, out=3 + bool(c.mask), H=c.h, SQ=harness.in_c(c.spec().queries), DV=c.dv
    ), scratch


PROBLEMS = [
    Problem(1, 1, 4, 1, 1, 1),
    Problem(1, 2, 7, 17, 8, 8),
    Problem(2, 3, 13, 15, 5, 3),
    Problem(1, 2, 31, 33, 16, 24),
    Problem(1, 1, 20, 16, 32, 40, block=6),
    Problem(2, 4, 25, 40, 32, 32, group=2, head_major=False),
    Problem(1, 2, 50, 50, 12, 20, causal=True, block=24),
    Problem(1, 2, 9, 30, 16, 16, causal=True, offset=21),
    Problem(1, 2, 30, 9, 16, 16, causal=True),
    Problem(1, 2, 12, 21, 16, 16, causal=True, offset=-4),
    Problem(2, 2, 19, 35, 24, 16, mask="float"),
    Problem(2, 2, 19, 35, 24, 16, mask="bool"),
    Problem(2, 2, 19, 37, 24, 16, mask="keys", head_major=False),
    Problem(1, 2, 8, 10, 8, 8, mask="rows"),
    Problem(1, 2, 1, 45, 64, 64),
    Problem(2, 4, 2, 19, 10, 13, group=4, mask="bool"),
    Problem(1, 2, 3, 40, 16, 40, causal=True, offset=30, mask="float"),
    Problem(2, 2, 27, 35, 24, 16, mask="float", symbolic=True, causal=True),
    Problem(1, 2, 97, 130, 64, 64, symbolic=True, head_major=False),
    Problem(1, 1, 5, 0, 8, 8),
]


@pytest.mark.parametrize(("compiler", "isa"), [("gcc", "avx2"), ("zig", "avx2"), ("gcc", "generic")])
def test_attention(compiler: str, isa: str) -> None:
    problems = PROBLEMS if isa == "avx2" else PROBLEMS[::3]
    units = [unit(c, i, isa) for i, c in enumerate(problems)]
    kernels = harness.load_all(
        "".join(u for u, _ in units), compiler, tuple(f"k{i}_run" for i in range(len(units))), isa
    )
    for i, c in enumerate(problems):
        operands, q, k, v, mask = arrays(c)
        outputs = []
        for threads in (1, 2, 3):
            out = np.full((c.b, c.h, c.sq, c.dv), 777, np.float32)
            kernels[f"k{i}_run"]([*operands, out], (c.b, c.sq, c.sk), threads, units[i][1])
            outputs.append(out)
        np.testing.assert_allclose(outputs[0], reference(c, q, k, v, mask), rtol=2e-5, atol=2e-6, err_msg=str(c))
        assert all((o == outputs[0]).all() for o in outputs), f"{c}: depends on the number of threads"
        if c.group == 1 and c.sk and not c.offset and not (mask is not None and c.causal):
            mask_t = None if mask is None else torch.from_numpy(np.broadcast_to(mask, (c.b, c.h, c.sq, c.sk)).copy())
            qt, kt, vt = (torch.from_numpy(x.copy()) for x in (q, k, v))
            eager = torch.nn.functional.scaled_dot_product_attention(qt, kt, vt, attn_mask=mask_t, is_causal=c.causal)
            np.testing.assert_allclose(outputs[0], eager.numpy(), rtol=1e-4, atol=5e-6, err_msg=str(c))


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_nan_and_infinity(compiler: str) -> None:
    """NaN in a query row stays in that row; an infinite score makes its row NaN; other rows are untouched."""
    for sq in (2, 9):
        c = Problem(1, 1, sq, 20, 16, 16)
        source, scratch = unit(c, 0, "avx2")
        kernel = harness.load(source, compiler, "k0_run")
        operands, q, k, _, _ = arrays(c)
        clean, out = (np.empty((1, 1, sq, 16), np.float32) for _ in range(2))
        kernel([*operands, clean], scratch=scratch)
        q[0, 0, 1, 3] = np.nan
        kernel([*operands, out], scratch=scratch)
        assert np.isnan(out[0, 0, 1]).all() and (np.delete(out, 1, 2) == np.delete(clean, 1, 2)).all()
        q[0, 0, 1, 3] = 3e38
        k[0, 0, 5, 3] = 3e38
        kernel([*operands, out], scratch=scratch)
        assert np.isnan(out[0, 0, 1]).all()


def test_spec_is_checked() -> None:
    with pytest.raises(ValueError, match="keys_bound"):
        dataclasses.replace(PROBLEMS[-2].spec(), keys_bound=0)
    with pytest.raises(ValueError, match="group"):
        dataclasses.replace(PROBLEMS[0].spec(), group=2)
    with pytest.raises(ValueError, match="no mask"):
        Mask("int", 0, 0, 0)
