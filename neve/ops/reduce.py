"""Reductions over axes. `dims` are the axes reduced, none meaning none: capture spells "all" out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, FromIndex, Tensor, call, cast, const, where
from neve.ir.types import Dim, DType, TensorType, numel
from neve.ops.base import Op, Sample
from neve.ops.pad import scalar_const
from neve.ops.pointwise import kind, wide
from neve.ops.samples import FLOATS, INTS, data, sample
from neve.ops.shape import check_axes, unflat


def reduced_shape(shape: tuple[Dim, ...], axes: tuple[int, ...], keepdim: bool) -> tuple[Dim, ...]:
    """The shape without the axes, or with size 1 there."""
    return tuple(1 if a in axes else d for a, d in enumerate(shape) if keepdim or a not in axes)


def full_index(
    i: tuple[Index, ...], r: tuple[Index, ...], axes: tuple[int, ...], rank: int, keepdim: bool
) -> tuple[Index, ...]:
    """The input's index from an output index and a position in the reduced axes, in ascending order of axes."""
    at = dict(zip(sorted(axes), r, strict=True))
    rest = iter(k for a, k in enumerate(i) if not (keepdim and a in axes))
    return tuple(at[a] if a in axes else next(rest) for a in range(rank))


class Reduction(Op):
    """Base of the reductions to one value."""

    kinds: ClassVar[str] = "f"
    dims: tuple[int, ...]
    keepdim: bool

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        check_axes(self, x.rank, *self.dims)
        if kind(x.dtype) not in self.kinds:
            raise ValueError(f"{self.name} is not defined for {x.dtype}")
        return (x.with_shape(reduced_shape(x.shape, self.dims, self.keepdim)),)

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        kept = [a for a in range(types[0].rank) if self.keepdim or a not in self.dims]
        return (kept[axis],)

    def over(self, x: Tensor) -> tuple[Dim, ...]:
        return tuple(x.shape[a] for a in sorted(self.dims))

    def loop(
        self, b: Builder, x: Tensor, reducer: str, fn: Callable[[Expr], Expr] | None = None, dtype: DType | None = None
    ) -> Tensor:
        """Reduces fn(element) (default: the element)."""
        shape, rank = reduced_shape(x.shape, self.dims, self.keepdim), len(x.shape)
        element = fn or (lambda e: e)
        return b.reduce(
            reducer,
            shape,
            dtype or x.dtype,
            self.over(x),
            lambda i, r: element(x(*full_index(i, r, self.dims, rank, self.keepdim))),
        )

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        make: Callable[..., Op] = cls
        plain = DType.bool if cls.kinds == "b" else DType.float32
        shapes = (3, 40), (3, 40), (2, 3, 4, 5), (2, 3, 4), (), (4, 3)
        for i, (shape, dims) in enumerate(zip(shapes, ((1,), (0,), (1, 3), (0, 1, 2), (), ()), strict=True)):
            for keepdim in (False, True):
                yield Sample(make(dims, keepdim), (data(shape, plain, seed=i),))
        kinds = {"f": FLOATS, "i": INTS, "b": (DType.bool,)}
        for dtype in (d for k in cls.kinds for d in kinds[k]):
            yield sample(make((1,), False), data((9, 11), dtype, seed=3, edges=True), dtypes=[dtype])
        if cls.name not in ("amax", "amin"):
            yield Sample(make((1,), False), (data((3, 0), plain),))
        yield Sample(make((1,), False), (data((0, 3), plain),))


@dataclass(frozen=True)
class Sum(Reduction):
    """Integers wrap; capture casts narrow integers and bool to int64 first, as torch does."""

    name = "sum"
    kinds = "fi"
    dims: tuple[int, ...]
    keepdim: bool = False

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        with np.errstate(all="ignore"):
            return (
                np.asarray(
                    x.sum(self.dims, np.float64 if x.dtype.kind == "f" else x.dtype, keepdims=self.keepdim)
                ).astype(x.dtype),
            )

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        return (self.loop(b, inputs[0], "sum"),)


