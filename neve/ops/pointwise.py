"""Pointwise ops: every output element is a scalar function of the inputs' elements at the same (broadcast) index.

All inputs of an op have one dtype (capture inserts casts by PyTorch's promotion rules), but for `where`'s condition.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neve.ir.loops import COMPARISONS, Builder, Tensor, call
from neve.ir.types import DType, TensorType, broadcast, round_to
from neve.ops.base import Op, Sample


class Pointwise(Op):
    """Base of the ops made by `pointwise`: name is also the scalar function's name in `neve.emit.functions`."""

    arity: ClassVar[int]
    function: ClassVar[Callable[..., Any]]
    dtypes: ClassVar[str]
    domain: ClassVar[tuple[float, float]]

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if len(types) != self.arity:
            raise ValueError(f"{self.name} takes {self.arity} inputs, got {len(types)}")
        data = types[1:] if self.name == "where" else types
        if len({t.dtype for t in data}) != 1 or (self.name == "where" and types[0].dtype is not DType.bool):
            raise ValueError(f"{self.name} wants inputs of one dtype, got {', '.join(map(str, types))}")
        if kind(data[0].dtype) not in self.dtypes:
            raise ValueError(f"{self.name} is not defined for {data[0].dtype}")
        dtype = DType.bool if self.name in COMPARISONS else data[0].dtype
        return (TensorType(broadcast(*(t.shape for t in types)), dtype),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        with np.errstate(all="ignore"):
            out = np.asarray(type(self).function(*inputs))
        return (out,)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (out,) = self.infer(*(x.type for x in inputs))
        return (b.compute(out.shape, out.dtype, lambda *i: call(self.name, *(x.broadcast(i) for x in inputs), dtype=out.dtype)),)
