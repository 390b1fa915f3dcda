"""Types of the IR: element types, dims that may be symbolic, tensor types."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from neve.ir.index import Index, Sym

Dim: TypeAlias = int | Index
"""A size: an int, or an Index in size symbols that is no constant (see `dim`)."""


class DType(enum.Enum):
    """Element types. In numpy a bfloat16 array is float32 of values that bfloat16 can represent (see `round_to`)."""

    float64 = "float64"
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    int64 = "int64"
    int32 = "int32"
    int16 = "int16"
    int8 = "int8"
    uint8 = "uint8"
    bool = "bool"

    @property
    def size(self) -> int:
        """Bytes an element takes in memory."""
        return _SIZE[self.value]

    @property
    def is_float(self) -> bool:  # type: ignore[valid-type]
        return self.value in ("float64", "float32", "float16", "bfloat16")

    @property
    def is_int(self) -> bool:  # type: ignore[valid-type]
        """An integer type; bool is not one."""
        return not self.is_float and self.value != "bool"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy type that holds values of this type while interpreting."""
        return np.dtype("float32" if self.value == "bfloat16" else self.value)

    def __repr__(self) -> str:
        return self.value

    def __str__(self) -> str:
        return self.value


def limits(dtype: DType) -> tuple[int, int]:
    """The least and the greatest value of an integer type."""
    info = np.iinfo(dtype.numpy)
    return int(info.min), int(info.max)


_SIZE = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}


def round_to(array: np.ndarray, dtype: DType) -> np.ndarray:
    """The array converted to dtype's numpy form; bfloat16 rounds to nearest even as torch does."""
    if dtype is not DType.bfloat16:
        return np.asarray(array).astype(dtype.numpy, copy=False)
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).astype(np.uint32).view(np.float32)
    return np.where(np.isnan(array), np.float32("nan"), rounded).astype(np.float32).reshape(np.shape(array))


def symbol(name: str) -> Index:
    """The size symbol of this name; equal names are the same symbol in every graph of a Program."""
    return Index.of(Sym(name))


def dim(value: Any) -> Dim:
    """value (an integer or an Index) as a dim: an int whenever it is one. Raises TypeError for anything else."""
    if isinstance(value, Index):
        return value if value.const is None else value.const
    return int(value) if isinstance(value, (int, np.integer)) else dim(Index.of(value))


def size_at(d: Dim, sizes: Mapping[Index, int]) -> int:
    """A dim for given symbol values. Raises KeyError if one is missing, ZeroDivisionError."""
    return d if isinstance(d, int) else d.at(sizes)


def dims(values: Iterable[object]) -> tuple[Dim, ...]:
    return tuple(dim(v) for v in values)


def numel(shape: Iterable[Dim]) -> Dim:
    """The number of elements of a shape."""
    n: Dim = 1
    for d in shape:
        n = n * d
    return dim(n)


def same(a: Dim, b: Dim) -> bool:
    """Whether two dims are provably equal for all values of their symbols."""
    return a == b


@dataclass(frozen=True)
class Range:
    """The inclusive range of a size symbol; max None is no bound."""

    min: int = 0
    max: int | None = None


@dataclass(frozen=True)
class TensorType:
    """Logical (PyTorch) shape and element type; layout exists only in the Plan."""

    shape: tuple[Dim, ...]
    dtype: DType

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def numel(self) -> Dim:
        return numel(self.shape)

    @property
    def is_static(self) -> bool:
        return all(isinstance(d, int) for d in self.shape)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape of a static type."""
        assert self.is_static, self
        return tuple(d for d in self.shape if isinstance(d, int))

    def with_shape(self, shape: Iterable[object]) -> TensorType:
        return TensorType(dims(shape), self.dtype)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(self.shape, dtype)

    def at(self, sizes: Mapping[Index, int]) -> tuple[int, ...]:
        """The shape for given symbol values."""
        return tuple(size_at(d, sizes) for d in self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(str(d).replace(' ', '') for d in self.shape)}]"


def broadcast(*shapes: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """The broadcast shape, by PyTorch's rules; a symbolic dim is never taken to be 1.

    Raises ValueError with the shapes if they do not broadcast.
    """
    rank = max((len(s) for s in shapes), default=0)
    out: list[Dim] = []
    for i in range(-rank, 0):
        d: Dim = 1
        for s in shapes:
            if len(s) < -i or s[i] == 1:
                continue
            if d == 1:
                d = s[i]
            elif not same(d, s[i]):
                raise ValueError(f"shapes do not broadcast: {', '.join(map(str, shapes))}")
        out.append(d)
    return tuple(out)


def complex_form(array: np.ndarray) -> np.ndarray:
    """Real and imaginary parts along a last axis as complex numbers."""
    array = np.ascontiguousarray(array)
    return array.view(f"complex{16 * array.itemsize}").reshape(array.shape[:-1])


def real_form(array: np.ndarray) -> np.ndarray:
    """The reverse of `complex_form`; an array of other numbers as it is."""
    if array.dtype.kind != "c":
        return array
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(f"float{4 * array.itemsize}").reshape(*array.shape, 2)


def to_bytes(array: np.ndarray, dtype: DType) -> np.ndarray:
    """A constant in its memory form (bfloat16 as its bits)."""
    if dtype is DType.bfloat16:
        return (np.asarray(array, np.float32, order="C").view(np.uint32) >> 16).astype(np.uint16)
    return np.asarray(array, dtype.numpy, order="C")
