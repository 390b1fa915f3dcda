"""Random graphs of what models are made of: reductions, norms, products, convolutions, pooling, lookups, attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from neve.ir.graph import Graph, Value
from neve.ir.types import DType, TensorType
from tests.passes.support import boolean, f32, i32, i64
from tests.random_graphs import Integer, Random, Unfit

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33)
"""Dims drawn: one, odd, a vector and more."""


class Layers(Random):
    """Every kind of step."""

    # --- along axes ---------------------------------------------------------------------------------------------------

    def reduction(self) -> Value:
        name = self.choice(["sum", "mean", "amax", "amin", "logsumexp", "var", "prod"])
        x = self.floating(1, limit=1.0 if name == "prod" else 32.0)
        dims = self.axes(x)
        n = self.count([x.shape[a] for a in dims])
        more = {"correction": float(self.choice([0, 1]) if n > 1 else 0)} if name == "var" else {}
        if n == 0 and name not in ("sum", "prod"):
            raise Unfit
        bound = {"sum": self.bounds[x] * max(n, 1), "var": self.bounds[x] ** 2 * 2, "logsumexp": self.bounds[x] + 8}
        return self.op(
            name,
            x,
            dims=dims,
            keepdim=bool(self.integer(0, 1)),
            bound=bound.get(name, self.bounds[x]),
            exact=name in ("amax", "amin"),
            **more,
        )

    def whole_numbers(self) -> Value:
        x = self.pick(lambda v: v.dtype in (i64, i32) and len(v.shape) > 0)
        return self.op(self.choice(["sum", "amax", "amin"]), x, dims=self.axes(x), keepdim=bool(self.integer(0, 1)))

    def truths(self) -> Value:
        x = self.pick(lambda v: v.dtype is boolean and len(v.shape) > 0)
        return self.op(self.choice(["any", "all"]), x, dims=self.axes(x), keepdim=bool(self.integer(0, 1)))

    def position(self) -> Value:
        x = self.floating(1, exact=True)
        return self.op(self.choice(["argmax", "argmin"]), x, dim=self.axis(x), keepdim=bool(self.integer(0, 1)))

    def softmax(self) -> Value:
        x = self.floating(1)
        name = self.choice(["softmax", "softmax", "log_softmax"])
        return self.op(name, x, dim=self.axis(x), bound=1.0 if name == "softmax" else 2 * self.bounds[x] + 8)

    def scan(self) -> Value:
        x = self.floating(1, limit=2.0)
        k = self.axis(x)
        return self.op("cumsum", x, axis=k, bound=self.bounds[x] * max(self.count([x.shape[k]]), 1))

    def layer_norm(self) -> Value:
        x = self.floating(1)
        n = x.shape[-1]
        if not isinstance(n, int):
            raise Unfit
        name = self.choice(["layer_norm", "rms_norm"])
        weights = [self.weight(n, dtype=x.dtype) for _ in range(self.integer(0, 2 if name == "layer_norm" else 1))]
        return self.op(name, x, *weights, eps=0.1, bound=6.0)

    def group_norm(self) -> Value:
        x = self.pick(
            lambda v: v.dtype.is_float and len(v.shape) > 2 and isinstance(v.shape[1], int) and v.shape[1] > 0
        )
        groups = self.choice([d for d in range(1, x.shape[1] + 1) if x.shape[1] % d == 0])
        weights = [self.weight(x.shape[1], dtype=x.dtype) for _ in range(2)]
        return self.op("group_norm", x, *weights, groups=groups, eps=0.1, bound=6.0)

    def batch_norm(self) -> Value:
        x = self.floating(2)
        n = x.shape[1]
        if not isinstance(n, int):
            raise Unfit
        weights = [self.weight(n, dtype=x.dtype) for _ in range(3)]
        return self.op("batch_norm", x, *weights, self.weight(n, dtype=x.dtype, low=0.5), bound=2 * self.bounds[x] + 4)

    def norm_in_parts(self) -> Value:
        """A root mean square norm as PyTorch code writes it."""
        x = self.floating(1, limit=4.0)
        k = len(x.shape) - 1
        if x.shape[k] == 0:
            raise Unfit
        mean = self.op("mean", self.op("mul", x, x, bound=16.0), dims=(k,), keepdim=True)
        root = self.op("rsqrt", self.op("add", mean, self.number(0.1, x.dtype)), bound=4.0)
        return self.op("mul", x, root, bound=16.0)

    def gelu_in_parts(self) -> Value:
        x = self.floating(limit=8.0)
        half = self.op("mul", x, self.number(0.5, x.dtype))
        erf = self.op("erf", self.op("div", x, self.number(2**0.5, x.dtype)))
        return self.op("mul", half, self.op("add", erf, self.number(1.0, x.dtype)), bound=self.bounds[x])

    def there_and_back(self) -> Value:
        x = self.floating(2)
        order = self.order(len(x.shape))
        y = self.op("relu", self.same_bits("permute", x, dims=order), exact=True)
        return self.same_bits("permute", y, dims=tuple(order.index(k) for k in range(len(order))))

    # --- products -----------------------------------------------------------------------------------------------------

    def linear(self) -> Value:
        x = self.floating(1, limit=4.0)
        k = x.shape[-1]
        if not isinstance(k, int):
            raise Unfit
        n = self.choice(SIZES)
        weights = [self.weight(n, k, dtype=x.dtype)] + [self.weight(n, dtype=x.dtype)] * self.integer(0, 1)
        return self.op("linear", x, *weights, bound=self.bounds[x] * k + 1)

    def matmul(self) -> Value:
        """With a value, transposed, or with a constant."""
        x = self.floating(2, limit=4.0)
        k = x.shape[-1]
        if self.integer(0, 1) and isinstance(k, int):
            y = self.weight(k, self.choice(SIZES), dtype=x.dtype)
        else:
            fits = [v for v in self.values if v.dtype is x.dtype and len(v.shape) >= 2 and v.shape[-1] == k]
            y = self.tame(self.choice([v for v in fits if len(v.shape) == len(x.shape)]), 4.0)
            order = (*range(len(y.shape) - 2), len(y.shape) - 1, len(y.shape) - 2)
            y = self.op("permute", y, dims=order, exact=True)
        return self.op("matmul", x, y, bound=self.bounds[x] * self.bounds[y] * max(self.count([k]), 1))

    def attention(self) -> Value:
        """Whole or in parts."""
        q = self.floating(2, limit=2.0)
        alike = [v for v in self.values if v.dtype is q.dtype and v.shape == q.shape]
        k, v = (self.tame(self.choice(alike), 2.0) for _ in range(2))
        if q.shape[-1] == 0 or q.shape[-2] == 0:
            raise Unfit
        if self.integer(0, 1):
            causal = bool(self.integer(0, 1))
            return self.op("scaled_dot_product_attention", q, k, v, is_causal=causal, bound=2.0)
        order = (*range(len(k.shape) - 2), len(k.shape) - 1, len(k.shape) - 2)
        scores = self.op("matmul", q, self.op("permute", k, dims=order), bound=4.0 * self.count([q.shape[-1]]))
        p = self.op("softmax", self.op("div", scores, self.number(2.0, q.dtype)), dim=len(q.shape) - 1, bound=1.0)
        return self.op("matmul", p, v, bound=2.0)

    # --- windows ------------------------------------------------------------------------------------------------------

    def convolution(self) -> Value:
        """In one or two dims, with groups, strides, dilation and padding."""
        x = self.pick(self.has_windows, limit=4.0)
        c, spatial = x.shape[1], len(x.shape) - 2
        groups = self.choice([g for g in (1, 2, c) if c % g == 0])
        out = groups * self.integer(1, 5)
        kernel = [self.integer(1, 3) for _ in range(spatial)]
        weights = [self.weight(out, c // groups, *kernel, dtype=x.dtype)]
        weights += [self.weight(out, dtype=x.dtype)] * self.integer(0, 1)
        return self.op(
            "convolution",
            x,
            *weights,
            stride=tuple(self.integer(1, 2) for _ in kernel),
            padding=tuple((self.integer(0, 2),) * 2 for _ in kernel),
            dilation=tuple(self.choice([1, 1, 2]) if k < 3 else 1 for k in kernel),
            groups=groups,
            bound=self.bounds[x] * self.count([c // groups, *kernel]) + 1,
        )

    @staticmethod
    def has_windows(v: Value) -> bool:
        if not v.dtype.is_float or len(v.shape) not in (3, 4) or not isinstance(v.shape[1], int) or not v.shape[1]:
            return False
        return all(not isinstance(d, int) or d > 2 for d in v.shape[2:])

    def pool(self) -> Value:
        x = self.pick(self.has_windows)
        kernel = tuple(self.integer(1, 3) for _ in x.shape[2:])
        stride = tuple(self.integer(1, 2) for _ in kernel)
        padding = tuple(self.integer(0, k // 2) for k in kernel)
        if self.integer(0, 1):
            return self.op("avg_pool", x, kernel=kernel, stride=stride, padding=padding)
        ones = (1,) * len(kernel)
        return self.op("max_pool", x, kernel=kernel, stride=stride, padding=padding, dilation=ones, exact=True)

    # --- lookups ------------------------------------------------------------------------------------------------------

    def lookup(self) -> Value:
        """Rows or elements at positions that are constant or computed."""
        x = self.pick(lambda v: len(v.shape) > 0 and all(isinstance(d, int) and d > 0 for d in v.shape))
        k, kind = self.axis(x), self.integer(0, 2)
        if kind == 0:
            at = self.positions([self.integer(1, 9)], x.shape[k])
            return self.op("index_select", x, at, dim=k, bound=self.bounds[x], exact=True)
        if kind == 1:
            shape = [self.integer(1, 9) if a == k else self.integer(1, d) for a, d in enumerate(x.shape)]
            return self.op("gather", x, self.positions(shape, x.shape[k]), dim=k, bound=self.bounds[x], exact=True)
        i = self.pick(lambda v: v.dtype is i64 and len(v.shape) < 3)
        at = self.op("remainder", i, self.number(x.shape[k], i64))
        return self.op("index", x, at, axes=(k,), bound=self.bounds[x], exact=True)

    POINTWISE: ClassVar = (
        Random.unary, Random.exponential, Random.of_positive, Random.jump, Random.with_number, Random.with_constant,
        Random.binary, Random.quotient, Random.clamp, Random.masked, Random.chosen, Random.compare, Random.logical,
        Random.integers, Random.cast,
    )  # fmt: skip
    VIEWS: ClassVar = (
        Random.reshape, Random.permute, Random.slice, Random.concat, Random.expand, Random.mirror, Random.pad,
    )  # fmt: skip
    ALONG: ClassVar = (reduction, whole_numbers, truths, position, softmax, scan, layer_norm, group_norm)
    DEEP: ClassVar = (linear, matmul, attention, convolution, pool, lookup)
    PARTS: ClassVar = (batch_norm, norm_in_parts, gelu_in_parts, there_and_back)
    STEPS: ClassVar[Any] = POINTWISE + 2 * VIEWS + 2 * ALONG + 2 * DEEP + PARTS


def input_types(integer: Integer, symbols: Sequence[Any] = (), dtype: DType = f32) -> list[TensorType]:
    """Two float inputs and one of int64; a dim is one of SIZES, rarely 0, or with symbols one of those."""
    grower = Random(integer, [])

    def dim(k: int) -> Any:
        if symbols and k < 2 and grower.integer(0, 2):
            return grower.choice(symbols)
        return 0 if grower.integer(0, 25) == 25 else grower.choice(SIZES)

    def shape() -> tuple[Any, ...]:
        while True:
            drawn = tuple(dim(k) for k in range(grower.choice([1, 2, 2, 3, 3, 4])))
            if Random.count(drawn) <= 1500:
                return drawn

    first = shape()
    return [TensorType(first, dtype), TensorType(shape(), dtype), TensorType(first[-1:], i64)]


def random_graph(integer: Integer, symbols: Sequence[Any] = (), dtype: DType = f32, length: int = 8) -> Graph:
    """A graph of up to that many steps."""
    grower = Layers(integer, input_types(integer, symbols, dtype))
    return grower.graph(grower.integer(1, length))
