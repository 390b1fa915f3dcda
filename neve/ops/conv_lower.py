"""Views and copies that make a plain convolution over two axes of one over one or three, or of a transposed one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, Tensor, const, guard, view
from neve.ir.types import Dim, TensorType, dim

Run = tuple[int, int, int]
"""First phase of a transposed convolution, number of phases, taps of each."""
Depth = Callable[[Index, Index], tuple[Index, list[tuple[Index, Index]]]]
"""Output depth and tap → input depth, and what must hold besides that it is inside the input."""


def with_height(b: Builder, t: Tensor) -> Tensor:
    """(A, B, W) as (A, B, 1, W)."""
    return view(b, t, (*t.shape[:2], 1, t.shape[2]), lambda i, j, _, k: (i, j, k))


def without_height(b: Builder, t: Tensor, shape: Sequence[Dim]) -> Tensor:
    """(A, B, 1, W) as shape (A, B, W)."""
    return view(b, t, shape, lambda i, j, k: (i, j, 0, k))


def depth_to_batch(b: Builder, x: Tensor, depths: Dim, taps: int, source: Depth) -> Tensor:
    """x (N, C, D, H, W) as (N · depths, C · taps, H, W): for each output depth the slices it sees, 0 if missing."""
    n, c, d, *plane = x.shape
    shape = (dim(n * depths), dim(c * taps), *plane)

    def element(m: Index, channel: Index, *p: Index) -> Expr:
        at, conditions = source(m % Index.of(depths), channel % taps)
        value = x(m // Index.of(depths), channel // taps, at, *p)
        return guard([*conditions, (at, Index.of(d))], value, const(0.0, x.dtype))

    return b.compute(shape, x.dtype, element)


def batch_to_depth(b: Builder, y: Tensor, out: TensorType) -> Tensor:
    """(N · depths, C, H, W) as out (N, C, depths, H, W)."""
    depths = Index.of(out.shape[2])
    return view(b, y, out.shape, lambda n, c, z, *p: (n * depths + z, c, *p))


def phase_runs(kernel: int, stride: int) -> list[Run]:
    """Runs of phases along an axis that have equally many taps, but for those that have none."""
    whole, rest = divmod(kernel, stride)
    return [run for run in ((0, rest, whole + 1), (rest, stride - rest, whole)) if run[1] and run[2]]


def phase_weight(b: Builder, w: Tensor, groups: int, stride: Sequence[int], pair: Sequence[Run]) -> Tensor:
    """w (C, OC / g, KH, KW) as the weight of the plain convolution for a run of phases an axis.

    Its output channels are (group, phase along H, along W, OC / g).
    """
    (f0, n0, taps0), (f1, n1, taps1) = pair
    opg, cpg = w.shape[1], w.shape[0] // groups

    def source(oc: Index, c: Index, i: Index, j: Index) -> tuple[Index, ...]:
        phase = oc // opg % (n0 * n1)
        tap0 = phase // n1 + f0 + (taps0 - 1 - i) * stride[0]
        tap1 = phase % n1 + f1 + (taps1 - 1 - j) * stride[1]
        return oc // (opg * n0 * n1) * cpg + c, oc % opg, tap0, tap1

    return view(b, w, (dim(groups * n0 * n1 * opg), cpg, taps0, taps1), source)


def phase_padding(
    taps: int, kernel: int, stride: int, padding: int, output_padding: int
) -> tuple[tuple[int, int], int]:
    """The plain convolution's padding along an axis, and which (position + padding) // stride its first output is."""
    before = max(taps - 1 - padding // stride, 0)
    return (before, max((kernel - 1 + output_padding - padding) // stride, 0)), taps - 1 - before
