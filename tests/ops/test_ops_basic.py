"""Pointwise, cast, source, reduction, scan, shape, indexing and sorting ops: `eval` against torch, `infer` and
`lower` against `eval`, on every sample.

TORCH says what each op is in torch. Tolerances are relative to the value, in units of its type's rounding, and stated
per op where a sum is long.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import neve.ops  # noqa: F401
from neve.ir.graph import ConstTensor
from neve.ir.index import Index
from neve.ir.types import DType, TensorType, round_to, symbol
from neve.ops.base import REGISTRY, Op, Sample
from neve.ops.elementary import Log
from neve.ops.index import Embedding, Gather, IndexTensors
from neve.ops.overwrite import SliceScatter
from neve.ops.pad import Cat, CircularPad, Pad, ReflectionPad, Roll, Tril
from neve.ops.pointwise import Add, Sub, Where
from neve.ops.reduce import Amax, Argmax, Mean, Sum
from neve.ops.scan import Cumsum
from neve.ops.scatter import IndexPut, Scatter
from neve.ops.shape import Expand, Flip, Permute, Repeat, Reshape, Slice, groups
from neve.ops.sort import Searchsorted, Sort, TopK
from neve.ops.source import Arange, Constant, Full, SizeOf
from tests.ops.loops_numpy import NumpyBuilder
from tests.ops.torch_calls import to_torch, torch_call, torch_type

FAMILIES = (
    "activation",
    "cast",
    "elementary",
    "index",
    "overwrite",
    "pad",
    "pointwise",
    "random",
    "reduce",
    "scan",
    "scatter",
    "shape",
    "sort",
    "source",
    "special",
)
NAMES = sorted(n for n, cls in REGISTRY.items() if cls.__module__.removeprefix("neve.ops.") in FAMILIES)
ROUNDING = {DType.float64: 2.0**-52, DType.float32: 2.0**-23, DType.float16: 2.0**-10, DType.bfloat16: 2.0**-7}
ULPS = {
    "draw": 16,
    "sum": 32,
    "mean": 32,
    "var": 64,
    "linalg_vector_norm": 32,
    "logsumexp": 16,
    "cumsum": 32,
    "cumprod": 16,
    "prod": 16,
    "logcumsumexp": 16,
    "digamma": 32,
    "lgamma": 32,
    "i0": 16,
    "i0e": 16,
    "i1": 16,
    "i1e": 16,
    "log_ndtr": 16,
    "ndtri": 16,
    "zeta": 16,
    "polygamma": 32,
    "sinc": 16,
    "igamma": 64,
    "igammac": 64,
}
"""Roundings allowed; 4 where nothing is said."""
ABSOLUTE = {
    "draw": 8,
    "sum": 32,
    "cumsum": 32,
    "var": 16,
    "gelu": 4,
    "gelu_tanh": 4,
    "logaddexp": 4,
    "logaddexp2": 4,
    "digamma": 4,
    "lgamma": 4,
    "sinc": 4,
    "ndtr": 4,
    "polygamma": 4,
    "logcumsumexp": 4,
    "log_ndtr": 1,
    "igamma": 16,
    "igammac": 16,
    "spherical_bessel_j0": 4,
    "bessel_j0": 32,
    "bessel_j1": 32,
    "bessel_y0": 32,
    "bessel_y1": 32,
} | {n: 64 for n in NAMES if "polynomial" in n}
"""Roundings of 1 allowed besides, where terms cancel."""

ROUGH = {"polygamma": 2e-9, "airy_ai": 2e-6, "erfcx": 1e-12} | {f"bessel_{n}": 4e-7 for n in ("j0", "j1", "y0", "y1")}
"""What torch itself is good for in float64."""


def types_of(s: Sample) -> tuple[TensorType, ...]:
    return s.types or tuple(TensorType(x.shape, DType(x.dtype.name)) for x in s.inputs)


def from_torch(x: torch.Tensor, dtype: DType) -> np.ndarray:
    assert x.dtype is torch_type(dtype), f"torch gives {x.dtype}, infer {dtype}"
    return (x.float() if dtype is DType.bfloat16 else x).numpy()


POSITIONS = {"topk", "kthvalue", "median", "mode"}
"""Ops whose positions among equal elements are torch's secret: there, what they point at is compared."""


