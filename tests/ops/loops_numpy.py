"""A Builder that evaluates what `Op.lower` says at once, with numpy on grids of indices: it tests lowerings without
any C but that of `extern` kernels.

    b = NumpyBuilder({"n": 3})                     # values of size symbols
    outs = op.lower(b, *(b.tensor(x, dtype) for x in arrays))
    b.array(outs[0])

A `kernel` is evaluated by the op's own `eval`: it tests nothing. Reads out of range raise IndexError, unless under
a guard that does not hold.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from neve.ir.index import Index, Var
from neve.ir.loops import Call, Const, Expr, FromIndex, Guard, Load, Tensor
from neve.ir.types import Dim, DType, TensorType, dims, round_to
from neve.ops import special_reference as ref
from neve.ops.base import REGISTRY
from neve.ops.checks import wide
from neve.ops.pointwise import Pointwise
from neve.plan.select import refusal
from tests.kernels.harness import load


def fma(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x·y + z, of float32 with a product that is not rounded."""
    wide_ = np.promote_types(np.result_type(x), np.float64)
    return np.asarray(np.asarray(x, wide_) * y + z, np.result_type(x))


EXTRA: dict[str, Callable[..., Any]] = {
    "fma": fma,
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "trigamma": ref.polygamma(1),
    "polygamma": np.vectorize(lambda k, v: ref.polygamma(int(k))(v), otypes=[np.float64]),
    "maximum_number": np.maximum,
    "minimum_number": np.minimum,
}
REDUCERS: dict[str, Callable[..., Any]] = {
    "sum": np.sum,
    "prod": np.prod,
    "max": np.max,
    "min": np.min,
    "any": np.any,
    "all": np.all,
}
EMPTY = {"sum": 0, "prod": 1, "max": -math.inf, "min": math.inf, "any": False, "all": True}
SCANS = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum, "logaddexp": np.logaddexp}
CELLS = 1 << 24
"""More grid points than this are a mistake in a sample."""


