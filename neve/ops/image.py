"""Sampling images at computed positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import product
from typing import ClassVar

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, Tensor, as_index, call, cast, const, where
from neve.ir.types import Dim, DType, TensorType, same
from neve.ops.base import Op, Sample
from neve.ops.checks import check, check_float, exact, number, wide
from neve.ops.samples import data, sample
from neve.ops.upsample import cubic_weights


@dataclass(frozen=True)
class GridSample(Op):
    """x (N, C, H, W) read at grid (N, OH, OW, 2) of (x, y) in −1…1, or x (N, C, D, H, W) at (N, OD, OH, OW, 3).

    mode: "bilinear", "nearest" or (4-d only) "bicubic"; padding_mode: "zeros", "border" or "reflection".
    """

    mode: str = "bilinear"
    padding_mode: str = "zeros"
    align_corners: bool = False
    name: ClassVar[str] = "grid_sampler"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(
            len(types) == 2 and types[0].rank == types[1].rank and types[0].rank in (4, 5),
            self,
            "x and grid of rank 4 or 5",
            types,
        )
        check_float(self, types)
        x, grid = types
        n = x.rank - 2
        check(same(x.shape[0], grid.shape[0]) and grid.shape[-1] == n, self, f"grid (N, out…, {n})", types)
        check(all(d != 0 for d in x.shape[2:]), self, "spatial sizes > 0", types)
        modes = ("bilinear", "nearest", "bicubic") if n == 2 else ("bilinear", "nearest")
        check(
            self.mode in modes and self.padding_mode in ("zeros", "border", "reflection"),
            self,
            f"a known mode (is {self.mode}, {self.padding_mode})",
            types,
        )
        return (x.with_shape((*x.shape[:2], *grid.shape[1:-1])),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, grid = (exact(a) for a in inputs)
        size = x.shape[:1:-1]
        with np.errstate(all="ignore"):
            at = [
                ((grid[..., i] + 1) / 2 * (d - 1) if self.align_corners else ((grid[..., i] + 1) * d - 1) / 2)
                for i, d in enumerate(size)
            ]
            if self.mode != "bicubic":
                at = [self.pad(p, d) for p, d in zip(at, size, strict=True)]
            base = [np.rint(p) if self.mode == "nearest" else np.floor(p) for p in at]
            weights = [self.weights(p - q) for p, q in zip(at, base, strict=True)]
            out = np.zeros((x.shape[0], *grid.shape[1:-1], x.shape[1]))
            first = -1 if self.mode == "bicubic" else 0
            for taps in product(*(range(len(w)) for w in weights)):
                cells = [q + t + first for q, t in zip(base, taps, strict=True)]
                if self.mode == "bicubic":
                    cells = [self.pad(q, d) for q, d in zip(cells, size, strict=True)]
                inside = np.logical_and.reduce([(q >= 0) & (q < d) for q, d in zip(cells, size, strict=True)])
                index = [np.where(inside, q, 0).astype(np.int64) for q in cells]
                batch = np.arange(x.shape[0]).reshape(-1, *[1] * len(size))
                seen = np.where(inside[..., None], np.moveaxis(x, 1, -1)[(batch, *index[::-1])], 0)
                out += seen * np.prod([w[t] for w, t in zip(weights, taps, strict=True)], axis=0)[..., None]
        return (np.moveaxis(out, -1, 1).astype(inputs[0].dtype),)

    def pad(self, p: np.ndarray, size: int) -> np.ndarray:
        """Positions brought inside 0…size − 1 as the padding mode wants; NaN becomes 0."""
        if self.padding_mode == "zeros":
            return p
        if self.padding_mode == "reflection":
            low, span = (0.0, size - 1.0) if self.align_corners else (-0.5, float(size))
            p = np.abs(p - low)
            p = np.zeros_like(p) if span == 0 else np.abs(p - 2 * span * np.rint(p / (2 * span))) + low
        return np.where(np.isnan(p), 0, np.clip(p, 0, size - 1))

    def weights(self, t: np.ndarray) -> list[np.ndarray]:
        if self.mode == "nearest":
            return [np.ones_like(t)]
        return cubic_weights(t) if self.mode == "bicubic" else [1 - t, t]

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Positions first, for all channels; then the weighted sum over the taps, each read only inside the image."""
        x, grid = inputs
        (out,) = self.infer(x.type, grid.type)
        acc, sizes = wide(x.dtype), x.shape[:1:-1]
        at = [self.position(b, grid, axis, d, acc) for axis, d in enumerate(sizes)]
        rounding = "round" if self.mode == "nearest" else "floor"

        def element(n: Index, c: Index, *o: Index) -> Expr:
            base = [call(rounding, p(n, *o)) for p in at]
            parts = [call("sub", p(n, *o), q) for p, q in zip(at, base, strict=True)]

            def value(*taps: int) -> Expr:
                cells = [self.cell(q, t, d) for q, t, d in zip(base, reversed(taps), sizes, strict=True)]
                return fetch(x, n, c, cells, sizes, acc)

            return cast(self.weighted(value, parts), x.dtype)

        return (b.compute(out.shape, x.dtype, element),)

    def weighted(self, value: Callable[..., Expr], parts: Sequence[Expr]) -> Expr:
        """The sum over the taps, value(…, y, x) for positions (x, y, …) after their cells, rounded as ATen rounds it.

        Its vectorized kernels of two axes fuse products and sums, that of three axes does not: found by comparing bits
        with torch 2.13's x86 wheels.
        """
        if self.mode == "nearest":
            return value(*[0] * len(parts))
        if self.mode == "bicubic":
            across, down = ([grid_weight(p, k) for k in range(4)] for p in parts)
            rows = [self._row([(value(y, x), w) for x, w in enumerate(across)]) for y in range(4)]
            return _sum(list(zip(rows, down, strict=True)), "fma")
        one = const(1.0, parts[0].dtype)
        sides = [(call("sub", one, p), p) for p in parts]
        if len(parts) == 2:
            (e, w), (s, n) = sides
            corners = [(value(y, x), call("mul", (s, n)[y], (e, w)[x])) for y, x in product(range(2), repeat=2)]
            return _sum(corners, "fma")
        return _sum(
            [
                (value(*taps), reduce(partial(call, "mul"), [s[t] for s, t in zip(sides, reversed(taps), strict=True)]))
                for taps in product(range(2), repeat=len(parts))
            ],
            "",
        )

    @staticmethod
    def _row(taps: Sequence[tuple[Expr, Expr]]) -> Expr:
        (a, u), (b, v), *rest = taps
        return _sum(rest, "", call("fma", a, u, call("mul", b, v)))

    def position(self, b: Builder, grid: Tensor, axis: int, size: Dim, acc: DType) -> Tensor:
        """Where along an axis of the image each output cell reads."""

        def element(*o: Index) -> Expr:
            g, n = call("add", cast(grid(*o, axis), acc), const(1.0, acc)), number(size, acc)
            if self.align_corners:
                p = call("mul", g, call("mul", number(Index.of(size) - 1, acc), const(0.5, acc)))
            elif len(grid.shape) == 4:
                p = call("fma", g, call("mul", n, const(0.5, acc)), const(-0.5, acc))
            else:
                p = call("mul", call("sub", call("mul", g, n), const(1.0, acc)), const(0.5, acc))
            return p if self.mode == "bicubic" else self.padded(p, size)

        return b.compute(grid.shape[:-1], acc, element)

    def padded(self, p: Expr, size: Dim) -> Expr:
        """`pad`, as an expression."""
        acc = p.dtype
        if self.padding_mode == "zeros":
            return p
        if self.padding_mode == "reflection":
            low = 0.0 if self.align_corners else -0.5
            twice = number((Index.of(size) - 1) * 2 if self.align_corners else Index.of(size) * 2, acc)
            p = call("abs", call("sub", p, const(low, acc)))
            turns = call("round", call("div", p, call("maximum", twice, const(1.0, acc))))
            p = call("add", call("abs", call("sub", p, call("mul", twice, turns))), const(low, acc))
            if self.align_corners:
                p = where(call("gt", twice, const(0.0, acc)), p, const(0.0, acc))
        last = number(Index.of(size) - 1, acc)
        return where(call("gt", p, const(0.0, acc)), call("minimum", p, last), const(0.0, acc))

    def cell(self, base: Expr, tap: int, size: Dim) -> Expr:
        if self.mode == "bicubic":
            return self.padded(call("add", base, const(float(tap - 1), base.dtype)), size)
        return call("add", base, const(1.0, base.dtype)) if tap else base

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (mode, padding, align) in enumerate(
            product(("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection"), (False, True))
        ):
            grid = data((2, 3, 5, 2), seed=i, low=-2.5, high=2.5)
            yield sample(cls(mode, padding, align), data((2, 3, 4, 6), seed=i), grid)
            yield sample(
                cls(mode, padding, align), data((1, 2, 1, 3), seed=i), data((1, 4, 4, 2), seed=i, low=-1, high=1)
            )
            if mode != "bicubic":
                yield sample(
                    cls(mode, padding, align),
                    data((1, 2, 3, 4, 2), seed=i),
                    data((1, 2, 3, 2, 3), seed=i, low=-1.5, high=1.5),
                )
        yield sample(cls(), data((2, 3, 4, 6), DType.float64), data((2, 3, 5, 2), DType.float64, low=-1, high=1))
        yield sample(cls(), data((0, 3, 4, 6)), data((0, 3, 5, 2)))


