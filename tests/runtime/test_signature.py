from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.errors import ArtifactError, NeveError
from neve.runtime.signature import read_signature
from neve.runtime.sizes import Solver
from tests.handmade import counter, dynamic, method

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(p for key, value in items for p in _places(value, (*path, key)))]


def _replaced(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    data = copy.deepcopy(data)
    at = data
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return data


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_change_is_read_or_refused(data: st.DataObject) -> None:
    good = data.draw(st.sampled_from([dynamic().signature, counter().signature]))
    changed = _replaced(good, data.draw(st.sampled_from(_places(good))), data.draw(JSON))
    with contextlib.suppress(NeveError):
        read_signature(changed)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("abi",), 2, "C interface is version 2"),
        (("methods",), {}, "no methods"),
        (("name",), "a b", "identifier"),
        (("methods", "add", "symbol"), "system;", "identifier"),
        (("methods", "add", "inputs", 0, "dtype"), "complex32", "wanted one of float32"),
        (("methods", "add", "inputs", 0, "shape"), [-1], "shape"),
        (("methods", "add", "inputs", 0, "shape"), ["s9"], "'s9'"),
        (("methods", "add", "in_tree", "args"), [], r"leaves \[\] for 1"),
        (("methods", "add", "in_tree", "writes"), [[0, 1]], "the output that it is overwritten with"),
        (("methods", "add", "in_tree", "writes"), [[0, "out"]], "the output that it is overwritten with"),
        (("methods", "add", "out_tree"), {"leaf": 1}, "beyond its 1 outputs"),
        (("methods", "add", "out_tree"), {"leaf": 0, "none": True}, "a tree is one of"),
        (("state", 0, "offset"), 16, "outside the context"),
        (("state", 0, "offset"), 3, "not aligned"),
        (("state", 0, "shape"), [2**40], "outside the context"),
        (("context_size",), -1, "whole number"),
        (("attributes",), {"n": {"leaf": 1}}, "number of one of 1 states"),
        (("attributes",), {"n": {"leaf": 0, "as": "float"}}, "is no float"),
        (("attributes",), {"n": {"leaf": 0, "view": [0, [2], [1]]}}, "lies outside"),
        (("attributes",), {"n": {"leaf": 0, "view": [0, [1], [-1]]}}, "wanted a view"),
        (("attributes",), {"n": {"tuple": [{"object": 3}]}}, "a tree is one of"),
        (("attributes",), {"n": {"leaf": 0, "more": 1}}, "number of one of 1 states"),
    ],
)
def test_what_is_wrong_is_named(path: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        read_signature(_replaced(counter().signature, path, value))


def _solver(shapes: list[list[Any]], symbols: list[str], **more: Any) -> Solver:
    inputs = [(f"x{i}", "float32", shape) for i, shape in enumerate(shapes)]
    listed = [{"name": s, "min": 0, "max": None} for s in symbols]
    made = method("f", inputs, [("y", "float32", symbols)], symbols=listed, **more)
    signature = {"abi": 1, "name": "m", "methods": {"forward": made}, "state": [], "context_size": 0, "weights_size": 0}
    return Solver(read_signature(signature).methods["forward"])


def test_symbols_are_solved_from_affine_sizes_in_any_order() -> None:
    solver = _solver(
        [[["+", ["*", 2, "s0"], ["*", 3, "s1"], -1], ["*", "s1", "s0"]], [["+", ["*", 4, "s1"], 2]]], ["s0", "s1"]
    )
    assert solver.solve([(2 * 5 + 3 * 7 - 1, 35), (30,)], [None, None]).outputs == ((5, 7),)


def test_a_plain_size_goes_before_a_derived_one() -> None:
    solver = _solver([[["*", 2, "s0"], "s0"]], ["s0"])
    with pytest.raises(NeveError, match=r"got float32 \[7, 4\].*which is \[8, 4\]"):
        solver.solve([(7, 4)], [None])


def test_a_symbol_that_no_input_tells_is_refused_at_once() -> None:
    with pytest.raises(ArtifactError, match="no input tells the size s1"):
        _solver([["s0", ["*", "s0", "s1"]]], ["s0", "s1"])


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(NeveError, match=r"got float32 \[6\]"):
        _solver([[["+", ["*", 2, "s0"], 1]]], ["s0"]).solve([(6,)], [None])