def in_torch(op: Op, inputs: list[torch.Tensor], dtype: DType) -> Any:
    """The op in torch; in float32, then rounded, where torch does not have a half type."""
    try:
        return torch_call(op.name)(op, *inputs)
    except NotImplementedError:
        assert dtype in (DType.float16, DType.bfloat16)
        return torch_call(op.name)(op, *(x.float() for x in inputs)).to(torch_type(dtype))


def samples(name: str) -> list[Sample]:
    return list(REGISTRY[name].samples())


def evaluated(s: Sample) -> tuple[np.ndarray, ...]:
    """eval's outputs in the inferred types, whose shapes they must have."""
    types = s.op.infer(*types_of(s))
    with np.errstate(all="ignore"):
        outs = tuple(round_to(a, t.dtype) for a, t in zip(s.op.eval(*s.inputs), types, strict=True))
    for a, t in zip(outs, types, strict=True):
        assert a.shape == t.shape, f"eval of {s.op} gives {a.shape}, infer {t}"
    return outs


def assert_close(name: str, op: Op, got: np.ndarray, want: np.ndarray, dtype: DType) -> None:
    if not dtype.is_float:
        np.testing.assert_array_equal(got, want, err_msg=str(op))
        return
    rtol = max(ULPS.get(name, 4) * ROUNDING[dtype], ROUGH.get(name, 0))
    atol = max(ABSOLUTE.get(name, 0) * ROUNDING[dtype] + 1e-37, ROUGH.get(name, 0))
    np.testing.assert_allclose(got.astype(float), want.astype(float), rtol=rtol, atol=atol, err_msg=str(op))


@pytest.mark.parametrize("name", NAMES)
def test_eval_is_torch(name: str) -> None:
    for s in samples(name):
        types, outs = s.op.infer(*types_of(s)), evaluated(s)
        inputs = [to_torch(x, t.dtype) for x, t in zip(s.inputs, types_of(s), strict=True)]
        want = in_torch(s.op, inputs, types[0].dtype)
        want = tuple(want) if isinstance(want, (tuple, list)) else (want,)
        assert len(want) == len(outs)
        for k, (a, w, t) in enumerate(zip(outs, want, types, strict=True)):
            if k == 1 and name in POSITIONS:
                a, w = point_at(s, outs[1]), point_at(s, w.numpy())
                t = types_of(s)[0]
                np.testing.assert_array_equal(a, w, err_msg=str(s.op))
            else:
                assert tuple(w.shape) == a.shape, str(s.op)
                assert_close(name, s.op, a, from_torch(w, t.dtype), t.dtype)


def point_at(s: Sample, positions: np.ndarray) -> np.ndarray:
    """The input's elements at the positions along the op's axis."""
    (x,) = s.inputs
    if not x.shape or 0 in positions.shape:
        return x
    axis = s.op.axis  # type: ignore[attr-defined]
    keep = positions if positions.ndim == x.ndim else np.expand_dims(positions, axis)
    return np.take_along_axis(x, keep, axis)


@pytest.mark.parametrize("name", NAMES)
def test_lower_is_eval(name: str) -> None:
    for s in samples(name):
        types, outs = s.op.infer(*types_of(s)), evaluated(s)
        b = NumpyBuilder()
        lowered = s.op.lower(b, *(b.tensor(x, t.dtype) for x, t in zip(s.inputs, types_of(s), strict=True)))
        assert [t.type for t in lowered] == list(types), str(s.op)
        for t, want in zip(lowered, outs, strict=True):
            assert_close(name, s.op, b.array(t), want, t.dtype)


