from __future__ import annotations

import itertools
import random
import reprlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neve.errors import ArtifactError, NeveError
from neve.ir.index import Index, tree
from neve.runtime.expressions import compile_sizes, linear, show
from tests.ir.test_index import MADE, SIZES, K, N

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.sampled_from(["n", "k"])),
    lambda inner: (
        st.lists(st.one_of(st.sampled_from(["+", "*", "//", "%", "min", "<", "=="]), inner), max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
)


def test_sizes_of_a_graph_have_their_values_and_their_text() -> None:
    trees = [tree(e) for e in MADE]
    function = compile_sizes(trees, ["n", "k"])
    for at in SIZES:
        assert function(at[N], at[K]) == tuple(e.at(at) for e in MADE)
    for t, e in zip(trees, MADE, strict=True):
        assert [eval(show(t), {"n": at[N], "k": at[K]}) for at in SIZES] == [e.at(at) for at in SIZES], t


@pytest.mark.parametrize(
    ("relation", "text", "value"),
    [
        (["!=", ["%", "n", 5], 4], "n % 5 != 4", True),
        (["<=", ["+", "n", ["*", -2, "k"]], 1], "n - 2*k <= 1", False),
        (["min", ["*", 3, "k"], "n", 7], "min(3*k, n, 7)", 6),
        (["-", "n", 1], None, None),
    ],
)
def test_relations(relation: Any, text: str | None, value: Any) -> None:
    if text is None:
        with pytest.raises(ArtifactError, match="which no size needs"):
            compile_sizes([relation], ["n", "k"])
        return
    assert show(relation) == text and compile_sizes([relation], ["n", "k"])(10, 2) == (value,)


def nested(depth: int) -> Any:
    made: Any = "n"
    for _ in range(depth):
        made = ["+", made, 1]
    return made


@pytest.mark.parametrize(
    "wrong",
    [
        *("m", "n + 1", "", "__import__", 2**70, None, 1.5, True, {}, [], ["n"], ["+"], ["+", "n"], [["+"], "n", 1]),
        *(["//", "n", 2, 2], ["%", "n"], ["**", "n", 2], ["<", "n", 1, 2], ["+", "n", None], ["min", "n"]),
        *(nested(51), nested(5000), ["+", *[["*", "n", "n"]] * 1500], ["+", *["n"] * 1001], ["call", "n"]),
    ],
    ids=reprlib.repr,
)
def test_anything_else_is_refused(wrong: Any) -> None:
    with pytest.raises(ArtifactError):
        compile_sizes([wrong], ["n", "k"])


@given(JSON)
def test_no_data_does_anything_but_evaluate_or_refuse(data: Any) -> None:
    try:
        (value,) = compile_sizes([data], ["n", "k"])(3, 4)
    except (NeveError, ZeroDivisionError):
        return
    assert type(value) in (int, bool)


def test_what_has_no_value_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        compile_sizes([["//", 7, "n"]], ["n"])(0)
    assert compile_sizes([["min", "min", 3]], ["min"])(5) == (3,)


def test_linear_forms() -> None:
    r = random.Random(0)
    for a, b, c in itertools.product(range(-3, 4), repeat=3):
        for e in (N * a + K * b + c, (N + b) * a - (K * c + N) * 2):
            found = linear(tree(Index.of(e)), ["n", "k"])
            assert found is not None
            x, y = r.randrange(50), r.randrange(50)
            assert found[0].get("n", 0) * x + found[0].get("k", 0) * y + found[1] == Index.of(e).at({N: x, K: y})
    assert linear(["*", ["+", "n", 2], -3], ["n"]) == ({"n": -3}, -6)
    for e in (N * K, N // 2, N % 3):
        assert linear(tree(e), ["n", "k"]) is None
