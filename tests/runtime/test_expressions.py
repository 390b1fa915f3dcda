from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neve.errors import ArtifactError, NeveError
from neve.runtime.expressions import compile_sizes, linear


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (7, 7),
        ("s0", 10),
        ("2*s0 + 1", 21),
        ("s0//3", 3),
        ("-s0//3", -4),
        ("s0 % 3", 1),
        ("floor(s0/3)", 3),
        ("ceiling(s0/3)", 4),
        ("floor(s0/4 - s1/4)", 1),
        ("s0/2", 5),
        ("Max(1, s0, s1)", 10),
        ("Min(s0, s1) + Max(-1, -s1)", 3),
        ("Mod(s0, 4)", 2),
        ("FloorDiv(s0 - 1, 2) + 1", 5),
        ("s0**2", 100),
        ("(s0 + 1)**2", 121),
        ("Mod(s0, 2) == 0", True),
        ("Ne(s0, 10)", False),
        ("s0 > 3 and s1 < 3", False),
        ("(s0 > 3) & (s1 > 3)", True),
        ("Where(s0 > s1, s0, s1)", 10),
    ],
)
def test_values(text: int | str, value: int) -> None:
    (got,) = compile_sizes([text], ["s0", "s1"])(10, 4)
    assert got == value
    assert type(got) in (int, bool)


@pytest.mark.parametrize(
    "text",
    [
        "s2",
        "__import__('os').system('true')",
        "s0.__class__",
        "(lambda: 1)()",
        "[s0]",
        "s0[0]",
        "'a'*3",
        "1.5*s0",
        "Max(*s0)",
        "Max(s0, key=s1)",
        "open(1)",
        "_whole(s0)",
        "__builtins__",
        "s0 << 999999999",
        "9**99999999",
        "((9**8)**8)**8",
        "s0**s1",
        str(2**70),
        "(s0 := 3)",
        "s0 if s1 else 2",
        "",
        "s0 +",
        "\0",
        "(" * 3000 + "1" + ")" * 3000,
        "-" * 3000 + "1",
        "1 + " * 2000 + "1",
        None,
        1.5,
        True,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError):
        compile_sizes([text], ["s0", "s1"])


@given(st.text(max_size=40))
def test_no_text_does_anything_but_evaluate_or_refuse(text: str) -> None:
    try:
        function = compile_sizes([text], ["s0"])
        function(3)
    except (NeveError, ArithmeticError, ValueError, TypeError):
        pass


def test_what_has_no_whole_value_raises() -> None:
    with pytest.raises(ValueError, match="not a whole number"):
        compile_sizes(["s0/3"], ["s0"])(10)
    with pytest.raises(ZeroDivisionError):
        compile_sizes(["7//s0"], ["s0"])(0)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("s0", ({"s0": 1}, 0)),
        ("2*s0 + 1", ({"s0": 2}, 1)),
        ("3*(s0 - 2) - s1*4", ({"s0": 3, "s1": -4}, -6)),
        ("-s0", ({"s0": -1}, 0)),
        ("s0*s1", None),
        ("s0//2", None),
        (5, ({}, 5)),
    ],
)
def test_linear_forms(text: int | str, form: object) -> None:
    assert linear(text, ["s0", "s1"]) == form


@given(st.integers(-5, 5), st.integers(-5, 5), st.integers(-5, 5), st.integers(0, 99), st.integers(0, 99))
def test_linear_forms_have_the_value_of_the_expression(a: int, b: int, c: int, x: int, y: int) -> None:
    text = f"({a})*s0 + s1*({b}) - ({c} - 2*(s0 - s1))"
    form = linear(text, ["s0", "s1"])
    assert form is not None
    factors, constant = form
    assert (factors.get("s0", 0) * x + factors.get("s1", 0) * y + constant,) == compile_sizes([text], ["s0", "s1"])(
        x, y
    )
