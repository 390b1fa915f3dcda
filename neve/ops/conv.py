"""Convolutions over 1, 2 or 3 spatial axes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, Tensor, call, cast, const, guard, view
from neve.ir.types import Dim, DType, TensorType, dim, same
from neve.ops.base import Op, Sample
from neve.ops.checks import check, check_same_dtype, exact, finish, less, wide, widened, windows
from neve.ops.conv_lower import (
    Run,
    batch_to_depth,
    depth_to_batch,
    phase_padding,
    phase_runs,
    phase_weight,
    with_height,
    without_height,
)
from neve.ops.samples import data, sample

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Conv(Op):
    """Cross-correlation: x (N, C, spatial…), w (OC, C / groups, kernel…) [, bias (OC,)] → (N, OC, out…).

    out[n, o, p…] = bias[o] + Σ_{c, k} w[o, c, k…] · x[n, group(o)·C/groups + c, p·stride + k·dilation − before…],
    x being 0 outside. stride, dilation: one int a spatial axis; padding: (before, after) a spatial axis.
    """

    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    groups: int = 1
    name: ClassVar[str] = "convolution"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, w = check_conv(self, len(self.stride), types)
        check(
            len(self.padding) == len(self.dilation) == len(self.stride),
            self,
            "as many paddings and dilations as strides",
            types,
        )
        check(
            min(min(p) for p in self.padding) >= 0 and min(self.stride + self.dilation) > 0,
            self,
            "padding ≥ 0, stride and dilation > 0",
            types,
        )
        oc = w.shape[0]
        check(
            same(x.shape[1], dim(w.shape[1] * self.groups)), self, f"x with {w.shape[1] * self.groups} channels", types
        )
        check(
            isinstance(oc, int) and oc % self.groups == 0,
            self,
            f"output channels that {self.groups} groups divide",
            types,
        )
        check(len(types) == 2 or same(types[2].shape[0], oc), self, f"a bias of {oc}", types)
        out: list[Dim] = []
        for i, k in enumerate(w.shape[2:]):
            assert isinstance(k, int)
            before, after = self.padding[i]
            size = x.shape[2 + i]
            check(
                not less(dim(size + before + after), self.dilation[i] * (k - 1) + 1),
                self,
                "a padded input no smaller than the kernel",
                types,
            )
            out.append(windows(size, k, self.stride[i], before, after, self.dilation[i]))
        return (x.with_shape((x.shape[0], oc, *out)),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, w, *bias = (exact(a) for a in inputs)
        n, c, oc, g = x.shape[0], x.shape[1], w.shape[0], self.groups
        x = np.pad(x, ((0, 0), (0, 0), *self.padding))
        kernel = w.shape[2:]
        size = [
            (d - dil * (k - 1) - 1) // s + 1
            for d, k, s, dil in zip(x.shape[2:], kernel, self.stride, self.dilation, strict=True)
        ]
        points = int(np.prod(size))
        out = np.zeros((n, g, oc // g, points), x.dtype)
        for taps in itertools.product(*map(range, kernel)):
            cut = tuple(
                slice(t * d, t * d + (o - 1) * s + 1, s)
                for t, d, s, o in zip(taps, self.dilation, self.stride, size, strict=True)
            )
            seen = x[(slice(None), slice(None), *cut)].reshape(n, g, c // g, points)
            out += at(w, taps).reshape(g, oc // g, c // g) @ seen
        return (with_bias(out.reshape(n, oc, *size), bias).astype(inputs[0].dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        """A kernel over two axes on x and w, or loops, then the bias."""
        x, w, *bias = inputs
        (out,) = self.infer(x.type, w.type)
        if b.refuses(self, (x, w)):
            return (finish(b, self.loops(b, x, w), out.dtype, bias, axis=1),)
        y = (self.line, self.plane, self.volume)[len(self.stride) - 1](b, x, w)
        return (finish(b, y, out.dtype, bias, axis=1),)

    def plane(self, b: Builder, x: Tensor, w: Tensor) -> Tensor:
        if b.refuses(self, (x, w)):
            return self.loops(b, x, w)
        return b.kernel(self, (x, w), widened(self.infer(x.type, w.type)))[0]

    def line(self, b: Builder, x: Tensor, w: Tensor) -> Tensor:
        """As a convolution over images of height 1."""
        (out,) = self.infer(x.type, w.type)
        conv = Conv((1, *self.stride), ((0, 0), *self.padding), (1, *self.dilation), self.groups)
        return without_height(b, conv.plane(b, with_height(b, x), with_height(b, w)), out.shape)

    def volume(self, b: Builder, x: Tensor, w: Tensor) -> Tensor:
        """As a convolution of the slices that each output slice sees."""
        (out,) = self.infer(x.type, w.type)
        oc, per, taps, *kernel = w.shape
        assert isinstance(taps, int)
        conv = Conv(self.stride[1:], self.padding[1:], self.dilation[1:], self.groups)
        s, d, before = self.stride[0], self.dilation[0], self.padding[0][0]
        slices = depth_to_batch(b, x, out.shape[2], taps, lambda z, k: (z * s + k * d - before, []))
        w2 = view(b, w, (oc, dim(per * taps), *kernel), lambda o, c, *k: (o, c // taps, c % taps, *k))
        return batch_to_depth(b, conv.plane(b, slices, w2), out)

    def loops(self, b: Builder, x: Tensor, w: Tensor) -> Tensor:
        """Without a kernel and without bias, in the type that x's is computed in: what a plan falls back to."""
        (out,) = self.infer(x.type, w.type)
        per, opg, acc = w.shape[1], w.shape[0] // self.groups, wide(x.dtype)

        def term(i: tuple[Index, ...], r: tuple[Index, ...]) -> Expr:
            at = [
                p * s + k * d - pad[0]
                for p, s, k, d, pad in zip(i[2:], self.stride, r[1:], self.dilation, self.padding, strict=True)
            ]
            seen = x(i[0], i[1] // opg * per + r[0], *at)
            product = call("mul", cast(seen, acc), cast(w(i[1], *r), acc))
            return guard([(a, Index.of(size)) for a, size in zip(at, x.shape[2:], strict=True)], product, zero(acc))

        return b.reduce("sum", out.shape, acc, w.shape[1:], term)

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        if axis == 0:
            return (0, *(None for _ in types[1:]))
        return (None, *(0 for _ in types[1:])) if axis == 1 and self.groups == 1 else None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from (problem(cls(*attributes), x, w, bias) for attributes, x, w, bias in CONVS)
        for dtype in (DType.float64, DType.float16, DType.bfloat16, DType.int64):
            yield problem(cls((1, 2), ((1, 1), (0, 0)), (1, 1)), (1, 3, 5, 6), (4, 3, 3, 3), True, dtype)


@dataclass(frozen=True)
class ConvTranspose(Op):
    """The adjoint of Conv: x (N, C, spatial…), w (C, OC / groups, kernel…) [, bias (OC,)] → (N, OC, out…).

    out size = (size − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1; one int a spatial axis.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    name: ClassVar[str] = "conv_transpose"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        rank = len(self.stride)
        x, w = check_conv(self, rank, types)
        check(
            len(self.padding) == len(self.dilation) == len(self.output_padding) == rank,
            self,
            "attributes of one length",
            types,
        )
        check(
            min(self.padding + self.output_padding) >= 0 and min(self.stride + self.dilation) > 0,
            self,
            "paddings ≥ 0, stride and dilation > 0",
            types,
        )
        check(
            all(o < max(s, d) for o, s, d in zip(self.output_padding, self.stride, self.dilation, strict=True)),
            self,
            f"output_padding smaller than stride or dilation (is {self.output_padding})",
            types,
        )
        c = w.shape[0]
        check(same(x.shape[1], c), self, f"x with {c} channels", types)
        check(isinstance(c, int) and c % self.groups == 0, self, f"channels that {self.groups} groups divide", types)
        oc = dim(w.shape[1] * self.groups)
        check(len(types) == 2 or same(types[2].shape[0], oc), self, f"a bias of {oc}", types)
        out = [
            dim(
                (x.shape[2 + i] - 1) * self.stride[i]
                - 2 * self.padding[i]
                + self.dilation[i] * (w.shape[2 + i] - 1)
                + self.output_padding[i]
                + 1
            )
            for i in range(rank)
        ]
        check(not any(less(d, 0) for d in out), self, "an output size ≥ 0", types)
        return (x.with_shape((x.shape[0], oc, *out)),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        x, w, *bias = (exact(a) for a in inputs)
        n, c, g, opg, kernel = x.shape[0], x.shape[1], self.groups, w.shape[1], w.shape[2:]
        spatial = list(
            zip(x.shape[2:], kernel, self.stride, self.dilation, self.padding, self.output_padding, strict=True)
        )
        full = np.zeros((n, g * opg, *((d - 1) * s + dil * (k - 1) + 1 + o for d, k, s, dil, _, o in spatial)), x.dtype)
        for taps in itertools.product(*map(range, kernel)):
            part = at(w, taps).reshape(g, c // g, opg).transpose(0, 2, 1) @ x.reshape(
                n, g, c // g, int(np.prod(x.shape[2:]))
            )
            cut = tuple(
                slice(t * dil, t * dil + (d - 1) * s + 1, s)
                for t, (d, _, s, dil, _, _) in zip(taps, spatial, strict=True)
            )
            full[(slice(None), slice(None), *cut)] += part.reshape(n, g * opg, *x.shape[2:])
        cut = tuple(slice(p, size - p) for size, p in zip(full.shape[2:], self.padding, strict=True))
        return (with_bias(full[(slice(None), slice(None), *cut)], bias).astype(inputs[0].dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Without dilation convolutions that a kernel takes, see `plane`; else loops."""
        x, w, *bias = inputs
        (out,) = self.infer(x.type, w.type)
        ones = (1,) * len(self.stride)
        refused = b.refuses(Conv(ones, ((0, 0),) * len(ones), ones, self.groups), (x, w))
        if refused or max(self.dilation[-2:]) > 1 or 0 in out.shape:
            return (finish(b, self.loops(b, x, w), x.dtype, bias, axis=1),)
        y = (self.line, self.plane, self.volume)[len(self.stride) - 1](b, x, w)
        return (finish(b, y, x.dtype, bias, axis=1),)

    def plane(self, b: Builder, x: Tensor, w: Tensor) -> Tensor:
        """Outputs with equal (position + padding) mod stride see the same taps: those taps are a plain convolution.

        Phases with equally many taps, at most two runs an axis, are the channels of one convolution of stride 1.
        """
        (out,) = self.infer(x.type, w.type)
        kernel = [int(k) for k in w.shape[2:]]
        parts = [
            (pair, *self.phase(b, x, w, pair))
            for pair in itertools.product(*(phase_runs(k, s) for k, s in zip(kernel, self.stride, strict=True)))
        ]
        opg = Index.of(w.shape[1])

        def element(n: Index, o: Index, *p: Index) -> Expr:
            y = zero(wide(x.dtype))
            for pair, conv, start in parts:
                q = [i + pad for i, pad in zip(p, self.padding, strict=True)]
                at = [i % s - run[0] for i, s, run in zip(q, self.stride, pair, strict=True)]
                channel = (o // opg * pair[0][1] + at[0]) * pair[1][1] + at[1]
                place = [i // s - u for i, s, u in zip(q, self.stride, start, strict=True)]
                inside = [(i, Index.of(run[1])) for i, run in zip(at, pair, strict=True)]
                y = guard(inside, conv(n, channel * opg + o % opg, *place), y)
            return y

        return b.compute(out.shape, wide(out.dtype), element)

    def phase(self, b: Builder, x: Tensor, w: Tensor, pair: Sequence[Run]) -> tuple[Tensor, list[int]]:
        """The convolution for a run of phases an axis, and where it starts, see `phase_padding`."""
        axes = zip(pair, w.shape[2:], self.stride, self.padding, self.output_padding, strict=True)
        paddings, start = zip(*(phase_padding(run[2], int(k), s, p, o) for run, k, s, p, o in axes), strict=True)
        conv = Conv((1, 1), paddings, (1, 1), self.groups)
        return conv.plane(b, x, phase_weight(b, w, self.groups, self.stride, pair)), list(start)

    def line(self, b: Builder, x: Tensor, w: Tensor) -> Tensor:
        """Over images of height 1."""
        (out,) = self.infer(x.type, w.type)
        conv = ConvTranspose((1, *self.stride), (0, *self.padding), (0, *self.output_padding), (1, 1), self.groups)
        return without_height(b, conv.plane(b, with_height(b, x), with_height(b, w)), out.shape)

    def volume(self, b: Builder, x: Tensor, w: Tensor) -> Tensor:
        """Over the slices that reach each output slice."""
        (out,) = self.infer(x.type, w.type)
        c, opg, taps, *kernel = w.shape
        assert isinstance(taps, int)
        conv = ConvTranspose(self.stride[1:], self.padding[1:], self.output_padding[1:], self.dilation[1:], self.groups)
        s, d, pad = self.stride[0], self.dilation[0], self.padding[0]

        def source(z: Index, k: Index) -> tuple[Index, list[tuple[Index, Index]]]:
            q = z + pad - k * d
            return q // s, [(q % s, Index.of(1))]

        slices = depth_to_batch(b, x, out.shape[2], taps, source)
        w2 = view(b, w, (dim(c * taps), opg, *kernel), lambda c, o, *k: (c // taps, o, c % taps, *k))
        return batch_to_depth(b, conv.plane(b, slices, w2), out)

    def loops(self, b: Builder, x: Tensor, w: Tensor) -> Tensor:
        """Without bias, in the type that x's is computed in."""
        (out,) = self.infer(x.type, w.type)
        opg, cpg, acc = w.shape[1], w.shape[0] // self.groups, wide(x.dtype)
        phased = all(d == 1 for d in self.dilation)
        over = [-(-k // s) if phased else k for k, s in zip(w.shape[2:], self.stride, strict=True)]

        def term(i: tuple[Index, ...], r: tuple[Index, ...]) -> Expr:
            conditions, taps, at = [], [], []
            for q, j, k, size, s, d in zip(
                (o + p for o, p in zip(i[2:], self.padding, strict=True)),
                r[1:],
                w.shape[2:],
                x.shape[2:],
                self.stride,
                self.dilation,
                strict=True,
            ):
                if phased:
                    taps.append(q % s + j * s)
                    at.append(q // s - j)
                    conditions.append((taps[-1], Index.of(k)))
                else:
                    taps.append(j)
                    at.append((q - j * d) // s)
                    conditions.append(((q - j * d) % s, Index.of(1)))
                conditions.append((at[-1], Index.of(size)))
            c = i[1] // opg * cpg + r[0]
            return guard(
                conditions, call("mul", cast(x(i[0], c, *at), acc), cast(w(c, i[1] % opg, *taps), acc)), zero(acc)
            )

        return b.reduce("sum", out.shape, acc, (cpg, *over), term)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from (problem(cls(*attributes), x, w, bias) for attributes, x, w, bias in TRANSPOSED)
        for dtype in (DType.float64, DType.float16, DType.int64):
            yield problem(cls((2, 1), (1, 0), (1, 0), (1, 1)), (1, 3, 5, 4), (3, 4, 3, 2), True, dtype)


def check_conv(op: Op, rank: int, types: tuple[TensorType, ...]) -> tuple[TensorType, TensorType]:
    """x and w, if inputs are x, w [, bias] of the right ranks with static weights."""
    check(len(types) in (2, 3) and rank in (1, 2, 3), op, "x, w [, bias] with 1 to 3 spatial axes", types)
    check_same_dtype(op, types)
    check(types[0].rank == types[1].rank == rank + 2, op, f"x and w of rank {rank + 2}", types)
    check(len(types) == 2 or types[2].rank == 1, op, "a bias of rank 1", types)
    check(
        types[1].is_static and all(isinstance(k, int) and k > 0 for k in types[1].shape[2:]),
        op,
        "a weight of static shape",
        types,
    )
    return types[0], types[1]


def at(w: np.ndarray, taps: Sequence[int]) -> np.ndarray:
    """w[:, :, *taps]."""
    for t in reversed(taps):
        w = w[..., t]
    return w


def with_bias(y: np.ndarray, bias: Sequence[np.ndarray]) -> np.ndarray:
    return y + bias[0].reshape(1, -1, *[1] * (y.ndim - 2)) if bias else y


def zero(dtype: DType) -> Expr:
    return const(0.0 if dtype.is_float else 0, dtype)


def problem(op: Op, x: tuple[int, ...], w: tuple[int, ...], bias: bool, dtype: DType = DType.float32) -> Sample:
    """A sample for shapes of x and w."""
    assert isinstance(op, (Conv, ConvTranspose))
    oc = w[0] if isinstance(op, Conv) else w[1] * op.groups
    shapes = [x, w, (oc,)] if bias else [x, w]
    return sample(op, *(data(s, dtype, seed=i) for i, s in enumerate(shapes)), dtypes=[dtype] * len(shapes))


CONVS: list[tuple[tuple[tuple[int, ...], Pairs, tuple[int, ...], int], tuple[int, ...], tuple[int, ...], bool]] = [
    (((1, 1), ((0, 0), (0, 0)), (1, 1), 1), (2, 3, 4, 5), (6, 3, 1, 1), True),
    (((1, 1), ((1, 1), (1, 1)), (1, 1), 1), (1, 4, 7, 9), (8, 4, 3, 3), False),
    (((2, 2), ((3, 3), (3, 3)), (1, 1), 1), (1, 3, 17, 16), (9, 3, 7, 7), True),
    (((2, 3), ((1, 0), (0, 2)), (1, 1), 1), (2, 2, 8, 9), (4, 2, 2, 3), True),
    (((1, 1), ((2, 2), (4, 4)), (2, 4), 1), (1, 2, 9, 10), (3, 2, 3, 3), True),
    (((1, 1), ((1, 1), (1, 1)), (1, 1), 6), (1, 6, 6, 7), (6, 1, 3, 3), True),
    (((2, 2), ((2, 2), (2, 2)), (1, 1), 4), (1, 4, 9, 9), (8, 1, 5, 5), False),
    (((1, 2), ((1, 1), (0, 0)), (1, 1), 2), (2, 4, 5, 5), (6, 2, 3, 1), True),
    (((1, 1), ((0, 0), (0, 0)), (1, 1), 1), (0, 3, 4, 4), (2, 3, 3, 3), True),
    (((5, 5), ((0, 0), (0, 0)), (1, 1), 1), (1, 1, 3, 3), (1, 1, 3, 3), True),
    (((1,), ((0, 0),), (1,), 1), (2, 3, 9), (4, 3, 3), True),
    (((3,), ((2, 1),), (2,), 2), (1, 4, 11), (6, 2, 4), True),
    (((1,), ((1, 1),), (1,), 5), (3, 5, 6), (5, 1, 3), False),
    (((1, 1, 1), ((0, 0), (1, 1), (1, 1)), (1, 1, 1), 1), (1, 2, 4, 5, 6), (3, 2, 2, 3, 3), True),
    (((2, 1, 2), ((1, 1), (0, 1), (2, 2)), (1, 2, 1), 2), (1, 4, 5, 5, 4), (4, 2, 3, 2, 3), False),
]

TRANSPOSED: list[
    tuple[
        tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], int],
        tuple[int, ...],
        tuple[int, ...],
        bool,
    ]
] = [
    (((1, 1), (0, 0), (0, 0), (1, 1), 1), (2, 3, 4, 5), (3, 4, 3, 3), True),
    (((2, 2), (1, 1), (0, 0), (1, 1), 1), (1, 3, 5, 4), (3, 2, 4, 4), True),
    (((2, 2), (1, 1), (1, 1), (1, 1), 1), (1, 2, 4, 5), (2, 3, 3, 3), False),
    (((3, 2), (0, 1), (2, 0), (1, 1), 2), (1, 4, 3, 4), (4, 2, 2, 3), True),
    (((2, 3), (1, 0), (0, 1), (2, 3), 1), (1, 2, 4, 3), (2, 2, 3, 2), True),
    (((1, 1), (2, 1), (0, 0), (2, 1), 3), (1, 3, 5, 5), (3, 1, 3, 3), True),
    (((4, 4), (0, 0), (3, 0), (1, 1), 1), (1, 1, 2, 3), (1, 2, 2, 2), True),
    (((2, 2), (0, 0), (0, 0), (1, 1), 1), (0, 2, 3, 3), (2, 3, 2, 2), True),
    (((2,), (1,), (1,), (1,), 1), (2, 3, 5), (3, 4, 4), True),
    (((2, 1, 2), (1, 0, 1), (1, 0, 0), (1, 1, 1), 1), (1, 2, 2, 3, 3), (2, 3, 3, 2, 3), True),
]
