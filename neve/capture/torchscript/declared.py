"""What is declared of the sizes of a method's arguments, and which of their comparisons that leaves open."""

from __future__ import annotations

from typing import Any

import sympy
import torch
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy.value_ranges import ValueRanges

from neve.capture.guards import holds
from neve.capture.symbols import OF_DATA, Symbols, UnsupportedSize

RELATIONS = {"lt": sympy.Lt, "le": sympy.Le, "gt": sympy.Gt, "ge": sympy.Ge, "eq": sympy.Eq, "ne": sympy.Ne}


class Declared:
    """The symbols of a tape, and the ranges of those that stand for a torch.export.Dim of its own."""

    def __init__(self, environment: ShapeEnv) -> None:
        self._environment = environment
        self._all: dict[sympy.Symbol, str] = {}
        self._ranges: dict[sympy.Symbol, Any] = {}
        self._names: dict[sympy.Symbol, tuple[str, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(self, size: Any, what: str, declared: Any = None) -> None:
        """A size, or an int argument; what: where it is; declared: its Dim, or what else was said of it."""
        if not isinstance(size, torch.SymInt):
            return
        self._all[size.node.expr] = what
        if type(declared) is torch.export.Dim:
            self._ranges[size.node.expr] = ValueRanges(declared.min, declared.max)
            self._names[size.node.expr] = declared.__name__, declared.min

    def fixed(self) -> str | None:
        """Which size torch has taken the example's number for, if there is one."""
        return next((what for s, what in self._all.items() if self._environment.replace(s).is_number), None)

    def varies(self, name: str, a: Any, b: Any) -> bool:
        """Whether a comparison (a key of RELATIONS) may be true for some declared sizes, and false for others; of sizes
        that data decide, whether it may be either.
        """
        left, right = (sympy.sympify(getattr(getattr(x, "node", None), "expr", x)) for x in (a, b))
        if any(OF_DATA.match(s.name) for s in left.free_symbols | right.free_symbols):
            return RELATIONS[name](left, right) not in (sympy.true, sympy.false)
        if not (left.free_symbols | right.free_symbols) <= self._ranges.keys():
            return False
        symbols = Symbols().method(self._ranges, self._names)
        relation = RELATIONS[name](left, right, evaluate=False)
        try:
            return not holds(relation, symbols) and not holds(sympy.Not(relation), symbols)
        except UnsupportedSize:
            return False
