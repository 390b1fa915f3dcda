"""Convolutions over 1, 2 or 3 spatial axes."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neve.ir.types import Dim, TensorType, dim, same
from neve.ops.base import Op
from neve.ops.checks import check, check_same_dtype, less, windows

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Conv(Op):
    """Cross-correlation: x (N, C, spatial…), w (OC, C / groups, kernel…) [, bias (OC,)] → (N, OC, out…).

    out[n, o, p…] = bias[o] + Σ_{c, k} w[o, c, k…] · x[n, group(o)·C/groups + c, p·stride + k·dilation − before…], zeros outside.
    stride, dilation: one int a spatial axis; padding: (before, after) a spatial axis.
    """

    stride: tuple[int, ...]
    padding: Pairs
    dilation: tuple[int, ...]
    groups: int = 1
    name: ClassVar[str] = "convolution"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        x, w = check_conv(self, len(self.stride), types)
        check(len(self.padding) == len(self.dilation) == len(self.stride), self, "as many paddings and dilations as strides", types)
        check(min(min(p) for p in self.padding) >= 0 and min(self.stride + self.dilation) > 0, self, "padding ≥ 0, stride and dilation > 0", types)
        oc = w.shape[0]
        check(same(x.shape[1], dim(w.shape[1] * self.groups)), self, f"x with {w.shape[1] * self.groups} channels", types)
        check(isinstance(oc, int) and oc % self.groups == 0, self, f"output channels that {self.groups} groups divide", types)
        check(len(types) == 2 or same(types[2].shape[0], oc), self, f"a bias of {oc}", types)
        out: list[Dim] = []
        for i, k in enumerate(w.shape[2:]):
            assert isinstance(k, int)
            before, after = self.padding[i]
            size = x.shape[2 + i]
            check(not less(dim(size + before + after), self.dilation[i] * (k - 1) + 1), self, "a padded input no smaller than the kernel", types)
            out.append(windows(size, k, self.stride[i], before, after, self.dilation[i]))
        return (x.with_shape((x.shape[0], oc, *out)),)


@dataclass(frozen=True)
class ConvTranspose(Op):
    """The adjoint of Conv: x (N, C, spatial…), w (C, OC / groups, kernel…) [, bias (OC,)] → (N, OC, out…).

    out size = (size − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1; all tuples one int a spatial axis.
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
        check(len(self.padding) == len(self.dilation) == len(self.output_padding) == rank, self, "attributes of one length", types)
        check(min(self.padding + self.output_padding) >= 0 and min(self.stride + self.dilation) > 0, self,
              "paddings ≥ 0, stride and dilation > 0", types)
        check(all(o < max(s, d) for o, s, d in zip(self.output_padding, self.stride, self.dilation, strict=True)), self,
              f"output_padding smaller than stride or dilation (is {self.output_padding})", types)
        c = w.shape[0]
        check(same(x.shape[1], c), self, f"x with {c} channels", types)
        check(isinstance(c, int) and c % self.groups == 0, self, f"channels that {self.groups} groups divide", types)
        oc = dim(w.shape[1] * self.groups)
        check(len(types) == 2 or same(types[2].shape[0], oc), self, f"a bias of {oc}", types)
        out = [dim((x.shape[2 + i] - 1) * self.stride[i] - 2 * self.padding[i] + self.dilation[i] * (w.shape[2 + i] - 1)
                   + self.output_padding[i] + 1) for i in range(rank)]
        check(not any(less(d, 1) for d in out), self, "an output that is not empty", types)
        return (x.with_shape((x.shape[0], oc, *out)),)


def check_conv(op: Op, rank: int, types: tuple[TensorType, ...]) -> tuple[TensorType, TensorType]:
    """x and w, if inputs are x, w [, bias] of the right ranks with static weights."""
    check(len(types) in (2, 3) and rank in (1, 2, 3), op, "x, w [, bias] with 1 to 3 spatial axes", types)
    check_same_dtype(op, types)
    check(types[0].rank == types[1].rank == rank + 2, op, f"x and w of rank {rank + 2}", types)
    check(len(types) == 2 or types[2].rank == 1, op, "a bias of rank 1", types)
    check(types[1].is_static and all(isinstance(k, int) and k > 0 for k in types[1].shape[2:]), op, "a weight of static shape", types)
    return types[0], types[1]
