"""Numbers that a model takes from its tensors (`int(self.shift)`, `if self.flag:`) while it is traced.

torch.export knows no values. Those that no method writes are constants, and so is what is computed from them alone: it
is computed from the tensors of the model where a number of it is asked for. Which tensors were read so, and which were
written, is recorded: none may be both.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from neve.capture.held import storage_of
from neve.errors import CaptureError
from neve.internals import require

ASK = frozenset(
    {"item", "tolist", "numpy", "is_nonzero", "equal", "allclose", "__bool__", "__int__", "__float__", "__index__"}
)
"""Functions and methods of tensors that give numbers, or an array."""
_tensor: Any = Tensor
REAL = (Tensor, nn.Parameter)
"""Classes of what a trace takes for a constant: a tensor of the model that is not registered. Its own have others."""
DATA = _tensor.data.__get__
NEEDED = ("torch.utils._python_dispatch._disable_current_modes", "torch._C.DisableTorchFunction")
Storage = int


@dataclass
class Constants:
    """The tensors of a model by their names, and the storages of those whose values were asked for, that were written,
    and that are not to be taken for constants.
    """

    tensors: Mapping[str, Tensor]
    asked: set[Storage] = field(default_factory=set)
    written: set[Storage] = field(default_factory=set)
    varying: set[Storage] = field(default_factory=set)

    @classmethod
    def of(cls, model: nn.Module, varying: set[Storage]) -> Constants:
        return cls(dict(_registered(model)), varying=varying)

    @property
    def clash(self) -> set[Storage]:
        """What was taken for a constant and is none."""
        return self.asked & self.written


class Unknown(Exception):
    """A tensor has no value while a model is traced."""


@dataclass
class _Made:
    """How a tensor was made, if it is still what it was then; and its value, once it was asked for."""

    tensor: weakref.ref[Tensor]
    version: int
    compute: Callable[[], Any]
    value: Any = None

    def known(self) -> Any:
        """The value, which the caller may write into."""
        if self.value is None:
            self.value = self.compute()
        return self.value.clone() if isinstance(self.value, Tensor) else self.value


class KnownValues(TorchFunctionMode):
    """While a method of a model runs in a trace."""

    def __init__(self, model: nn.Module, constants: Constants) -> None:
        super().__init__()
        require("numbers of buffers", *NEEDED, error=CaptureError)
        self._constants = constants
        self._made: dict[int, _Made] = {}
        held = [(t, constants.tensors[name]) for name, t in _registered(model) if name in constants.tensors]
        self._held = [(t, real, t._version) for t, real in held]
        for traced, real in held:
            if storage_of(real) not in constants.varying:
                self._note(traced, partial(self._read, real))

    def close(self) -> None:
        """Record what was written since this was made."""
        self._constants.written |= {storage_of(real) for t, real, version in self._held if t._version != version}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        known = all(id(t) in self._made or type(t) in REAL for t in tensors)
        if not tensors or not known or torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        if func.__name__ in ASK:
            try:
                return self._value(func, args, kwargs)
            except Unknown:
                return func(*args, **kwargs)
        result = func(*args, **kwargs)
        if func is DATA:  # a write to it would not be seen
            self._constants.written |= {storage_of(real) for t, real, _ in self._held if t is tensors[0]}
            return result
        for k, made in enumerate(pytree.tree_leaves(result)):
            if isinstance(made, Tensor) and id(made) not in self._made and type(made) not in REAL:
                self._note(made, partial(self._result, k, func, args, kwargs))
        return result

    def _note(self, tensor: Tensor, compute: Callable[[], Any]) -> None:
        self._made[id(tensor)] = _Made(weakref.ref(tensor), tensor._version, compute)
        weakref.finalize(tensor, self._made.pop, id(tensor), None)

    def _read(self, tensor: Tensor) -> Tensor:
        self._constants.asked.add(storage_of(tensor))
        return tensor.detach()

    def _result(self, k: int, func: Any, args: Any, kwargs: Any) -> Any:
        return pytree.tree_leaves(self._value(func, args, kwargs))[k]

    def _value(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What func gives for the tensors of the model."""
        with torch._C.DisableTorchFunction(), _disable_current_modes():
            args, kwargs = pytree.tree_map_only(Tensor, self._real, (args, kwargs))
            before = torch.get_rng_state()
            try:
                return copy.copy(func(*args, **kwargs))
            except Exception as error:
                raise Unknown from error
            finally:
                if not torch.equal(before, torch.get_rng_state()):
                    torch.set_rng_state(before)
                    raise Unknown

    def _real(self, tensor: Tensor) -> Any:
        made = self._made.get(id(tensor))
        if made is None and type(tensor) in REAL:
            return tensor.detach().clone()
        if made is None or made.tensor() is not tensor or made.version != tensor._version:
            raise Unknown
        return made.known()


def _registered(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)
