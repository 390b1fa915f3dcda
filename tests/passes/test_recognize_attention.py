from __future__ import annotations

import math

import numpy as np
import pytest

from neve.ir.graph import Value
from neve.ir.types import symbol
from neve.passes.recognize_attention import PASS
from tests.passes.support import Build, boolean, check, i64

s0, s1 = symbol("s0"), symbol("s1")
ATTENTION = "scaled_dot_product_attention"


def scores(
    b: Build, scale: str, lead: tuple[object, ...] = (2, 3), queries: object = 5, keys: object = 7
) -> tuple[Value, Value]:
    """(scaled scores, v)."""
    q, k, v = b.x(*lead, queries, 8), b.x(*lead, keys, 8), b.x(*lead, keys, 6)
    n = len(lead)
    if scale == "q":
        q = b.op("mul", q, b.num(0.25))
    kt = b.op("permute", k, dims=(*range(n), n + 1, n))
    if scale == "both":
        q, kt = b.op("mul", q, b.num(0.5)), b.op("div", kt, b.num(2.0))
    s = b.op("matmul", q, kt)
    if scale == "div":
        s = b.op("div", s, b.num(math.sqrt(8)))
    return (b.op("mul", s, b.num(0.3)) if scale == "mul" else s), v


def attend(b: Build, s: Value, v: Value, dim: int | None = None) -> Value:
    return b.op("matmul", b.op("softmax", s, dim=s.type.rank - 1 if dim is None else dim), v)


@pytest.mark.parametrize("scale", ["none", "q", "both", "div", "mul"])
@pytest.mark.parametrize("lead", [(2, 3), (6,), ()])
def test_scales(scale: str, lead: tuple[int, ...]) -> None:
    graph = check(PASS, lambda b: attend(b, *scores(b, scale, lead)), {ATTENTION: 1, "permute": 2}, edges=False)
    want = {"none": 1.0, "q": 0.25, "both": 0.25, "div": 1 / math.sqrt(8), "mul": 0.3}[scale]
    (node,) = (n for n in graph.nodes if n.op.name == ATTENTION)
    assert math.isclose(node.op.scale, want, rel_tol=1e-6)  # type: ignore[attr-defined]


def test_symbolic_sizes() -> None:
    check(
        PASS,
        lambda b: attend(b, *scores(b, "mul", (s0, 2), s1, s1)),
        {ATTENTION: 1, "permute": 2},
        edges=False,
        sizes={s0: 2, s1: 4},
    )


def test_masks_that_are_finite() -> None:
    def from_integers(b: Build) -> object:
        s, v = scores(b, "div")
        mask = b.op(
            "mul", b.op("sub", b.num(1.0), b.op("cast", b.x(2, 1, 1, 7, dtype=i64), dtype=s.dtype)), b.num(-100.0)
        )
        return attend(b, b.op("add", s, mask), v)

    def from_where(b: Build) -> object:
        s, v = scores(b, "div")
        return attend(b, b.op("add", b.op("where", b.x(5, 7, dtype=boolean), b.num(0.0), b.num(-3e38)), s), v)

    check(PASS, from_integers, {ATTENTION: 1, "permute": 2, "cast": 1, "sub": 1, "mul": 1}, edges=False)
    check(PASS, from_where, {ATTENTION: 1, "permute": 2, "where": 1}, edges=False)


def test_masks_that_may_block_a_whole_row_are_declined() -> None:
    def given(b: Build) -> object:
        s, v = scores(b, "div")
        return attend(b, b.op("add", s, b.x(5, 7)), v)

    def infinite(b: Build) -> object:
        s, v = scores(b, "div")
        return attend(b, b.op("add", s, b.op("where", b.x(5, 7, dtype=boolean), b.num(0.0), b.num(-math.inf))), v)

    check(PASS, given, None, miss="a whole row")
    check(PASS, infinite, None, miss="a whole row")


def test_near_misses() -> None:
    check(PASS, lambda b: attend(b, *scores(b, "div", keys=5), dim=2), None, miss="last axis")

    def kept(b: Build) -> object:
        s, v = scores(b, "div")
        p = b.op("softmax", s, dim=3)
        return [b.op("matmul", p, v), p]

    check(PASS, kept, None, miss="another use")

    def scores_kept(b: Build) -> object:
        s, v = scores(b, "none")
        return [attend(b, s, v), s]

    check(PASS, scores_kept, None)
    check(PASS, lambda b: attend(b, b.x(2, 5, 7), b.x(2, 7, 6)), None)

    def broadcast(b: Build) -> object:
        s = b.op("matmul", b.x(4, 5, 8), b.x(1, 8, 7))
        return attend(b, s, b.x(4, 7, 6))

    check(PASS, broadcast, None, miss="leading dims")


