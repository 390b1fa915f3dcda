"""The neural network ops: `eval` against torch, `infer` and `lower` against `eval`, with static and symbolic sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

import neve.ops  # noqa: F401  (fills the registry)
from neve.ir.graph import Graph, GraphBuilder, StateVar, Value
from neve.ir.interpret import evaluate, interpret
from neve.ir.loops import Tensor
from neve.ir.types import Dim, DType, TensorType, size_at, symbol
from neve.ops.antialias import UpsampleAntialias
from neve.ops.attention import Attention
from neve.ops.base import REGISTRY, Op, Sample
from neve.ops.checks import widened
from neve.ops.control import If, Raise, ReadState, While, WriteState
from neve.ops.conv import Conv, ConvTranspose
from neve.ops.elimination import Cholesky, LuFactor, LuSolve, TriangularSolve
from neve.ops.fourier import Fourier, OverlapAdd
from neve.ops.image import GridSample
from neve.ops.ldl import LdlFactor, LdlSolve
from neve.ops.matmul import Linear, MatMul
from neve.ops.matrix_exp import MatrixExp
from neve.ops.norm import BatchNorm, GroupNorm, LayerNorm, LogSoftmax, RmsNorm, Softmax
from neve.ops.pool import AdaptiveAvgPool, AdaptiveMaxPool, AdaptiveMaxPoolIndices, AvgPool, MaxPool, MaxPoolIndices
from neve.ops.prepacked import Prepack, Prepacked
from neve.ops.recurrent import Recurrent, Rnn
from neve.ops.upsample import UpsampleBicubic, UpsampleLinear, UpsampleNearest
from tests.ops.loops_numpy import NumpyBuilder

TOLERANCE = {DType.float64: 1e-12, DType.float32: 1e-5, DType.float16: 2e-3, DType.bfloat16: 1.6e-2}
"""Largest error, of the largest finite output, by dtype of the output: for half types two roundings."""
FAMILIES = (
    "antialias",
    "conv",
    "elimination",
    "fourier",
    "ldl",
    "matmul",
    "matrix_exp",
    "norm",
    "pool",
    "upsample",
    "image",
    "attention",
    "recurrent",
    "prepacked",
)


def types_of(s: Sample) -> tuple[TensorType, ...]:
    return s.types or tuple(TensorType(a.shape, DType(str(a.dtype))) for a in s.inputs)


def problems() -> Iterator[Any]:
    for name, cls in REGISTRY.items():
        if cls.__module__.split(".")[-1] in FAMILIES:
            for i, s in enumerate(cls.samples()):
                yield pytest.param(s, id=f"{name}-{i}-{types_of(s)[0].dtype}")


PROBLEMS = list(problems())


def reference(s: Sample) -> list[np.ndarray]:
    outs = s.op.infer(*types_of(s))
    return list(evaluate(s.op, s.inputs, [t.dtype for t in outs]))


def check(got: np.ndarray, want: np.ndarray, dtype: DType) -> None:
    """Equal NaNs and infinities; finite values within the dtype's tolerance."""
    assert got.shape == want.shape
    if not dtype.is_float:
        np.testing.assert_array_equal(got, want)
        return
    got, want = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(want)
    np.testing.assert_array_equal(np.where(finite, 0, got), np.where(finite, 0, want))
    scale = np.abs(want[finite]).max(initial=0)
    assert np.abs(got[finite] - want[finite]).max(initial=0) <= TOLERANCE[dtype] * scale


# eval against torch


def conv(op: Any, x: torch.Tensor, w: torch.Tensor, *bias: torch.Tensor) -> torch.Tensor:
    f: Any = (F.conv1d, F.conv2d, F.conv3d)[x.dim() - 3]
    pads = [p for pair in reversed(op.padding) for p in pair]
    out: torch.Tensor = f(F.pad(x, pads), w, *(bias or (None,)), op.stride, 0, op.dilation, op.groups)
    return out


