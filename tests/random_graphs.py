"""Random graphs: each step applies a random op to random earlier values. Every choice is one call of `integer`.

Values stay of moderate size, and ops that jump (comparisons, rounding, positions of extrema) see only values that every
correct computation gives bit for bit, so that two correct computations of a graph differ by rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from neve.ir.graph import Graph, Value
from neve.ir.types import DType, TensorType, broadcast
from tests.passes.support import Build, boolean, f16, f32, f64, i32, i64

Integer = Callable[[int, int], int]
"""A number between two, both included: drawn by hypothesis or by random.Random.randint."""

FLOATS = (f32, f64, f16, DType.bfloat16)
LARGE = 32.0
"""Values that may be larger than this are scaled down before they are used."""
CELLS = 4096
HINT = 8
"""What a symbolic size is taken to be where a number is needed; the least that it may be is 4."""


class Unfit(Exception):
    """A step finds no operands that it could be applied to."""


class Random:
    """Grows a graph from inputs. STEPS are the methods to choose from."""

    STEPS: ClassVar[tuple[Callable[[Any], Value], ...]] = ()

    def __init__(self, integer: Integer, inputs: Sequence[TensorType]) -> None:
        self.integer, self.b, self.seed = integer, Build(), 0
        self.values: list[Value] = []
        self.bounds: dict[Value, float] = {}
        self.exact: set[Value] = set()
        for t in inputs:
            v = self.b.x(*t.shape, dtype=t.dtype)
            self.values.append(v)
            self.bounds[v] = 4.0 if t.dtype.is_float else 100.0
            self.exact.add(v)

    # --- what steps use -----------------------------------------------------------------------------------------------

    def choice(self, options: Sequence[Any]) -> Any:
        if not options:
            raise Unfit
        return options[self.integer(0, len(options) - 1)]

    def pick(self, fits: Callable[[Value], bool] = lambda v: True, exact: bool = False, limit: float = LARGE) -> Value:
        """One of the latest values that fit, or else any that fits; a float's size is at most limit."""
        found = [v for v in self.values if fits(v) and (not exact or v in self.exact)]
        return self.tame(self.choice(found[-5:]), limit)

    def floating(self, rank: int = 0, exact: bool = False, limit: float = LARGE) -> Value:
        return self.pick(lambda v: v.dtype.is_float and len(v.shape) >= rank, exact, limit)

    def tame(self, x: Value, limit: float) -> Value:
        if not x.dtype.is_float or self.bounds[x] <= limit:
            return x
        factor = 0.5 ** int(np.ceil(np.log2(self.bounds[x] / limit)))
        return self.op("mul", x, self.number(factor, x.dtype))

    def number(self, value: Any, dtype: DType) -> Value:
        v = self.b.num(value, dtype)
        self.bounds[v] = abs(float(value))
        self.exact.add(v)
        return v

    def weight(self, *shape: int, dtype: DType = f32, low: float = -1, high: float = 1) -> Value:
        self.seed += 1
        v = self.b.rand(*shape, seed=self.seed, dtype=dtype, low=low, high=high)
        self.bounds[v] = max(abs(low), abs(high))
        self.exact.add(v)
        return v

    def positions(self, shape: Sequence[int], size: int) -> Value:
        """Indices in 0..size-1."""
        self.seed += 1
        return self.b.const(np.random.default_rng(self.seed).integers(0, size, tuple(shape)), self.choice([i64, i32]))

    def op(self, name: str, *inputs: Value, bound: float | None = None, exact: bool = False, **more: Any) -> Value:
        """Apply an op; bound is the largest magnitude of the result (default: that of the inputs)."""
        v = self.b.op(name, *inputs, **more)
        self.bounds[v] = max((self.bounds.get(x, 1.0) for x in inputs), default=1.0) if bound is None else bound
        if (exact and all(x in self.exact for x in inputs if x in self.bounds)) or not v.dtype.is_float:
            self.exact.add(v)
        return v

    def axis(self, x: Value) -> int:
        return self.choice(range(len(x.shape)))

    def axes(self, x: Value) -> tuple[int, ...]:
        return tuple(a for a in range(len(x.shape)) if self.integer(0, 1)) or (self.axis(x),)

    def order(self, n: int) -> tuple[int, ...]:
        left = list(range(n))
        return tuple(left.pop(self.integer(0, len(left) - 1)) for _ in range(n))

    @staticmethod
    def count(dims: Sequence[Any]) -> int:
        """About how many elements."""
        n = 1
        for d in dims:
            n *= d if isinstance(d, int) else d.at(dict.fromkeys(d.symbols, HINT))
        return n

    # --- growing ------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One more value: of a step that its operands fit."""
        for _ in range(20):
            kept = len(self.b.nodes)
            try:
                v = self.choice(self.STEPS)(self)
                if self.count(v.shape) <= CELLS:
                    self.values.append(v)
                    return
            except (Unfit, ValueError):  # an op refuses its operands
                pass
            del self.b.nodes[kept:]

    def graph(self, length: int) -> Graph:
        inputs = len(self.values)
        for _ in range(length):
            self.step()
        outputs = [self.values[-1], *(v for v in self.values[inputs:-1] if self.integer(0, 5) == 0)]
        return self.b.build(outputs)

    # --- pointwise ----------------------------------------------------------------------------------------------------

    def unary(self) -> Value:
        name = self.choice(["neg", "abs", "relu", "sigmoid", "tanh", "silu", "erf", "sin", "gelu", "hardswish"])
        return self.op(name, self.floating(), exact=name in ("neg", "abs", "relu"))

    def exponential(self) -> Value:
        return self.op("exp", self.op("clamp", self.floating(), min=-8.0, max=2.0, exact=True), bound=8.0)

    def of_positive(self) -> Value:
        x = self.op("abs", self.floating())
        name = self.choice(["sqrt", "rsqrt", "log", "reciprocal", "log1p"])
        return self.op(name, self.op("add", x, self.number(0.5, x.dtype)))

    def jump(self) -> Value:
        return self.op(self.choice(["floor", "round", "sign", "trunc", "ceil"]), self.floating(exact=True), exact=True)

    def with_number(self) -> Value:
        name = self.choice(["add", "sub", "mul", "maximum", "minimum", "div"])
        x = self.floating()
        value = 4.0 if name == "div" else self.choice([0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 6.0, -2.0])
        n = self.number(value, x.dtype)
        swap = name in ("add", "sub", "mul") and self.integer(0, 1)
        return self.op(
            name, *((n, x) if swap else (x, n)), bound=self.bounds[x] * 6 + 6, exact=name in ("maximum", "minimum")
        )

    def with_constant(self) -> Value:
        x = self.floating()
        shape = [d if isinstance(d, int) and self.integer(0, 1) else 1 for d in x.shape]
        c = self.weight(*shape[self.integer(0, len(shape)) :], dtype=x.dtype)
        return self.op(self.choice(["add", "sub", "mul"]), x, c, bound=self.bounds[x] + 1)

    def partner(self, x: Value) -> Value:
        """Another value that broadcasts with x."""

        def fits(v: Value) -> bool:
            try:
                return v.dtype is x.dtype and self.count(broadcast(x.shape, v.shape)) <= CELLS
            except ValueError:
                return False

        return self.pick(fits)

    def binary(self) -> Value:
        x = self.floating()
        y = self.partner(x)
        name = self.choice(["add", "sub", "mul", "maximum", "minimum"])
        a, b = self.bounds[x], self.bounds[y]
        return self.op(name, x, y, bound=a * b if name == "mul" else a + b, exact=name in ("maximum", "minimum"))

    def quotient(self) -> Value:
        x = self.floating()
        y = self.op("abs", self.partner(x))
        return self.op("div", x, self.op("add", y, self.number(0.5, x.dtype)), bound=2 * self.bounds[x])

    def clamp(self) -> Value:
        lo, hi = sorted((self.integer(-3, 3), self.integer(-3, 3)))
        return self.op("clamp", self.floating(), min=float(lo), max=float(hi), exact=True)

    def masked(self) -> Value:
        x = self.floating()
        seen = self.floating(exact=True)
        mask = self.op(self.choice(["gt", "le", "ne"]), seen, self.number(0.5, seen.dtype))
        return self.op("where", mask, x, self.number(self.choice([0.0, 2.0]), x.dtype), exact=True)

    def chosen(self) -> Value:
        mask = self.pick(lambda v: v.dtype is boolean)
        x = self.floating()
        return self.op("where", mask, x, self.partner(x), exact=True)

    def compare(self) -> Value:
        x = self.pick(lambda v: v.dtype is not boolean, exact=True)
        fits = [v for v in self.values if v in self.exact and v.dtype is x.dtype and v.shape == x.shape]
        return self.op(self.choice(["lt", "ge", "eq"]), x, self.choice(fits))

    def logical(self) -> Value:
        x = self.pick(lambda v: v.dtype is boolean)
        y = self.partner(x)
        return self.op(self.choice(["logical_and", "logical_or", "logical_xor"]), x, y)

    def integers(self) -> Value:
        x = self.pick(lambda v: v.dtype.is_int)
        name = self.choice(["add", "sub", "mul", "maximum", "bitwise_xor", "bitwise_and", "remainder", "floor_divide"])
        if name in ("remainder", "floor_divide"):
            return self.op(name, x, self.number(self.choice([1, 2, 3, 7]), x.dtype))
        return self.op(name, x, self.partner(x))

    def cast(self) -> Value:
        """Between types; to integers only what is exact, and small enough for all of them."""
        to = self.choice([*FLOATS, i64, i32, boolean])
        x = self.pick(exact=not to.is_float)
        if not x.dtype.is_float and x.dtype is not boolean and to.is_float:
            x = self.op("remainder", x, self.number(64, x.dtype), bound=64.0)
        return self.op("cast", x, bound=max(self.bounds[x], 1.0), exact=True, dtype=to)

    # --- views --------------------------------------------------------------------------------------------------------

    def reshape(self) -> Value:
        """Neighbouring axes merged, or one split, or an axis of 1 put in."""
        x = self.pick()
        shape, kind = list(x.shape), self.integer(0, 2)
        if kind == 0 and len(shape) > 1:
            k = self.integer(0, len(shape) - 2)
            shape[k : k + 2] = [shape[k] * shape[k + 1]]
        elif kind == 1 and shape:
            k = self.axis(x)
            if not isinstance(shape[k], int) or not shape[k]:
                raise Unfit
            d = self.choice([d for d in range(1, shape[k] + 1) if shape[k] % d == 0])
            shape[k : k + 1] = [d, shape[k] // d]
        else:
            shape.insert(self.integer(0, len(shape)), 1)
        return self.same_bits("reshape", x, shape=tuple(shape))

    def same_bits(self, name: str, x: Value, **more: Any) -> Value:
        if len(x.shape) > 5:
            raise Unfit
        return self.op(name, x, exact=True, **more)

    def permute(self) -> Value:
        x = self.pick(lambda v: len(v.shape) > 1)
        return self.same_bits("permute", x, dims=self.order(len(x.shape)))

    def slice(self) -> Value:
        x = self.pick(lambda v: len(v.shape) > 0)
        k = self.axis(x)
        n = x.shape[k]
        if isinstance(n, int):
            start, stop = sorted((self.integer(0, n), self.integer(0, n)))
            if start == stop and self.integer(0, 3):
                raise Unfit
            return self.same_bits("slice", x, axis=k, start=start, stop=stop, step=self.choice([1, 1, 2, 3]))
        return self.same_bits("slice", x, axis=k, start=self.integer(0, 2), stop=n - self.integer(0, 2))

    def concat(self) -> Value:
        x = self.pick(lambda v: len(v.shape) > 0)
        k = self.axis(x)
        rest = x.shape[:k] + x.shape[k + 1 :]
        fits = [v for v in self.values if v.dtype is x.dtype and len(v.shape) == len(x.shape)]
        fits = [v for v in fits if v.shape[:k] + v.shape[k + 1 :] == rest]
        parts = [x, *(self.choice(fits) for _ in range(self.integer(1, 2)))]
        return self.op("cat", *(parts if self.integer(0, 1) else parts[::-1]), axis=k, exact=True)

    def expand(self) -> Value:
        x = self.pick(lambda v: len(v.shape) < 4)
        shape = tuple(self.integer(1, 5) if d == 1 else d for d in x.shape)
        return self.same_bits("expand", x, shape=shape if self.integer(0, 1) else (self.integer(1, 3), *shape))

    def mirror(self) -> Value:
        x = self.pick(lambda v: len(v.shape) > 0)
        if self.integer(0, 1):
            return self.same_bits("flip", x, dims=self.axes(x))
        return self.same_bits("roll", x, shift=self.integer(0, 2), axis=self.axis(x))

    def pad(self) -> Value:
        x = self.floating(1)
        pads = tuple((self.integer(0, 2), self.integer(0, 2)) for _ in x.shape)
        return self.op("constant_pad", x, pads=pads, value=self.choice([0.0, 1.0]), exact=True)