def attention(b: Build, mask: Value | None, **more: object) -> Value:
    return b.op(ATTENTION, b.x(2, 3, 4, 8), b.x(2, 3, 4, 8), b.x(2, 3, 4, 8), *([] if mask is None else [mask]), **more)


def test_masks_known_at_compile_time() -> None:
    lower = np.tri(4)
    causal = check(PASS, lambda b: attention(b, b.const(lower.astype(bool), boolean)), {ATTENTION: 1}, edges=False)
    assert causal.nodes[-1].op.is_causal and len(causal.nodes[-1].inputs) == 3  # type: ignore[attr-defined]
    check(PASS, lambda b: attention(b, b.const(np.where(lower, 0, -3e38)[None, None])), {ATTENTION: 1}, edges=False)
    check(PASS, lambda b: attention(b, b.num(True, boolean, (4, 4))), {ATTENTION: 1}, edges=False)
    check(PASS, lambda b: attention(b, b.num(0.0, shape=(1, 4))), {ATTENTION: 1}, edges=False)
    check(PASS, lambda b: attention(b, b.const(np.where(lower, 0.5, -3e38))), None)
    check(PASS, lambda b: attention(b, b.const(np.where(lower, 0, -5.0))), None)
    check(PASS, lambda b: attention(b, b.const(lower.T.astype(bool), boolean)), None)
    check(PASS, lambda b: attention(b, b.num(False, boolean, (4, 4))), None)
    check(PASS, lambda b: attention(b, b.const(np.array([[True, True, True, False]]), boolean)), None)


def repeated(b: Build, x: Value, n: int, interleaved: bool = True) -> Value:
    batch, heads, length, size = x.shape
    at = (batch, heads, 1, length, size) if interleaved else (batch, 1, heads, length, size)
    wide = (batch, heads, n, length, size) if interleaved else (batch, n, heads, length, size)
    return b.op(
        "reshape", b.op("expand", b.op("reshape", x, shape=at), shape=wide), shape=(batch, heads * n, length, size)
    )


def test_repeated_heads() -> None:
    def build(b: Build, interleaved: bool = True, both: bool = True) -> object:
        q, k, v = b.x(s0, 6, 4, 8), b.x(s0, 2, 4, 8), b.x(s0, 2 if both else 6, 4, 8)
        return b.op(ATTENTION, q, repeated(b, k, 3, interleaved), repeated(b, v, 3, interleaved) if both else v)

    check(PASS, build, {ATTENTION: 1}, edges=False, sizes={s0: 2})
    check(PASS, lambda b: build(b, interleaved=False), None)
    check(PASS, lambda b: build(b, both=False), None)


@pytest.mark.parametrize(
    ("name", "swapped", "start", "causal"),
    [
        ("le", False, 0, True),
        ("ge", True, 0, True),
        ("ge", False, 0, False),
        ("lt", False, 0, False),
        ("le", False, 1, False),
    ],
)
def test_lower_triangles_of_symbolic_size(name: str, swapped: bool, start: int, causal: bool) -> None:
    def build(b: Build) -> object:
        q, k, v = (b.x(2, s0, 8) for _ in range(3))
        i = b.op("arange", start=start, step=1, length=s0, dtype=i64)
        j = b.op("arange", start=0, step=1, length=s0, dtype=i64)
        pair = (b.op("reshape", j, shape=(1, 1, s0)), b.op("reshape", i, shape=(1, s0, 1)))
        return b.op(ATTENTION, q, k, v, b.op(name, *(pair[::-1] if swapped else pair)))

    graph = check(PASS, build, {ATTENTION: 1} if causal else None, edges=False, sizes={s0: 5})
    assert not causal or graph.nodes[-1].op.is_causal  # type: ignore[attr-defined]


def test_a_triangle_over_other_axes_than_the_scores_stays() -> None:
    def build(b: Build) -> object:
        i = b.op("arange", start=0, step=1, length=1, dtype=i64)
        mask = b.op("le", b.op("reshape", b.op("arange", start=0, step=1, length=s0, dtype=i64), shape=(1, s0)), i)
        return b.op(ATTENTION, *(b.x(2, s0, 8) for _ in range(3)), mask)

    check(PASS, build, None)