N, M = symbol("n"), symbol("m")
"""Sizes 6 and 4 in the tests of symbolic shapes."""
SYMBOLIC: list[tuple[Op, list[tuple[Any, ...]]]] = [
    (Reshape((N * M,)), [(N, M)]),
    (Reshape((M, N, 2)), [(M, 2 * N)]),
    (Reshape((N, 2, M)), [(2 * N, M)]),
    (Reshape((1, N, 3, 4)), [(N, 12)]),
    (Reshape((N + 1, M)), [(N * M + M,)]),
    (Permute((1, 0)), [(N, M)]),
    (Expand((N, M)), [(N, 1)]),
    (Slice(0, 1, N), [(N, M)]),
    (Slice(0, 0, N, 2), [(N, M)]),
    (Slice(0, N, N + M), [(N + M, 2)]),
    (Cat(0), [(N, 3), (M, 3), (2, 3)]),
    (Flip((0,)), [(N, M)]),
    (Repeat((2, N)), [(M, 3)]),
    (Pad(((1, 2), (0, N))), [(N, M)]),
    (ReflectionPad(((0, 0), (2, 1))), [(2, N)]),
    (CircularPad(((0, 0), (2, 1))), [(2, N)]),
    (Roll(N - 1, 0), [(N, 2)]),
    (Tril(1), [(N, M)]),
    (SliceScatter(0, 1, N), [(N, 2), (N - 1, 2)]),
    (Sum((0,)), [(N, M)]),
    (Mean((0, 1), True), [(N, M)]),
    (Amax((1,)), [(N, M)]),
    (Argmax(), [(N, M)]),
    (Cumsum(1), [(N, M)]),
    (Add(), [(N, 1), (M,)]),
    (Sort(0), [(N, M)]),
    (TopK(M, 0), [(N, 2)]),
    (Searchsorted(), [(M,), (N, 3)]),
]


@pytest.mark.parametrize(("op", "shapes"), SYMBOLIC, ids=lambda v: str(v) if isinstance(v, Op) else "")
def test_symbolic_sizes(op: Op, shapes: list[tuple[Any, ...]]) -> None:
    """infer and lower with symbols agree with eval at their values."""
    sizes = {"n": 6, "m": 4}
    at = {symbol(k): v for k, v in sizes.items()}
    types = [TensorType(s, DType.float32) for s in shapes]
    arrays = [np.random.default_rng(k).normal(size=t.at(at)).astype(np.float32) for k, t in enumerate(types)]
    if op.name == "searchsorted":
        arrays[0].sort()
    bound = type(op)(**{k: bind(v, at) for k, v in vars(op).items()})
    b = NumpyBuilder(sizes)
    lowered = op.lower(b, *(b.tensor(a, t.dtype, t.shape) for a, t in zip(arrays, types, strict=True)))
    for t, inferred, want in zip(lowered, op.infer(*types), bound.eval(*arrays), strict=True):
        assert inferred.at(at) == want.shape
        assert t.type.at(at) == want.shape
        assert_close(op.name, op, b.array(t), round_to(want, t.dtype), t.dtype)


def bind(value: Any, at: dict[Any, int]) -> Any:
    if isinstance(value, tuple):
        return tuple(bind(v, at) for v in value)
    return value.at(at) if isinstance(value, Index) else value


def f32(*shape: int) -> TensorType:
    return TensorType(shape, DType.float32)


def i64(*shape: int) -> TensorType:
    return TensorType(shape, DType.int64)


