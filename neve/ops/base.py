"""What an op is: attributes, type rule, meaning, lowering and test samples in one frozen dataclass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from neve.ir.loops import Builder, Tensor
from neve.ir.types import Dim, TensorType

REGISTRY: dict[str, type[Op]] = {}


@dataclass(frozen=True)
class Sample:
    """One test problem: the op, and its inputs as numpy arrays (a bfloat16 one as float32, its type in `types`)."""

    op: Op
    inputs: tuple[np.ndarray, ...]
    types: tuple[TensorType, ...] | None = None


@dataclass(frozen=True)
class Op:
    """Base of all ops. Subclasses are frozen dataclasses whose fields are attributes.

    Attributes are ints, floats, strings, bools, None, tuples, DTypes, dims. `name` is ATen's. `effect` marks ops that
    must neither be dropped nor reordered among themselves.
    """

    name: ClassVar[str]
    effect: ClassVar[bool] = False

    def __init_subclass__(cls, **kw: Any) -> None:
        super().__init_subclass__(**kw)
        if "name" in cls.__dict__:
            assert cls.name not in REGISTRY or REGISTRY[cls.name].__qualname__ == cls.__qualname__, (
                f"two ops named {cls.name}"
            )
            REGISTRY[cls.name] = cls

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        """Output types; raises ValueError saying what was got and wanted if the inputs do not fit."""
        raise NotImplementedError

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """The meaning, in plain numpy: slow, obvious, independent of `lower`. Arrays have their dtype's numpy form."""
        raise NotImplementedError

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs as loop nests or kernels."""
        raise NotImplementedError

    def along(self, axis: int, *types: TensorType) -> tuple[int | None, ...] | None:
        """Where part of an axis of the output, of a size other than 1, needs that part of the inputs only: for each
        input the axis that goes with it, None if all of the input is needed. None alone: not so, or not known.

        `narrowed` on the inputs so cut is then the output so cut, element for element.
        """
        return None

    def narrowed(self, axis: int, size: Dim) -> Op:
        """The op for that many elements along an axis for which `along` gives axes."""
        return self

    def open(self, *inputs: np.ndarray) -> tuple[bool, ...]:
        """For each output whether, on these inputs, torch promises more than one result, as of equal elements whose
        order it leaves open. `eval` and `lower` give one of them, the same one. () if all is settled.
        """
        return ()

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Test problems: every attribute, rank, dtype, edge (size 0 and 1, NaN, Inf) that behaves differently."""
        raise NotImplementedError

    def attributes(self) -> dict[str, Any]:
        """Field name → value, without those at their default."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


def broadcast_axis(axis: int, rank: int, t: TensorType) -> int | None:
    """The axis of t that meets an axis, of a size other than 1, of a shape of that rank to which t broadcasts; None
    where t is repeated along it.
    """
    own = axis - (rank - t.rank)
    return None if own < 0 or t.shape[own] == 1 else own
