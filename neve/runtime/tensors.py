"""Arguments and results of calls, in numpy or torch; torch is never imported here, only used where the caller has."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from neve.errors import InputError
from neve.runtime.native import address
from neve.runtime.signature import MethodSignature, Tensor

# bfloat16 is not a dtype of numpy: there its bits are uint16
NUMPY: dict[str, np.dtype[Any]] = {
    **{
        name: np.dtype(name)
        for name in (
            "float32",
            "float64",
            "float16",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "bool",
            "complex64",
            "complex128",
        )
    },
    "bfloat16": np.dtype("uint16"),
}
_PYTHON = {"int": (int, np.integer), "float": (float, int, np.floating, np.integer), "bool": (bool, np.bool_)}


def torch_module() -> Any:
    """torch if this process has imported it, else None."""
    return sys.modules.get("torch")


def is_torch(value: Any) -> bool:
    torch = torch_module()
    return torch is not None and isinstance(value, getattr(torch, "Tensor", ()))


def torch_dtype(torch: Any, dtype: str) -> Any:
    return getattr(torch, dtype)


def prepare(value: Any, wanted: Tensor, method: str) -> tuple[int, tuple[int, ...], Any]:
    """(address, shape, what keeps it alive) of an argument made contiguous; InputError unless dtype and rank fit."""
    if wanted.scalar:
        return _scalar(value, wanted, method)
    if is_torch(value):
        return _torch(value, wanted, method)
    if isinstance(value, (np.ndarray, np.generic)):
        return _numpy(np.asarray(value), wanted, method)
    raise InputError(
        f"{method}: {wanted.name}: got {_brief(value)}, wanted {wanted}; pass a torch tensor or a numpy array"
    )


def _torch(value: Any, wanted: Tensor, method: str) -> tuple[int, tuple[int, ...], Any]:
    torch = torch_module()
    if value.dtype != torch_dtype(torch, wanted.dtype):
        raise _misfit(value, wanted, method, f"convert it with .to(torch.{wanted.dtype})")
    if value.dim() != len(wanted.shape):
        raise _misfit(value, wanted, method, _rank_mend(value, wanted))
    if value.layout != torch.strided:
        raise _misfit(value, wanted, method, f"its layout is {value.layout}: convert it with .to_dense()")
    if value.device.type != "cpu":
        raise _misfit(value, wanted, method, f"it is on {value.device}: move it with .cpu()")
    dense = value.detach().resolve_conj().resolve_neg().contiguous()
    dense = dense.clone() if misaligned(dense) else dense
    return dense.data_ptr(), tuple(value.shape), dense


def misaligned(tensor: Any) -> bool:
    """Whether a torch tensor begins at an address that its elements may not have, as one of torch.frombuffer may."""
    return bool(tensor.data_ptr() % tensor.element_size())


def _numpy(value: np.ndarray[Any, Any], wanted: Tensor, method: str) -> tuple[int, tuple[int, ...], Any]:
    dtype = NUMPY[wanted.dtype]
    if value.dtype != dtype and not (value.dtype.name == wanted.dtype and value.dtype.isnative):
        bits = wanted.dtype == "bfloat16"
        fix = "pass its bits as uint16, or a torch tensor" if bits else f"convert it with .astype(np.{dtype})"
        raise _misfit(value, wanted, method, fix)
    if value.ndim != len(wanted.shape):
        raise _misfit(value, wanted, method, _rank_mend(value, wanted))
    if not (value.flags.c_contiguous and value.flags.aligned):
        value = value.copy(order="C")
    return address(value), value.shape, value


def _misfit(value: Any, wanted: Tensor, method: str, fix: str) -> InputError:
    got = f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return InputError(f"{method}: {wanted.name}: got {got}, wanted {wanted}; {fix}")


def _scalar(value: Any, wanted: Tensor, method: str) -> tuple[int, tuple[int, ...], Any]:
    assert wanted.scalar
    if (is_torch(value) and value.dim() == 0) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    truth = isinstance(value, (bool, np.bool_))
    if not isinstance(value, _PYTHON[wanted.scalar]) or (truth and wanted.scalar != "bool"):
        raise InputError(f"{method}: {wanted.name}: got {_brief(value)}, wanted a Python {wanted.scalar}")
    try:
        held = np.array(value, NUMPY[wanted.dtype])
    except OverflowError as error:
        raise InputError(f"{method}: {wanted.name}: {value} does not fit into {wanted.dtype}") from error
    return address(held), (), held


def _rank_mend(value: Any, wanted: Tensor) -> str:
    ranks = f"its rank is {len(value.shape)}, not {len(wanted.shape)}"
    return f"{ranks}: " + ("a batch of one is x[None]" if len(value.shape) == len(wanted.shape) - 1 else "reshape it")


def _brief(value: Any) -> str:
    if is_torch(value) or isinstance(value, np.ndarray):
        return f"a tensor {list(value.shape)}"
    if isinstance(value, (bool, int, float, str)):
        return f"the {type(value).__name__} {str(value)[:40]!r}"
    return "None" if value is None else f"a {type(value).__name__}"


def allocate(shapes: Sequence[tuple[int, ...]], outputs: Sequence[Tensor], torch: Any) -> tuple[list[Any], list[int]]:
    """Fresh outputs, torch tensors if torch is given and else arrays, and their addresses."""
    if torch is None:
        arrays = [np.empty(shape, NUMPY[t.dtype]) for shape, t in zip(shapes, outputs, strict=True)]
        return arrays, [address(a) for a in arrays]
    made = [
        torch.empty(shape, dtype=torch_dtype(torch, t.dtype), device="cpu")
        for shape, t in zip(shapes, outputs, strict=True)
    ]
    return made, [t.data_ptr() for t in made]


def cut(output: Any, shape: tuple[int, ...]) -> Any:
    """The result of that shape that an output begins with; memory is copied if most of it would be held for nothing."""
    count = math.prod(shape)
    whole = output[:count].reshape(shape)
    if 2 * count >= len(output):
        return whole
    return whole.clone() if is_torch(whole) else whole.copy()


def overwrite(argument: Any, content: Any) -> None:
    """Put a result into the argument that the model writes in place."""
    if is_torch(argument):
        argument.detach().copy_(content)
    elif is_torch(content):
        torch = torch_module()
        bits = content.view(torch.int16) if content.dtype == torch.bfloat16 else content
        argument[...] = bits.numpy().view(argument.dtype)
    else:
        argument[...] = content


def refuse_shared(method: MethodSignature, arguments: Sequence[Any]) -> None:
    """InputError if an argument that the model writes in place shares memory with another one."""
    for i, _ in method.writes:
        low, high = _span(arguments[i])
        for j, other in enumerate(arguments):
            start, end = _span(other)
            if j != i and start < high and low < end:
                raise InputError(
                    f"{method.name}: {method.inputs[i].name} is written in place and shares memory with "
                    f"{method.inputs[j].name}: pass a copy of one of them"
                )


def _span(value: Any) -> tuple[int, int]:
    """The addresses of a tensor's memory, first and behind the last; those of torch as far as others may see it."""
    if is_torch(value):
        storage = value.untyped_storage()
        return storage.data_ptr(), storage.data_ptr() + storage.nbytes()
    if isinstance(value, np.ndarray) and value.size:
        steps = [(n - 1) * s for n, s in zip(value.shape, value.strides, strict=True)]
        start = value.ctypes.data
        return start + sum(s for s in steps if s < 0), start + sum(s for s in steps if s > 0) + value.itemsize
    return 0, 0