def grid_weight(part: Expr, tap: int) -> Expr:
    """`neve.ops.upsample.cubic_weight` with the other roundings of grid_sample's kernel."""
    acc = part.dtype

    def c(x: float) -> Expr:
        return const(x, acc)

    d = part if tap < 2 else call("sub", c(1.0), part) if tap == 2 else call("sub", c(2.0), part)
    if tap in (1, 2):
        return call("fma", call("mul", call("fma", d, c(1.25), c(-2.25)), d), d, c(1.0))
    d = d if tap else call("add", d, c(1.0))
    square = call("add", call("mul", call("fma", d, c(-0.75), c(3.75)), d), c(-6.0))
    return call("add", call("mul", square, d), c(3.0))


def _sum(taps: Sequence[tuple[Expr, Expr]], how: str, total: Expr | None = None) -> Expr:
    """total + Σ value · weight, one after the other; how: "fma", or "" for products that are rounded."""
    for value, weight in taps:
        if total is None:
            total = call("mul", value, weight)
        else:
            total = call("fma", value, weight, total) if how else call("add", total, call("mul", value, weight))
    assert total is not None
    return total


def fetch(x: Tensor, n: Index, c: Index, cells: Sequence[Expr], sizes: Sequence[Dim], acc: DType) -> Expr:
    """x at whole-number cells (last axis first), 0 outside."""
    inside: Expr | None = None
    index = []
    for q, d in zip(cells, sizes, strict=True):
        last = number(Index.of(d) - 1, acc)
        here = call("logical_and", call("ge", q, const(0.0, acc)), call("le", q, last))
        inside = here if inside is None else call("logical_and", inside, here)
        index.append(as_index(cast(where(here, q, const(0.0, acc)), DType.int64), d))
    assert inside is not None
    return where(inside, cast(x(n, c, *index[::-1]), acc), const(0.0, acc))