@dataclass(frozen=True)
class Mean(Reduction):
    """Of nothing NaN."""

    name = "mean"
    dims: tuple[int, ...]
    keepdim: bool = False

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        n = int(np.prod([x.shape[a] for a in self.dims]))
        with np.errstate(all="ignore"):
            return (np.asarray(x.sum(self.dims, np.float64, keepdims=self.keepdim) / np.float64(n)).astype(x.dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        wider = DType.float64 if x.dtype is DType.float64 else DType.float32
        total = self.loop(b, x, "sum", lambda e: cast(e, wider), wider)
        n = FromIndex(Index.of(numel(self.over(x))), wider)
        return (b.compute(total.shape, x.dtype, lambda *i: cast(call("div", total(*i), n), x.dtype)),)


@dataclass(frozen=True)
class Prod(Reduction):
    """Integers wrap; as Sum for narrow integers and bool."""

    name = "prod"
    kinds = "fi"
    dims: tuple[int, ...]
    keepdim: bool = False

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        with np.errstate(all="ignore"):
            return (
                np.asarray(
                    wide(x).prod(self.dims, None if x.dtype.kind == "f" else x.dtype, keepdims=self.keepdim)
                ).astype(x.dtype),
            )

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        return (self.loop(b, inputs[0], "prod"),)


class _Extremum(Reduction):
    kinds = "fib"
    reducer: ClassVar[str]

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (out,) = super().infer(*types)
        if any(types[0].shape[a] == 0 for a in self.dims) and 0 not in out.shape:
            raise ValueError(f"{self.name} of no elements: {types[0]} over {self.dims}")
        return (out,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        function = np.amax if self.reducer == "max" else np.amin
        if 0 in inputs[0].shape:
            return (np.zeros(reduced_shape(inputs[0].shape, self.dims, self.keepdim), inputs[0].dtype),)
        return (np.asarray(function(inputs[0], axis=self.dims, keepdims=self.keepdim)),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        if x.dtype is DType.bool:
            return (self.loop(b, x, "any" if self.reducer == "max" else "all"),)
        return (self.loop(b, x, self.reducer),)


@dataclass(frozen=True)
class Amax(_Extremum):
    """NaN if any element is; refused for no elements."""

    name = "amax"
    reducer = "max"
    dims: tuple[int, ...]
    keepdim: bool = False


@dataclass(frozen=True)
class Amin(_Extremum):
    """NaN if any element is; refused for no elements."""

    name = "amin"
    reducer = "min"
    dims: tuple[int, ...]
    keepdim: bool = False


@dataclass(frozen=True)
class Any(Reduction):
    """bool → bool (capture compares others with 0 first)."""

    name = "any"
    kinds = "b"
    dims: tuple[int, ...]
    keepdim: bool = False

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.asarray(inputs[0].any(self.dims, keepdims=self.keepdim)),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        return (self.loop(b, inputs[0], "any"),)


@dataclass(frozen=True)
class All(Reduction):
    """bool → bool (capture compares others with 0 first)."""

    name = "all"
    kinds = "b"
    dims: tuple[int, ...]
    keepdim: bool = False

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.asarray(inputs[0].all(self.dims, keepdims=self.keepdim)),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        return (self.loop(b, inputs[0], "all"),)


@dataclass(frozen=True)
class Var(Reduction):
    """Variance with Bessel's correction: sum |x - mean|^2 / max(0, n - correction)."""

    name = "var"
    dims: tuple[int, ...]
    keepdim: bool = False
    correction: float = 1.0

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        n = int(np.prod([x.shape[a] for a in self.dims]))
        with np.errstate(all="ignore"):
            y = x.astype(np.float64)
            mean = y.sum(self.dims, keepdims=True) / np.float64(n)
            return (
                np.asarray(
                    ((y - mean) ** 2).sum(self.dims, keepdims=self.keepdim) / np.float64(max(n - self.correction, 0))
                ).astype(x.dtype),
            )

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        wider = DType.float64 if x.dtype is DType.float64 else DType.float32
        n = FromIndex(Index.of(numel(self.over(x))), wider)
        total = Sum(self.dims, True).loop(b, x, "sum", lambda e: cast(e, wider), wider)
        rank = len(x.shape)

        def square(i: tuple[Index, ...], r: tuple[Index, ...]) -> Expr:
            at = full_index(i, r, self.dims, rank, self.keepdim)
            d = call("sub", cast(x(*at), wider), call("div", total.broadcast(at), n))
            return call("mul", d, d)

        squares = b.reduce("sum", reduced_shape(x.shape, self.dims, self.keepdim), wider, self.over(x), square)
        free = call("maximum", call("sub", n, const(float(self.correction), wider)), const(0.0, wider))
        return (b.compute(squares.shape, x.dtype, lambda *i: cast(call("div", squares(*i), free), x.dtype)),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from super().samples()
        yield Sample(cls((1,), True, 0.0), (data((3, 40)),))
        yield Sample(cls((0,), False, 1.0), (data((1, 4)),))
        yield Sample(cls((1,), False, 0.5), (data((3, 4)) * 1e3 + 1e4,))


@dataclass(frozen=True)
class VectorNorm(Reduction):
    """(sum |x|^ord)^(1/ord); ord inf and -inf are the largest and smallest |x|, 0 counts what is not 0."""

    name = "linalg_vector_norm"
    dims: tuple[int, ...]
    keepdim: bool = False
    ord: float = 2.0

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (out,) = super().infer(*types)
        if (
            (self.ord < 0 or self.ord == float("inf"))
            and any(types[0].shape[a] == 0 for a in self.dims)
            and 0 not in out.shape
        ):
            raise ValueError(f"norm {self.ord} of no elements: {types[0]} over {self.dims}")
        return (out,)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        a, p = np.abs(x.astype(np.float64)), self.ord
        if a.size == 0:
            out = np.zeros(reduced_shape(x.shape, self.dims, self.keepdim))
        elif np.isinf(p):
            out = (np.amax if p > 0 else np.amin)(a, axis=self.dims, keepdims=self.keepdim)
        elif p == 0:
            out = np.asarray((a != 0).sum(self.dims, keepdims=self.keepdim))
        else:
            with np.errstate(all="ignore"):
                out = (a**p).sum(self.dims, keepdims=self.keepdim) ** (1 / p)
        return (np.asarray(out).astype(x.dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        w, p = DType.float64 if x.dtype is DType.float64 else DType.float32, self.ord
        magnitude = {"inf": "max", "-inf": "min"}.get(str(p), "sum")

        def term(e: Expr) -> Expr:
            e = cast(e, w)
            if p == 2:
                return call("mul", e, e)
            if p == 0:
                return cast(call("ne", e, const(0.0, w)), w)
            e = call("abs", e)
            return e if p == 1 or magnitude != "sum" else call("pow", e, const(p, w))

        total = self.loop(b, x, magnitude, term, w)

        def root(e: Expr) -> Expr:
            if p in (0, 1) or magnitude != "sum":
                return e
            return call("sqrt", e) if p == 2 else call("pow", e, const(1 / p, w))

        return (b.compute(total.shape, x.dtype, lambda *i: cast(root(total(*i)), x.dtype)),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from super().samples()
        for p in (0.0, 1.0, 3.0, 0.5, float("inf"), float("-inf"), -1.0):
            yield Sample(cls((1,), True, p), (data((3, 40)),))


@dataclass(frozen=True)
class LogSumExp(Reduction):
    """log(sum(exp(x))), without overflow."""

    name = "logsumexp"
    dims: tuple[int, ...]
    keepdim: bool = False

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        y = x.astype(np.float64)
        m = np.max(y, axis=self.dims, keepdims=True, initial=-np.inf)
        m = np.where(np.isinf(m), 0, m)
        with np.errstate(all="ignore"):
            s = np.log(np.exp(y - m).sum(self.dims, keepdims=True)) + m
        return (s.reshape(reduced_shape(x.shape, self.dims, self.keepdim)).astype(x.dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        rank, w = len(x.shape), DType.float64 if x.dtype is DType.float64 else DType.float32
        top = LogSumExp(self.dims, True).loop(b, x, "max", lambda e: cast(e, w), w)

        def finite(e: Expr) -> Expr:
            return where(call("isinf", e), const(0.0, w), e)

        def term(i: tuple[Index, ...], r: tuple[Index, ...]) -> Expr:
            at = full_index(i, r, self.dims, rank, self.keepdim)
            return call("exp", call("sub", cast(x(*at), w), finite(top.broadcast(at))))

        total = b.reduce("sum", reduced_shape(x.shape, self.dims, self.keepdim), w, self.over(x), term)

        def element(*i: Index) -> Expr:
            at = full_index(i, (Index.of(0),) * len(self.dims), self.dims, rank, self.keepdim)
            return cast(call("add", call("log", total(*i)), finite(top(*at))), x.dtype)

        return (b.compute(total.shape, x.dtype, element),)


class _ArgExtremum(Op):
    """Position (int64) of the first extremum along `dim`, or in the whole row-major tensor if dim is None; NaN counts
    as the extremum.
    """

    dim: int | None
    keepdim: bool
    reducer: ClassVar[str]

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        axes = tuple(range(x.rank)) if self.dim is None else (self.dim,)
        if x.rank or self.dim is None:
            check_axes(self, x.rank, *axes)
        out = reduced_shape(x.shape, axes, self.keepdim)
        if any(x.shape[a] == 0 for a in axes if x.rank) and 0 not in out:
            raise ValueError(f"{self.name} of no elements: {x} over {axes}")
        return (TensorType(out, DType.int64),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        (out,) = self.infer(TensorType(x.shape, DType.float32))
        if 0 in out.shape or not x.shape:
            return (np.zeros(out.shape, np.int64),)
        function = np.argmax if self.reducer == "argmax" else np.argmin
        return (np.asarray(function(x, self.dim)).reshape(out.shape).astype(np.int64),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (x,) = inputs
        (out,) = self.infer(x.type)
        if not x.shape:
            return (b.compute(out.shape, out.dtype, lambda *i: scalar_const(0, DType.int64)),)
        if self.dim is None:
            return (
                b.reduce(self.reducer, out.shape, out.dtype, (numel(x.shape),), lambda i, r: x(*unflat(r[0], x.shape))),
            )
        axes = (self.dim,)
        return (
            b.reduce(
                self.reducer,
                out.shape,
                out.dtype,
                (x.shape[self.dim],),
                lambda i, r: x(*full_index(i, r, axes, len(x.shape), self.keepdim)),
            ),
        )

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        make: Callable[..., Op] = cls
        for i, (shape, dim) in enumerate(
            (((3, 40), 1), ((3, 40), 0), ((2, 3, 4), None), ((), None), ((0, 3), 1), ((5,), 0))
        ):
            for keepdim in (False, True):
                yield Sample(make(dim, keepdim), (data(shape, seed=i),))
        for dtype in (*FLOATS, *INTS):
            yield sample(make(1, False), data((9, 11), dtype, seed=3, edges=True), dtypes=[dtype])


@dataclass(frozen=True)
class Argmax(_ArgExtremum):
    """torch.argmax."""

    name = "argmax"
    reducer = "argmax"
    dim: int | None = None
    keepdim: bool = False


@dataclass(frozen=True)
class Argmin(_ArgExtremum):
    """torch.argmin."""

    name = "argmin"
    reducer = "argmin"
    dim: int | None = None
    keepdim: bool = False
