"""Index arithmetic against Python's own and against sympy's: random expressions, at many sizes."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
import sympy

from neve.capture.symbols import in_sympy, in_whole_numbers
from neve.ir.bounds import bounds, over_ranges
from neve.ir.index import Index, Mod, Var
from neve.ir.tokens import Tokens
from neve.ir.types import Range, same, symbol

N, K = symbol("n"), symbol("k")
SIZES = [{N: n, K: k} for n, k in itertools.product((0, 1, 2, 3, 7, 8, 30), (0, 1, 2, 5, 9))]
Form = Callable[[Any, Any], Any]
"""An expression of two numbers: ints or Indexes."""


def random_form(r: random.Random, depth: int = 3) -> Form:
    """With divisions by numbers above 0 alone, so that it has a value at all sizes."""
    if depth == 0 or r.random() < 0.15:
        c = r.randint(-9, 9)
        return r.choice([lambda n, k: n, lambda n, k: k, lambda n, k: c])
    a, b, c = random_form(r, depth - 1), random_form(r, depth - 1), r.randint(1, 8)
    return r.choice(
        [
            lambda n, k: a(n, k) + b(n, k),
            lambda n, k: a(n, k) - b(n, k),
            lambda n, k: a(n, k) * c,
            lambda n, k: a(n, k) * b(n, k),
            lambda n, k: a(n, k) // c,
            lambda n, k: (a(n, k) + c) // 2,
            lambda n, k: a(n, k) % c,
        ]
    )


FORMS = [random_form(random.Random(seed)) for seed in range(160)]
MADE = [Index.of(f(N, K)) for f in FORMS]


def values(f: Form) -> list[int]:
    return [f(at[N], at[K]) for at in SIZES]


def test_values_are_those_of_python() -> None:
    for f, e in zip(FORMS, MADE, strict=True):
        assert [e.at(at) for at in SIZES] == values(f), e


def test_text_is_python_and_is_read_back() -> None:
    for f, e in zip(FORMS, MADE, strict=True):
        assert [eval(str(e), {"n": at[N], "k": at[K]}) for at in SIZES] == values(f)
        tokens = Tokens(str(e).replace(" ", "").replace("%", " % "), {}, {})
        assert tokens.value(0, "") == e and tokens.expect_end() is None, str(e)


def test_sympy_and_back() -> None:
    for e in MADE:
        again = in_whole_numbers(in_sympy(e))
        assert again is not None and again[1] == 1 and [again[0].at(at) for at in SIZES] == [e.at(at) for at in SIZES]
        assert same(again[0], e) or any(isinstance(a, Mod) for a in e.inside)  # of remainders sympy knows more
        assert in_whole_numbers(in_sympy(again[0])) == again


def test_constants_are_their_ints() -> None:
    for e in MADE:
        if e.const is not None:
            assert e == e.const and hash(e) == hash(e.const) and {e.const: 1}[e] == 1
        else:
            with pytest.raises(TypeError, match="not known here"):
                int(e)


def test_what_sympy_cancels_is_the_same() -> None:
    """What differs by terms that divide, by common factors, or by how floors are nested, is one Index."""
    plain = [e for e in MADE if not any(isinstance(a, Mod) for a in e.inside)]  # a remainder may be below a divisor
    for e, d in itertools.pairwise(plain[:60]):
        for m, c in ((2, 3), (3, 4), (8, 5)):
            assert same((e + m * c) // m, e // m + c) and same((m * e + c) // m, e + c // m)
            assert same((e // m) // c, e // (m * c))
            assert same((e // m + m) // c, (e + m * m) // (m * c))
            assert same((c * e) // (c * m), e // m) and same((c * e) % (c * m), e % m * c)
            assert same((e * K) // (m * K), e // m) and same((e * d - d * e) + m, m)
    x, y = map(in_sympy, (N, K))
    assert sympy.floor(x * y / y) == x and same(N * K // K, N) and same((6 * N) // (4 * K), (3 * N) // (2 * K))


RANGES = [(Range(0, 30), Range(0, 9)), (Range(0, 4000), Range(0, 70)), (Range(0), Range(2, 9))]
INNER = [N - 5, 5 - N, 2 * N - 8, N - 3 * K, N + 7, N // 2 - 3, 2 * (N // 3) - 2 * K]


@pytest.mark.parametrize("ranges", RANGES)
def test_bounds_hold(ranges: tuple[Range, Range]) -> None:
    given = dict(zip((N, K), ranges, strict=True))
    inside = [at for at in SIZES if all(r.min <= at[s] for s, r in given.items())]
    for e in MADE:
        found, everywhere = bounds(e, given), over_ranges(e, given)
        at = [e.at(sizes) for sizes in inside]
        assert found is None or found[0] <= min(at) <= max(at) <= found[1], (e, found)
        if everywhere is not None and found is not None:
            assert found[0] <= everywhere.min() and everywhere.max() <= found[1]


@pytest.mark.parametrize("inner", INNER, ids=str)
def test_bounds_of_positive_parts(inner: Index) -> None:
    """Those of max(x, 0), and none that are too narrow where x is not below what it is divided by."""
    ranges = {N: Range(0, 600), K: Range(0, 500)}
    values = [
        (e.at(sizes), m, e)
        for m in (1024, 4096)
        for e in [N + inner * ((inner + m) // m)]
        for sizes in ({N: n, K: k} for n, k in itertools.product((0, 599, 600), (0, 500)))
    ]
    for value, m, e in values:
        found = bounds(e, ranges)
        assert found is not None and found[0] <= value <= found[1] and (found[0] >= 0 or m == 1024), (e, m, found)


def test_bounds_of_what_cancels() -> None:
    ranges = {N: Range(1, 10**6), K: Range(1, None)}
    for e, want in (
        (4 * ((N + 3) // 4) - N, (0, 3)),
        (N - N // 2, (0, 500000)),
        (N * K, (1, float("inf"))),
        (N % 7, (0, 6)),
        (-(N // 3), (-333333, 0)),
        (3 // (N + 1), (0, 1)),
    ):
        found = bounds(e, ranges)
        assert found is not None and want[0] <= found[0] and found[1] <= max(want[1], want[1] + 1), (e, found)


def test_what_is_divided_by_zero_has_no_value() -> None:
    for e in (N // 0, N % 0, N // (N - N), N // K, (N * K) % K + 1 % K, (K - K) // (2 * K)):
        assert bounds(e, {N: Range(0, 9), K: Range(0, 9)}) is None or e.const is not None
        with pytest.raises(ZeroDivisionError) if e.const is None else contextlib.nullcontext():
            e.at({N: 3, K: 0})
    assert N // -2 == (-N) // 2 and [(N % -3).at({N: n}) for n in range(7)] == [n % -3 for n in range(7)]


def test_a_product_with_what_may_be_negative_has_no_bound_by_its_factors() -> None:
    i, j, k = (Index.of(Var(name, Index.of(4))) for name in "ijk")
    assert not (i * ((j - k) // 2)).nonnegative and (i * (j // 2)).nonnegative