class NumpyBuilder:
    """See the module's text."""

    def __init__(self, sizes: Mapping[str, int] | None = None) -> None:
        self.sizes = dict(sizes or {})
        self.arrays: dict[Tensor, np.ndarray] = {}
        self.calls: list[Any] = []
        self._names = (f"i{k}" for k in itertools.count())

    def tensor(self, array: Any, dtype: DType, shape: Sequence[Dim] | None = None) -> Tensor:
        """An input tensor holding the array; shape gives symbolic sizes."""
        array = np.asarray(array)
        t = Tensor(TensorType(dims(array.shape if shape is None else shape), dtype), f"t{len(self.arrays)}")
        assert array.shape == self.shape(t.shape), f"{array.shape} for {t.type}"
        self.arrays[t] = round_to(array, dtype)
        return t

    def array(self, t: Tensor) -> np.ndarray:
        return self.arrays[t]

    def size(self, d: Any) -> int:
        return int(Index.of(d).value(self.sizes))

    def shape(self, shape: Sequence[Any]) -> tuple[int, ...]:
        return tuple(self.size(d) for d in shape)

    def compute(self, shape: Sequence[Dim], dtype: DType, fn: Callable[..., Expr]) -> Tensor:
        loop = self._variables(shape)
        e = fn(*loop)
        assert e.dtype is dtype, f"compute of {dtype} by an expression of {e.dtype}"
        return self.tensor(self._grid(e, loop, shape), dtype, shape)

    def reduce(
        self,
        kind: str,
        shape: Sequence[Dim],
        dtype: DType,
        over: Sequence[Dim],
        fn: Callable[[tuple[Index, ...], tuple[Index, ...]], Expr],
    ) -> Tensor:
        i, r = self._variables(shape), self._variables(over)
        e = fn(i, r)
        if kind in ("argmax", "argmin"):
            assert dtype is DType.int64
        else:
            assert e.dtype is dtype, f"reduce to {dtype} of an expression of {e.dtype}"
        out = self.shape(shape)
        x = self._grid(e, (*i, *r), (*shape, *over)).reshape(*out, math.prod(self.shape(over)))
        with np.errstate(all="ignore"):
            return self.tensor(_reduced(kind, x, e.dtype), dtype, shape)

    def scan(self, kind: str, x: Tensor, axis: int) -> Tensor:
        a = self.arrays[x]
        a = a.astype(np.float64) if x.dtype.is_float else a
        with np.errstate(all="ignore"):
            return self.tensor(SCANS[kind].accumulate(a, axis, dtype=a.dtype), x.dtype, x.shape)

    def refuses(self, op: Any, inputs: Sequence[Tensor]) -> bool:
        return bool(refusal(op, inputs, lambda t: True))

    def kernel(self, op: Any, inputs: Sequence[Tensor], outputs: Sequence[TensorType]) -> tuple[Tensor, ...]:
        self.calls.append(op)
        outs = op.eval(*(self.arrays[x].astype(wide(x.dtype).numpy) for x in inputs))
        return tuple(self.tensor(a, t.dtype, t.shape) for a, t in zip(outs, outputs, strict=True))

    def extern(
        self,
        header: str,
        macros: Mapping[str, str | int | Dim],
        inputs: Sequence[Tensor],
        outputs: Sequence[TensorType],
        scratch: Dim = 0,
    ) -> tuple[Tensor, ...]:
        """Compiles the kernel, its sizes (macros that are not text) passed in s[], and runs it on one thread and on
        two: the bits must be the same.
        """
        sizes = [k for k, v in macros.items() if not isinstance(v, str)]
        defines = "".join(
            f"#define {k} {v if isinstance(v, str) else f's[{sizes.index(k)}]'}\n" for k, v in macros.items()
        )
        kernel = load(f'#include "math.h"\n#define KN(x) k1_##x\n{defines}#include "{header}"\n', "gcc", "k1_run")
        operands = [np.ascontiguousarray(self.arrays[x]) for x in inputs]
        runs = []
        for threads in (1, 2):
            outs = [np.full(self.shape(t.shape), 77).astype(t.dtype.numpy) for t in outputs]
            kernel(
                [*operands, *outs], [self.size(macros[k]) for k in sizes], threads=threads, scratch=self.size(scratch)
            )
            runs.append(outs)
        for a, b in zip(*runs, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"{header} differs between one and two threads")
        return tuple(self.tensor(a, t.dtype, t.shape) for a, t in zip(runs[0], outputs, strict=True))

    def _variables(self, shape: Sequence[Any]) -> tuple[Index, ...]:
        return tuple(Index.of(Var(next(self._names), Index.of(d))) for d in shape)

    def _grid(self, e: Expr, loop: Sequence[Index], shape: Sequence[Any]) -> np.ndarray:
        """e for every value of the loop variables."""
        sizes = self.shape(shape)
        assert math.prod(sizes) <= CELLS, f"a grid of {sizes}"
        if 0 in sizes:
            return np.zeros(sizes, e.dtype.numpy)
        env: dict[str, Any] = dict(self.sizes)
        for axis, (v, n) in enumerate(zip(loop, sizes, strict=True)):
            (atom,) = v.atoms()
            assert isinstance(atom, Var)
            env[atom.name] = np.arange(n).reshape([-1 if a == axis else 1 for a in range(len(sizes))])
        with np.errstate(all="ignore"):
            return np.broadcast_to(self._value(e, env, np.asarray(True)), sizes)

    def _index(self, i: Index, env: Mapping[str, Any], live: np.ndarray) -> Any:
        return i.value(env, lambda e: self._value(e, env, live))

    def _value(self, e: Expr, env: Mapping[str, Any], live: np.ndarray) -> np.ndarray:
        """e on the grid; what is not live may be anything, and may read nothing out of range."""
        if isinstance(e, Const):
            return round_to(np.asarray(e.value), e.dtype)
        if isinstance(e, FromIndex):
            return round_to(np.asarray(self._index(e.index, env, live)), e.dtype)
        if isinstance(e, Guard):
            ok = np.asarray(True)
            for i, extent in e.conditions:
                k = self._index(i, env, live)
                ok = ok & (k >= 0) & (k < self._index(extent, env, live))
            return np.where(ok, self._value(e.then, env, live & ok), self._value(e.other, env, live & ~ok))
        if isinstance(e, Load):
            return self._load(e, env, live)
        assert isinstance(e, Call), f"unknown expression {type(e).__name__}"
        args = [self._value(a, env, live) for a in e.args]
        if e.fn == "cast":
            (out,) = REGISTRY["cast"](e.dtype).eval(args[0])  # type: ignore[call-arg]
        else:
            out = _function(e.fn)(*(a.astype(np.float32) if a.dtype == np.float16 else a for a in args))
        return round_to(np.asarray(out), e.dtype)

    def _load(self, e: Load, env: Mapping[str, Any], live: np.ndarray) -> np.ndarray:
        a = self.arrays[e.tensor]
        at = []
        for axis, i in enumerate(e.index):
            k = np.asarray(self._index(i, env, live))
            bad = live & ((k < 0) | (k >= a.shape[axis]))
            if bad.any():
                raise IndexError(f"{i!r} leaves axis {axis} of {e.tensor}")
            at.append(np.where(live, k, 0))
        if a.size == 0:
            return np.zeros((), a.dtype)
        return np.asarray(a[tuple(at)])


def _function(name: str) -> Callable[..., Any]:
    if name in EXTRA:
        return EXTRA[name]
    cls = REGISTRY[name]
    assert issubclass(cls, Pointwise), f"no scalar function {name}"
    return cls.function


def _reduced(kind: str, x: np.ndarray, dtype: DType) -> np.ndarray:
    """x reduced along its last axis; floats in float64."""
    if kind in ("argmax", "argmin"):
        return (
            np.asarray((np.argmax if kind == "argmax" else np.argmin)(x, -1))
            if x.size
            else np.zeros(x.shape[:-1], np.int64)
        )
    if x.shape[-1] == 0:
        return np.full(x.shape[:-1], EMPTY[kind])
    accumulate = x.astype(np.float64) if dtype.is_float else x
    if kind in ("any", "all"):
        assert dtype is DType.bool
        return np.asarray(REDUCERS[kind](x, axis=-1))
    if kind in ("max", "min"):
        return np.asarray(REDUCERS[kind](accumulate, axis=-1))
    return np.asarray(REDUCERS[kind](accumulate, axis=-1, dtype=accumulate.dtype))