REFUSED: list[tuple[Op, tuple[TensorType, ...]]] = [
    (Add(), (f32(3), i64(3))),
    (Add(), (f32(3), f32(4))),
    (Add(), (f32(3),)),
    (Sub(), (TensorType((2,), DType.bool),) * 2),
    (Log(), (i64(2),)),
    (Where(), (f32(2), f32(2), f32(2))),
    (Reshape((5,)), (f32(2, 3),)),
    (Reshape((-1,)), (f32(2, 3),)),
    (Permute((0, 0)), (f32(2, 3),)),
    (Expand((4,)), (f32(3),)),
    (Expand(()), (f32(1),)),
    (Slice(0, 2, 1), (f32(3),)),
    (Slice(0, 0, 4), (f32(3),)),
    (Slice(1, 0, 1), (f32(3),)),
    (Slice(0, 0, 3, -1), (f32(3),)),
    (Cat(0), ()),
    (Cat(0), (f32(2, 3), f32(2, 4))),
    (Cat(0), (f32(2), i64(2))),
    (Pad(((1, 1),)), (f32(2, 2),)),
    (Pad(((-2, -1),)), (f32(2),)),
    (ReflectionPad(((3, 0),)), (f32(3),)),
    (CircularPad(((4, 0),)), (f32(3),)),
    (Sum((2,)), (f32(2, 2),)),
    (Sum((0, 0)), (f32(2, 2),)),
    (Mean((0,)), (i64(2),)),
    (Amax((0,)), (f32(0, 2),)),
    (Argmax(0), (f32(0, 2),)),
    (Embedding(), (f32(3, 2), f32(2))),
    (Embedding(), (f32(0, 2), i64(2))),
    (Gather(0), (f32(3, 2), i64(2, 3))),
    (IndexTensors((0,)), (f32(0, 2), i64(1))),
    (IndexTensors(()), (f32(3),)),
    (IndexPut((0,)), (f32(3, 2), i64(2), f32(3, 2))),
    (Scatter(0, "max"), (f32(3), i64(2), f32(2))),
    (Scatter(0), (f32(3), i64(2), f32(1))),
    (SliceScatter(0, 0, 2), (f32(3), f32(3))),
    (TopK(4, 0), (f32(3),)),
    (Searchsorted(), (f32(3), i64(3))),
    (Tril(), (f32(3),)),
    (Arange(0.5, 1, 3, DType.int64), ()),
    (Full((2,), 1.0, DType.float32), (f32(2),)),
]


@pytest.mark.parametrize(("op", "types"), REFUSED, ids=lambda v: str(v) if isinstance(v, Op) else "")
def test_refused(op: Op, types: tuple[TensorType, ...]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        op.infer(*types)


def test_out_of_range_indices_stay_inside() -> None:
    """Where eager raises, eval raises, and what is compiled reads and writes only inside."""
    x, far = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([7, -9, 1])
    cases: list[tuple[Op, tuple[np.ndarray, ...]]] = [
        (Embedding(), (x, far)),
        (Gather(0), (x, np.stack([far, far], 1))),
        (IndexTensors((0,)), (x, far)),
        (IndexPut((0,)), (x, far, x)),
        (Scatter(0), (x, np.stack([far, far], 1), x)),
    ]
    for op, inputs in cases:
        with pytest.raises(IndexError):
            op.eval(*inputs)
        b = NumpyBuilder()
        (out,) = op.lower(b, *(b.tensor(a, DType(a.dtype.name)) for a in inputs))
        assert set(b.array(out).ravel()) <= set(x.ravel())


def test_groups_split_where_products_agree() -> None:
    assert [(list(a), list(b)) for a, b in groups((2, 3, N, 4), (6, N, 2, 2))] == [
        ([0, 1], [0]),
        ([2], [1]),
        ([3], [2, 3]),
    ]


def test_every_op_of_these_families_has_samples() -> None:
    assert len(NAMES) > 120
    assert all(samples(n) for n in NAMES)


def test_sizes_of_sources() -> None:
    assert SizeOf(N * 2).infer() == (i64(),)
    assert Arange(0, 1, N, DType.int64).infer() == (TensorType((N,), DType.int64),)
    assert Constant(ConstTensor("c", np.zeros((2, 1), np.float32), DType.float32)).infer() == (f32(2, 1),)
