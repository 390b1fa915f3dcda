"""What torch.export assumed of symbolic sizes: proved from their ranges, or else a reason to refuse."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sympy

from neve.capture.regions import COMPARE
from neve.capture.symbols import MethodSymbols, UnsupportedSize, in_whole_numbers, plain_symbol
from neve.internals import require
from neve.ir.bounds import over_ranges
from neve.ir.index import Div, Index, Mod
from neve.ir.types import dim, symbol

LAYOUT = frozenset({"is_contiguous", "check_contiguous_sizes_strides"})
"""Functions of torch._prims_common that ask."""

REIFIED = "torch.fx.experimental.symbolic_shapes._has_uninterpretable_sympy_function"


def unproved(program: Any, symbols: MethodSymbols) -> Iterator[str]:
    """A reason for every assumption about sizes that does not follow from their declared ranges."""
    env = shape_env(program)
    for guard in (*env.guards, *_dropped(env)) if env is not None else ():
        relation = env.replace(guard.expr)
        if not symbols.knows(relation.free_symbols) or symbols.is_torch_minimum(relation) or _of_layout(guard):
            continue
        try:
            reason = _check(relation, symbols)
        except UnsupportedSize:
            reason = f"the model assumes {relation} of its sizes, which is not supported"
        if reason:
            yield reason


def _dropped(env: Any) -> list[Any]:
    """What torch.export defers to the run, and then does not write into the graph: relations of rounded numbers."""
    require("a model with dynamic sizes", REIFIED)
    unwritten: Any = pkgutil.resolve_name(REIFIED)
    return [a for asserts in env.deferred_runtime_asserts.values() for a in asserts if unwritten(a.expr)]


def _of_layout(guard: Any) -> bool:
    """Whether torch only asked if memory is contiguous, on which nothing in a graph depends."""
    asked: Any = getattr(getattr(guard, "sloc", None), "framework_loc", None)
    return getattr(asked, "name", "") in LAYOUT and "_prims_common" in asked.filename


def of_strides(relation: Any) -> bool:
    """Whether torch asks this for the strides of views alone (x != 0, x != 1): no value in a graph depends on it."""
    return isinstance(relation, sympy.Ne) and relation.rhs in (0, 1)


def holds(relation: Any, symbols: MethodSymbols) -> bool | None:
    """Whether a relation between sizes is always true (True), sometimes false (False), or not known (None)."""
    if relation in (sympy.true, sympy.false, True, False):
        return bool(relation)
    region = symbols.region
    if region is not None and region.conditions and region.implies(ours(relation, symbols)):
        return True
    if isinstance(relation, sympy.And):
        return _all([holds(a, symbols) for a in relation.args])
    if isinstance(relation, sympy.Or):
        known = _all([_not(holds(a, symbols)) for a in relation.args])
        return _not(known)
    if isinstance(relation, sympy.Not):
        relation = sympy.Not(relation.args[0])
    if not isinstance(relation, sympy.core.relational.Relational):
        return None
    left, right = (symbols.rational(side) for side in (relation.lhs, relation.rhs))
    difference = sympy.expand(left - right)
    decided = _by_bounds(relation, difference, symbols)
    if decided is not None:
        return decided
    test = relation.func
    whole = in_whole_numbers(difference)
    everywhere = over_ranges(whole[0], symbols.ranges) if whole is not None else None
    if everywhere is not None:
        return bool(COMPARE[test](everywhere, 0).all())
    if any(value is not None and test(value, 0) == sympy.false for value in values(difference, symbols)):
        return False
    return None


def ours(relation: Any, symbols: MethodSymbols) -> Any:
    """A relation in the symbols of the Program. Raises UnsupportedSize."""
    if isinstance(relation, sympy.And | sympy.Or | sympy.Not):
        return relation.func(*(ours(a, symbols) for a in relation.args))
    if not isinstance(relation, sympy.core.relational.Relational):
        raise UnsupportedSize(f"{relation}")
    return relation.func(*(symbols.rational(side) for side in relation.args))


def values(e: sympy.Expr, symbols: MethodSymbols) -> Iterator[sympy.Expr | None]:
    """The values of e at a few sizes; None where it has none."""
    return (_value(e, at) for at in symbols.points(symbol(s.name) for s in e.free_symbols))


def _value(e: sympy.Expr, at: Mapping[Index, int]) -> sympy.Expr | None:
    try:
        value = e.subs({plain_symbol(s): n for s, n in at.items()})
    except ZeroDivisionError:
        return None
    return value if value.is_finite else None


def _by_bounds(relation: Any, difference: sympy.Expr, symbols: MethodSymbols) -> bool | None:
    if not difference.free_symbols:
        return bool(relation.func(difference, 0))
    whole = in_whole_numbers(difference)
    bounds = symbols.range(dim(whole[0])) if whole is not None else None
    if bounds is None:
        return None
    low, high = bounds
    decisions = {
        sympy.Ne: low > 0 or high < 0,
        sympy.Ge: low >= 0,
        sympy.Gt: low > 0,
        sympy.Le: high <= 0,
        sympy.Lt: high < 0,
    }
    return True if decisions.get(relation.func) else None


def _check(relation: Any, symbols: MethodSymbols) -> str | None:
    known = holds(relation, symbols)
    if known or (known is None and not isinstance(relation, sympy.Eq)):
        return None
    left, right = (symbols.rational(side) for side in getattr(relation, "args", (relation, 0))[:2])
    only = written(relation.func(left, right, evaluate=False))
    return f"the model is right only where {only}: declare the sizes so (torch.export.Dim with min and max, or 2 * Dim)"


def written(relation: Any) -> str:
    """A relation as Python code."""
    joint = {sympy.And: " and ", sympy.Or: " or "}.get(type(relation))
    if joint:
        parts = [f"({written(a)})" if isinstance(a, sympy.And | sympy.Or) else written(a) for a in relation.args]
        return joint.join(parts)
    if isinstance(relation, sympy.Not):
        return f"not ({written(relation.args[0])})"
    if isinstance(relation, sympy.core.relational.Relational) and relation.lhs.is_number:
        relation = relation.reversed
    sign = {sympy.Eq: "==", sympy.Ne: "!="}.get(type(relation))
    return in_python(f"{relation.lhs} {sign} {relation.rhs}" if sign else str(relation))


def multiples(sizes: Sequence[Any]) -> str:
    """What to declare so that divisions in these sizes, dims or plain sympy, have no remainder."""
    whole = [(Index.of(d), 1) if isinstance(d, (int, Index)) else in_whole_numbers(d) for d in sizes]
    divided = [a for e in whole if e is not None for a in e[0].inside if isinstance(a, (Div, Mod))]
    found = {f"{a.num} as {a.den} * torch.export.Dim(…)": None for a in divided if a.num.is_symbol and a.den.const}
    return (
        f"declare {', '.join(sorted(found))}" if found else "declare sizes as multiples of a torch.export.Dim (2 * Dim)"
    )


OPERATORS = {"Mod": "%", "PythonMod": "%", "FloorDiv": "//", "Eq": "==", "Ne": "!="}
_OPERAND = r"((?:[^(),]|\([^()]*\))+)"
CALL = re.compile(rf"\b({'|'.join(OPERATORS)})\({_OPERAND}, {_OPERAND}\)")
FLOOR = re.compile(r"\b(floor)\(([^()/]+)/(\w+)\)")
READ = re.compile(r"(?<![.'\"])\b(?:u|zuf|zf)\d+\b")


def in_python(text: str) -> str:
    """A text with sympy's expressions of sizes in it, with these as Python code: t % 4 for Mod(t, 4)."""
    before = ""
    while before != text:
        before, text = text, CALL.sub(_infix, FLOOR.sub(_infix, text))
    return READ.sub("(a number read from a tensor)", text)


def _infix(call: re.Match[str]) -> str:
    """In brackets, unless it stands alone between commas, brackets or relations."""
    sign = OPERATORS.get(call[1], "//")
    operands = [f"({x})" if sign in ("%", "//") and " " in x else x for x in call.groups()[1:]]
    made = f"{operands[0]} {sign} {operands[1]}"
    left, right = call.string[: call.start()].rstrip()[-1:], call.string[call.end() :].lstrip()[:1]
    return made if left in "([,=<>" and right in ")],=<>!:" else f"({made})"


def _all(parts: list[bool | None]) -> bool | None:
    return False if False in parts else None if None in parts else True


def _not(known: bool | None) -> bool | None:
    return None if known is None else not known


def shape_env(program: Any) -> Any:
    """What torch knows of the symbols of an ExportedProgram; None if it has none."""
    for node in program.graph.nodes:
        val = node.meta.get("val")
        mode = getattr(val, "fake_mode", None)
        if mode is not None and mode.shape_env is not None:
            return mode.shape_env
    return None
