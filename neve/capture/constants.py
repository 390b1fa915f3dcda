"""Parameters, buffers and lifted tensors as constants and state variables, deduplicated by storage."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from neve.capture.context import dtype_of
from neve.errors import CaptureError
from neve.ir.graph import ConstTensor, GraphBuilder, StateVar, Value
from neve.ir.types import DType
from neve.ops.control import ReadState
from neve.ops.source import Constant

Key = tuple[Any, ...]


def to_numpy(tensor: torch.Tensor, copy: bool = False) -> np.ndarray:
    """The tensor in its dtype's numpy form; shares memory where that is possible, unless copy."""
    t = tensor.detach().cpu().resolve_conj().resolve_neg()
    array = np.ascontiguousarray((t.float() if t.dtype is torch.bfloat16 else t).numpy()).reshape(t.shape)
    return array.copy() if copy else array


def in_parts(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of complex numbers as one of their parts, along a last axis, which it shares memory with unless it is a
    lazy conjugate; any other as it is.
    """
    return torch.view_as_real(tensor.detach().resolve_conj()) if tensor.is_complex() else tensor


class Constants:
    """The tensors of a Program: equal storage, place and type is one ConstTensor, or StateVar if a method writes it."""

    def __init__(self) -> None:
        self._constants: dict[Key, ConstTensor] = {}
        self._states: dict[Key, StateVar] = {}
        self._written: dict[Any, Key] = {}
        self._alive: list[torch.Tensor] = []
        self._names: set[str] = set()

    def make_state(self, tensor: torch.Tensor, name: str) -> StateVar:
        """Declare that a method writes the tensor; before any method's constants are asked for. Of a complex one it is
        the parts (`in_parts`).
        """
        if tensor.is_conj() or tensor.is_neg():
            raise CaptureError([f"{name} is a conjugate that torch has not computed, and written: .resolve_conj() it"])
        complex, tensor = tensor.is_complex(), in_parts(tensor)
        key = _key(tensor)
        if key not in self._states:
            init = to_numpy(tensor, copy=True)
            self._states[key] = StateVar(self._fresh(name), init, dtype_of(tensor.dtype), complex)
            self._written[_storage(tensor)] = key
            self._alive.append(tensor)
        return self._states[key]

    @property
    def states(self) -> tuple[StateVar, ...]:
        """In the order in which they were declared."""
        return tuple(self._states.values())

    def state(self, tensor: torch.Tensor) -> StateVar:
        return self._states[_key(in_parts(tensor))]

    def is_state(self, tensor: torch.Tensor) -> bool:
        """Whether it has been declared that a method writes it."""
        return _key(tensor) in self._states

    def value(self, b: GraphBuilder, tensor: torch.Tensor, name: str) -> Value:
        """The tensor in a graph: a read of state, or a constant. Raises ValueError if it cannot be one."""
        if (
            type(tensor) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
            or tensor.layout is not torch.strided
            or tensor.is_quantized
        ):
            raise ValueError(
                f"a {type(tensor).__name__} ({tensor.layout}, {tensor.dtype}) is not supported as a weight"
            )
        if tensor.device.type == "meta":
            raise ValueError("the weight is on the meta device and has no data")
        key, hint = _key(tensor), _identifier(name)
        if key in self._states:
            return b(ReadState(self._states[key]), name=hint)
        if _storage(tensor) in self._written:
            raise ValueError(
                f"shares memory with {self._states[self._written[_storage(tensor)]].name}, which the model writes"
            )
        if key not in self._constants:
            array = to_numpy(tensor).view()
            array.flags.writeable = False
            self._constants[key] = ConstTensor(self._fresh(name), array, _dtype(tensor))
            self._alive.append(tensor)
        return b(Constant(self._constants[key]), name=hint)

    def _fresh(self, name: str) -> str:
        unique, i = name, 1
        while unique in self._names:
            unique, i = f"{name}_{i}", i + 1
        self._names.add(unique)
        return unique


def _dtype(tensor: torch.Tensor) -> DType:
    from neve.capture.context import Refusal

    try:
        return dtype_of(tensor.dtype)
    except Refusal as error:
        raise ValueError(str(error)) from None


def _storage(t: torch.Tensor) -> Any:
    return t.untyped_storage().data_ptr() or ("empty", id(t))


def _key(t: torch.Tensor) -> Key:
    return (_storage(t), t.storage_offset(), tuple(t.shape), tuple(t.stride()), t.dtype)


def _identifier(name: str) -> str:
    return "".join(ch if ch.isalnum() else "_" for ch in name) or "c"