def conv_transpose(op: Any, x: torch.Tensor, w: torch.Tensor, *bias: torch.Tensor) -> torch.Tensor:
    f: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[x.dim() - 3]
    out: torch.Tensor = f(x, w, *(bias or (None,)), op.stride, op.padding, op.output_padding, op.groups, op.dilation)
    return out


def max_pool(op: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    f: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(op.kernel) - 1]
    values, indices = f(x, op.kernel, op.stride, op.padding, op.dilation, op.ceil_mode, return_indices=True)
    return values, indices


def avg_pool(op: Any, x: torch.Tensor) -> torch.Tensor:
    n = len(op.kernel)
    f: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[n - 1]
    more = () if n == 1 else (op.divisor_override,)
    return f(x, op.kernel, op.stride, op.padding, op.ceil_mode, op.count_include_pad, *more)  # type: ignore[no-any-return]


def adaptive_max(op: Any, x: torch.Tensor) -> Any:
    return (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[len(op.output) - 1](
        x, op.output, return_indices=True
    )


def adaptive_avg(op: Any, x: torch.Tensor) -> Any:
    return (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[len(op.output) - 1](x, op.output)


def upsample(op: Any, x: torch.Tensor) -> torch.Tensor:
    """Through ATen, which takes both an output size and scales."""
    if isinstance(op, UpsampleAntialias):
        kept = x.movedim(op.axis, -1)
        rows = kept.reshape(1, 1, kept.shape[:-1].numel(), x.shape[op.axis])
        if rows.shape[2] == 0:
            return x.new_zeros([op.output if a == op.axis else n for a, n in enumerate(x.shape)])
        f = getattr(torch.ops.aten, f"_upsample_{op.filter}2d_aa")
        rows = f(rows, [rows.shape[2], op.output], op.align_corners, None, op.scale)
        return rows.reshape(*kept.shape[:-1], op.output).movedim(-1, op.axis)
    n = len(op.output)
    kind = {
        UpsampleNearest: ("_upsample_nearest_exact" if getattr(op, "exact", False) else "upsample_nearest") + f"{n}d",
        UpsampleLinear: ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")[n - 1],
        UpsampleBicubic: "upsample_bicubic2d",
    }[type(op)]
    align = () if isinstance(op, UpsampleNearest) else (op.align_corners,)
    out: torch.Tensor = getattr(torch.ops.aten, kind)(x, op.output, *align, *(op.scales or (None,) * n))
    return out


def recurrent(op: Any, x: torch.Tensor, *rest: torch.Tensor) -> Any:
    (*weights,) = rest[:4]
    state = [h[None] for h in rest[4:]]
    x = x.flip(0) if op.reverse else x
    name = f"rnn_{op.nonlinearity}" if isinstance(op, Rnn) else op.name
    hx: Any = state if len(state) == 2 else state[0]
    y, *last = getattr(torch.ops.aten, name).input(x, hx, weights, True, 1, 0.0, False, False, False)
    return y.flip(0) if op.reverse else y, *(h[0] for h in last)


def prepacked(op: Any, *inputs: torch.Tensor) -> torch.Tensor:
    y = TORCH[type(op.plain)](op.plain, *inputs)
    return y if op.minimum is None and op.maximum is None else torch.clamp(y, op.minimum, op.maximum)


def both(parameters: Sequence[torch.Tensor]) -> tuple[Any, Any]:
    """Weight and bias; None for what is missing."""
    weight, bias = (*parameters, None, None)[:2]
    return weight, bias


def fourier(op: Fourier, *inputs: torch.Tensor) -> Any:
    if op.form == "real":
        y = torch.fft.rfft(inputs[1])
    elif op.form == "complex":
        y = torch.fft.fft(torch.complex(*inputs[1:]))
    else:
        return torch.fft.irfft(torch.complex(*inputs[1:]), op.n, norm="forward")
    return y.real, y.imag


def overlap_add(op: OverlapAdd, x: torch.Tensor) -> torch.Tensor:
    *lead, frames, size = x.shape
    length = op.step * (frames - 1) + size
    return torch.ops.aten.unfold_backward(x, [*lead, length], len(lead), size, op.step)


def triangular(op: TriangularSolve, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a = a.mT if op.transposed else a
    x = torch.linalg.solve_triangular(a, b, upper=op.upper, unitriangular=op.unit)
    again = torch.linalg.solve_triangular(a.mT, x, upper=not op.upper, unitriangular=op.unit)
    return again if op.squared else x


def cholesky(op: Cholesky, a: torch.Tensor) -> Any:
    """With the columns of L that torch leaves open as they are here."""
    factor, info = torch.linalg.cholesky_ex(a)
    failed = (info[..., None] > 0) & (torch.arange(1, a.shape[-1] + 1) >= info[..., None])
    column = failed[..., None, :].expand(factor.shape)
    return torch.where(column, torch.tril(torch.full_like(factor, float("nan"))), factor), info


TORCH: dict[type, Callable[..., Any]] = {
    Conv: conv,
    OverlapAdd: overlap_add,
    Fourier: fourier,
    LuFactor: lambda op, a: torch.linalg.lu_factor_ex(a.mT if op.transposed else a),
    LuSolve: lambda op, lu, pivots, b: torch.linalg.lu_solve(lu, pivots, b, adjoint=op.adjoint),
    TriangularSolve: triangular,
    Cholesky: cholesky,
    LdlFactor: lambda op, a: torch.linalg.ldl_factor_ex(a),
    LdlSolve: lambda op, ld, pivots, b: torch.linalg.ldl_solve(ld, pivots, b),
    MatrixExp: lambda op, a: torch.linalg.matrix_exp(a),
    ConvTranspose: conv_transpose,
    MatMul: lambda op, a, b: torch.matmul(a, b),
    Linear: lambda op, *a: F.linear(*a),
    BatchNorm: lambda op, x, w, b, m, v: F.batch_norm(x, m, v, w, b, False, 0.0, op.eps),
    LayerNorm: lambda op, x, *p: F.layer_norm(x, x.shape[-op.rank :], *both(p), op.eps),
    GroupNorm: lambda op, x, *p: F.group_norm(x, op.groups, *both(p), op.eps),
    RmsNorm: lambda op, x, *p: F.rms_norm(x, x.shape[-op.rank :], both(p)[0], op.eps),
    Softmax: lambda op, x: torch.softmax(x, op.dim),
    LogSoftmax: lambda op, x: torch.log_softmax(x, op.dim),
    MaxPool: lambda op, x: max_pool(op, x)[0],
    MaxPoolIndices: lambda op, x: max_pool(op, x)[1],
    AvgPool: avg_pool,
    AdaptiveAvgPool: adaptive_avg,
    AdaptiveMaxPool: lambda op, x: adaptive_max(op, x)[0],
    AdaptiveMaxPoolIndices: lambda op, x: adaptive_max(op, x)[1],
    UpsampleAntialias: upsample,
    UpsampleNearest: upsample,
    UpsampleLinear: upsample,
    UpsampleBicubic: upsample,
    GridSample: lambda op, x, g: F.grid_sample(x, g, op.mode, op.padding_mode, op.align_corners),
    Attention: lambda op, q, k, v, *m: F.scaled_dot_product_attention(
        q, k, v, both(m)[0], 0.0, op.is_causal, scale=op.scale, enable_gqa=op.enable_gqa
    ),
    Prepack: lambda op, *a: a,
}


def in_torch(op: Op, tensors: Sequence[torch.Tensor]) -> Any:
    if isinstance(op, Prepacked):
        return prepacked(op, *tensors)
    return recurrent(op, *tensors) if isinstance(op, Recurrent) else TORCH[type(op)](op, *tensors)


@pytest.mark.parametrize("s", PROBLEMS)
def test_eval_is_torch(s: Sample) -> None:
    tensors = [
        torch.from_numpy(a.copy()).to(getattr(torch, t.dtype.value)) for a, t in zip(s.inputs, types_of(s), strict=True)
    ]
    wants = in_torch(s.op, tensors)
    wants = [wants] if isinstance(wants, torch.Tensor) else list(wants)
    for got, want, t in zip(reference(s), wants, s.op.infer(*types_of(s)), strict=True):
        check(got, want.double().numpy() if t.dtype.is_float else want.numpy(), t.dtype)


@pytest.mark.parametrize("s", PROBLEMS)
def test_infer_is_eval(s: Sample) -> None:
    outs = s.op.infer(*types_of(s))
    for t, a in zip(outs, reference(s), strict=True):
        assert (a.shape, a.dtype) == (t.shape, t.dtype.numpy)


# lower against eval


class KernelBuilder(NumpyBuilder):
    """Kernels mean their op's eval; a recurrent one has the input's product done already."""

    def kernel(self, op: Any, inputs: Sequence[Tensor], outputs: Sequence[TensorType]) -> tuple[Tensor, ...]:
        if not isinstance(op, Recurrent):
            assert widened(op.infer(*(t.type for t in inputs))) == tuple(outputs)
            return super().kernel(op, inputs, outputs)
        gx, w_hh, b_hh, *state = (self.array(t) for t in inputs)
        outs = op.eval(gx, np.eye(gx.shape[2]), w_hh, np.zeros(gx.shape[2]), b_hh, *state)
        return tuple(self.tensor(a, t.dtype, t.shape) for a, t in zip(outs, outputs, strict=True))


def check_lower(
    s: Sample, op: Op, shapes: Sequence[Sequence[Dim]], sizes: dict[str, int], method: str = "lower"
) -> None:
    b = KernelBuilder(sizes)
    tensors = [b.tensor(a, t.dtype, shape) for a, t, shape in zip(s.inputs, types_of(s), shapes, strict=True)]
    outs = getattr(op, method)(b, *tensors)
    types = op.infer(*(t.type for t in tensors))
    for out, want, t in zip([outs] if isinstance(outs, Tensor) else outs, reference(s), types, strict=True):
        assert out.type == t or method == "loops"
        check(b.array(out), want, t.dtype)


@pytest.mark.parametrize("s", PROBLEMS)
def test_lower_is_eval(s: Sample) -> None:
    check_lower(s, s.op, [a.shape for a in s.inputs], {})


WITH_LOOPS = [
    p for p in PROBLEMS if hasattr(p.values[0].op, "loops") and types_of(p.values[0])[0].dtype is DType.float32
]


@pytest.mark.parametrize("s", WITH_LOOPS)
def test_loops_are_eval(s: Sample) -> None:
    """What stands in for a template."""
    if isinstance(s.op, (Conv, ConvTranspose, Linear)) and len(s.inputs) == 3:
        s = Sample(s.op, s.inputs[:2])
    check_lower(s, s.op, [a.shape for a in s.inputs], {}, "loops")


SYMBOLIC: dict[type, tuple[tuple[int, ...], ...]] = {
    Fourier: ((), (0, 1), (0, 1)),
    LuFactor: ((0,),),
    LuSolve: ((0, 1, 2, 3), (0, 1, 2), (0, 1, 2, 3)),
    TriangularSolve: ((0, 1, 2), (0, 1, 2)),
    Cholesky: ((0, 1, 2, 3),),
    LdlFactor: ((0, 1, 2, 3),),
    MatrixExp: ((0, 1, 2, 3),),
    OverlapAdd: ((0, -2),),
    Conv: ((0, 2, 3, 4),),
    ConvTranspose: ((0, 2, 3, 4),),
    MatMul: ((-1, -2), (-1, -2)),
    Linear: ((-2, -3),),
    BatchNorm: ((0, 2, 3),),
    LayerNorm: ((0, 1, 2, 3), (0, 1, 2), (0, 1, 2)),
    RmsNorm: ((0, 1, 2, 3), (0, 1, 2)),
    GroupNorm: ((0, 2, 3),),
    Softmax: ((0, 1, 2, 3),),
    LogSoftmax: ((0, 1, 2, 3),),
    MaxPool: ((0, 1, 2, 3, 4),),
    MaxPoolIndices: ((0, 1, 2, 3, 4),),
    AvgPool: ((0, 1, 2, 3, 4),),
    AdaptiveAvgPool: ((0, 1, 2, 3, 4),),
    AdaptiveMaxPool: ((0, 1, 2, 3, 4),),
    AdaptiveMaxPoolIndices: ((0, 1, 2, 3, 4),),
    UpsampleNearest: ((0, 2, 3, 4),),
    UpsampleLinear: ((0, 2, 3, 4),),
    UpsampleBicubic: ((0, 2, 3, 4),),
    GridSample: ((2, 3, 4), (1, 2)),
    Attention: ((-2,), (-2,), (-2,)),
}


def symbolic(s: Sample) -> tuple[list[tuple[Dim, ...]], dict[str, int]]:
    """The sample's shapes with a symbol, one a size, for every axis that may be symbolic; axes of size 1 stay."""
    shapes: list[tuple[Dim, ...]] = []
    sizes: dict[str, int] = {}
    for i, a in enumerate(s.inputs):
        axes = SYMBOLIC[type(s.op)]
        here = {axis % a.ndim for axis in (axes[i] if i < len(axes) else ()) if -a.ndim <= axis < a.ndim}
        shape = [symbol(f"s{d}") if k in here and d > 1 else d for k, d in enumerate(a.shape)]
        sizes.update({f"s{d}": d for d in a.shape})
        shapes.append(tuple(shape))
    return shapes, sizes


DYNAMIC = [
    p
    for p in PROBLEMS
    if type(p.values[0].op) in SYMBOLIC
    and types_of(p.values[0])[0].dtype is DType.float32
    and not (isinstance(p.values[0].op, Attention) and len(p.values[0].inputs) == 4)
]


@pytest.mark.parametrize("s", DYNAMIC)
def test_lower_with_symbolic_sizes(s: Sample) -> None:
    check_lower(s, s.op, *symbolic(s))


@pytest.mark.parametrize("s", [p for p in WITH_LOOPS if any(p is q for q in DYNAMIC)])
def test_loops_with_symbolic_sizes(s: Sample) -> None:
    if isinstance(s.op, (Conv, ConvTranspose, Linear)) and len(s.inputs) == 3:
        s = Sample(s.op, s.inputs[:2])
    check_lower(s, s.op, *symbolic(s), "loops")


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
@pytest.mark.parametrize("exactly", [False, True])
def test_nearest_of_a_symbolic_multiple_is_a_view(factor: int, exactly: bool) -> None:
    n = symbol("n")
    x = np.arange(12, dtype=np.float32).reshape(1, 2, 6)
    for scales in ((), (float(factor),)):
        s = Sample(UpsampleNearest((6 * factor,), scales, exactly), (x,))
        op = UpsampleNearest((factor * n,), scales, exactly)
        check_lower(s, op, [(1, 2, n)], {"n": 6})
    b = NumpyBuilder({"n": 6})
    (y,) = op.lower(b, b.tensor(x, DType.float32, (1, 2, n)))
    np.testing.assert_array_equal(b.array(y), x.repeat(factor, 2))


def test_nearest_is_torch_at_many_sizes() -> None:
    """Rounding decides which cell is read, so sizes are tried in bulk; lowering agrees with eval at each."""
    for size, out in [(a, c) for a in range(1, 40, 3) for c in range(1, 90, 4)] + [
        (100, 357),
        (641, 1282),
        (1000, 333),
    ]:
        x = np.arange(size, dtype=np.float32).reshape(1, 1, size)
        for exactly in (False, True):
            for scales in ((), (out / size,), (round(out / size, 2) or 0.5,)):
                s = Sample(UpsampleNearest((out,), scales, exactly), (x,))
                (want,) = reference(s)
                np.testing.assert_array_equal(want, upsample(s.op, torch.from_numpy(x)).numpy())
                if size % 2:
                    check_lower(s, s.op, [x.shape], {})


def test_adaptive_pool_to_a_symbolic_size() -> None:
    n = symbol("n")
    x = np.random.default_rng(0).normal(size=(2, 7, 9)).astype(np.float32)
    for op, concrete in (
        (AdaptiveAvgPool((n, n)), (7, 7)),
        (AdaptiveMaxPool((3, n)), (3, 7)),
        (AdaptiveAvgPool((2 * n, 1)), (14, 1)),
    ):
        check_lower(Sample(type(op)(concrete), (x,)), op, [(2, n, 9)], {"n": 7})


# control


def graph(inputs: Sequence[TensorType], build: Callable[..., Sequence[Value]]) -> Graph:
    b = GraphBuilder()
    values = [b.input(f"x{i}", t) for i, t in enumerate(inputs)]
    return b.build(build(b, *values))


FLAG, SCALAR = TensorType((), DType.bool), TensorType((), DType.float32)


def binary(name: str) -> Op:
    return REGISTRY[name]()


def test_if_runs_one_branch() -> None:
    then = graph([SCALAR, SCALAR], lambda b, x, y: [b(binary("add"), x, y)])
    orelse = graph([SCALAR, SCALAR], lambda b, x, y: [b(binary("mul"), x, y)])
    g = graph([FLAG, SCALAR, SCALAR], lambda b, p, x, y: [b(If(then, orelse), p, x, y)])
    for pred, want in ((True, 5), (False, 6)):
        args = (np.array(pred), np.float32(2), np.float32(3))
        assert If(then, orelse).eval(*map(np.asarray, args))[0] == interpret(g, args)[0] == want


def test_while_runs_until_its_condition_fails() -> None:
    cond = graph([SCALAR, SCALAR], lambda b, x, y: [b(binary("lt"), x, y)])
    body = graph([SCALAR, SCALAR], lambda b, x, y: [b(binary("add"), x, x), y])
    op = While(cond, body)
    assert op.infer(SCALAR, SCALAR) == (SCALAR, SCALAR)
    for start, want in ((1, 16), (20, 20)):
        assert op.eval(np.asarray(np.float32(start)), np.asarray(np.float32(10)))[0] == want


def test_control_refuses_what_does_not_fit() -> None:
    one = graph([SCALAR], lambda b, x: [x])
    two = graph([SCALAR], lambda b, x: [x, x])
    flag = graph([SCALAR], lambda b, x: [b(binary("lt"), x, x)])
    cases: list[tuple[Op, tuple[TensorType, ...], str]] = [
        (If(one, two), (FLAG, SCALAR), "same outputs"),
        (If(one, one), (SCALAR, SCALAR), "predicate"),
        (If(one, one), (FLAG,), "then branch"),
        (If(one, graph([], lambda b: [])), (FLAG, SCALAR), "else branch"),
        (If(one, flag), (FLAG, SCALAR), "same outputs"),
        (While(one, one), (SCALAR,), "condition that gives"),
        (While(flag, two), (SCALAR,), "body that gives"),
        (While(flag, one), (FLAG,), "condition"),
        (WriteState(StateVar("s", np.zeros(3, np.float32), DType.float32)), (SCALAR,), r"float32\[3\]"),
        (ReadState(StateVar("s", np.zeros(3, np.float32), DType.float32)), (SCALAR,), "no inputs"),
        (Raise("no"), (SCALAR,), "bool"),
    ]
    for op, types, message in cases:
        with pytest.raises(ValueError, match=message):
            op.infer(*types)


def test_effects_show_through_graphs() -> None:
    quiet = graph([SCALAR], lambda b, x: [x])

    def loud(b: GraphBuilder, x: Value) -> list[Value]:
        b.emit(Raise("no"))
        return [x]

    inner = graph([SCALAR], loud)
    nested = graph([FLAG, SCALAR], lambda b, p, x: [b(If(quiet, inner), p, x)])
    assert not If(quiet, quiet).effect
    assert If(quiet, inner).effect
    assert If(nested, nested).effect
    assert Raise("no").effect


@pytest.mark.parametrize("op", [Raise("no"), If(graph([], lambda b: []), graph([], lambda b: []))])
def test_control_has_no_loops(op: Op) -> None:
    with pytest.raises(NotImplementedError, match="statements"):
        op.lower(NumpyBuilder())


# refusals


def float32(*shape: Dim) -> TensorType:
    return TensorType(shape, DType.float32)


PAD0 = ((0, 0), (0, 0))
REFUSED: list[tuple[Op, tuple[TensorType, ...], str]] = [
    (Conv((1, 1), PAD0, (1, 1)), (float32(1, 3, 4, 4), float32(2, 4, 3, 3)), "4 channels"),
    (Conv((1, 1), PAD0, (1, 1)), (float32(1, 3, 2, 4), float32(2, 3, 3, 3)), "smaller than the kernel"),
    (Conv((1, 1), PAD0, (1, 1), 2), (float32(1, 4, 4, 4), float32(3, 2, 3, 3)), "2 groups"),
    (Conv((1, 1), PAD0, (1, 1)), (float32(3, 4, 4), float32(2, 3, 3, 3)), "rank 4"),
    (Conv((1, 1), PAD0, (1, 1)), (float32(1, 3, 4, 4), float32(2, 3, 3, 3), float32(3)), "bias of 2"),
    (ConvTranspose((2, 2), (0, 0), (2, 0), (1, 1)), (float32(1, 3, 4, 4), float32(3, 2, 3, 3)), "output_padding"),
    (MatMul(), (float32(2, 3), float32(4, 5)), r"\(…, K, N\)"),
    (MatMul(), (float32(3), float32(3, 5)), "rank ≥ 2"),
    (Linear(), (float32(2, 3), float32(4, 5)), r"w \(N, K\)"),
    (LayerNorm(2), (float32(2, 3, 4), float32(4)), "normalised shape"),
    (GroupNorm(2), (float32(2, 3, 4),), "2 groups"),
    (Softmax(2), (float32(2, 3),), "axis 2"),
    (Softmax(0), (TensorType((2,), DType.int64),), "floating-point"),
    (MaxPool((2, 2), (1, 1), (2, 2), (1, 1)), (float32(1, 4, 4),), "half the kernel"),
    (MaxPool((3, 3), (1, 1), (0, 0), (1, 1)), (float32(1, 2, 4),), "kernel"),
    (AvgPool((2,), (1,), (0,), divisor_override=0), (float32(1, 4),), "divisor"),
    (AdaptiveAvgPool((2,)), (float32(1, 0),), "sizes > 0"),
    (UpsampleNearest((0, 2)), (float32(1, 1, 2, 2),), "sizes > 0"),
    (UpsampleBicubic((4,)), (float32(1, 1, 2),), "2 spatial axes"),
    (GridSample("bicubic"), (float32(1, 1, 2, 2, 2), float32(1, 2, 2, 2, 3)), "mode"),
    (Attention(is_causal=True), (float32(2, 3), float32(2, 3), float32(2, 3), float32(2, 2)), "no mask"),
    (Attention(enable_gqa=True), (float32(3, 2, 3), float32(2, 2, 3), float32(2, 2, 3)), "multiple"),
    (Rnn(nonlinearity="sin"), (float32(1, 1, 1),), "tanh or relu"),
    (Prepack("no"), (float32(1),), "kind among"),
]


@pytest.mark.parametrize(("op", "types", "message"), REFUSED)
def test_infer_refuses(op: Op, types: tuple[TensorType, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        op.infer(*types)
    assert "got" in str(error.value)


def test_ceil_mode_of_symbolic_sizes_is_that_of_each_size() -> None:
    n = symbol("n")
    for kernel, stride, padding, dilation in [
        (3, 2, 1, 1),
        (2, 2, 0, 1),
        (2, 3, 1, 1),
        (3, 2, 1, 2),
        (4, 3, 2, 1),
        (1, 4, 0, 1),
    ]:
        op = MaxPool((kernel,), (stride,), (padding,), (dilation,), True)
        formula = op.infer(float32(1, n))[0].shape[1]
        for size in range(dilation * (kernel - 1) + 1, 40):
            want = F.max_pool1d(torch.zeros(1, size), kernel, stride, padding, dilation, True).shape[1]
            assert op.infer(float32(1, size))[0].shape[1] == want
            assert size_at(formula, {n: size}) == want
