"""Sizes that data decide, and the positions where a mask is true, from which all that is selected follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Tensor
from neve.ir.types import Dim, DType, TensorType, symbol
from neve.ops.base import Op, Sample
from neve.ops.checks import check
from neve.ops.control import Control
from neve.ops.samples import data


@dataclass(frozen=True)
class Measure(Control):
    """Gives the size symbol `size` its value for the rest of the graph: that of the input (int64, 0-d), 0 or more and
    at most `most`, in sizes that are known before. Whoever emits it has made sure of both limits. most None: there is
    no limit but the memory that a call is given, for `bound` of them, a size that nothing else has.
    """

    size: Index
    most: Dim | None
    name: ClassVar[str] = "measure"
    effect: ClassVar[bool] = True

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        check(types == (TensorType((), DType.int64),), self, "one int64[]", types)
        if not self.size.is_symbol or self.size in self.bound.symbols:
            raise ValueError(f"measure gives a size symbol its value, got {self.size}")
        return ()

    @property
    def bound(self) -> Index:
        """The most that the size may be."""
        return symbol(f"most_{self.size}") if self.most is None else Index.of(self.most)


@dataclass(frozen=True)
class NonzeroStatic(Op):
    """The positions of the first `size` true elements of a bool vector, in order; -1 where there are no more."""

    name = "nonzero_static"
    size: Dim

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (mask,) = types
        check(mask.rank == 1 and mask.dtype is DType.bool, self, "a bool vector", types)
        return (TensorType((self.size,), DType.int64),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        found = np.flatnonzero(inputs[0])[: int(self.size)]
        return (np.concatenate([found, np.full(int(self.size) - len(found), -1)]).astype(np.int64),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        (mask,) = inputs
        return b.extern("nonzero.h", {"N": mask.shape[0], "COUNT": self.size}, inputs, self.infer(mask.type))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for i, (n, size) in enumerate(((0, 0), (0, 3), (1, 1), (7, 3), (8, 8), (61, 20), (64, 70), (1000, 400))):
            for share in (0.0, 0.4, 1.0):
                yield Sample(cls(size), (data((n,), low=0, high=1, seed=i) < share,))
