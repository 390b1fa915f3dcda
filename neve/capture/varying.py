"""Functions of torch that take the example's number for a symbolic size, in terms of functions that do not."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from neve.capture.recurrent_op import KINDS, RECURRENT
from neve.internals import replaced


class VaryingSteps(TorchFunctionMode):
    """While torch.export runs: recurrent layers on symbolic sizes become one op, and REPLACED are called."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = getattr(func, "__name__", "")
        if kind in KINDS and len(args) == 9 and not kwargs and args[0].dim() == 3 and _varies(args[0]):
            x, hx, params, biases, layers, _, train, bidirectional, batch_first = args
            states = list(hx) if isinstance(hx, (list, tuple)) else [hx]
            if not train and len({str(s.shape[-1]) for s in states}) == 1:
                return tuple(RECURRENT(x, states, list(params), kind, biases, layers, bidirectional, batch_first))
        if kind in REPLACED and any(_varies(x) for x in (*args, *(kwargs or {}).values())):
            return REPLACED[kind](*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _varies(x: Any) -> bool:
    if isinstance(x, (list, tuple)):
        return any(map(_varies, x))
    return isinstance(x, torch.SymInt) or (isinstance(x, Tensor) and any(isinstance(n, torch.SymInt) for n in x.shape))


def _max_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, *flags: Any, **named: Any
) -> Any:
    """F.max_pool1d by way of F.max_pool2d."""
    given = (kernel_size, stride or kernel_size, padding, dilation)
    numbers = (x[0] if isinstance(x, (list, tuple)) else x for x in given)
    pool: Any = torch.nn.functional.max_pool2d
    found = pool(input.unsqueeze(-1), *zip(numbers, (1, 1, 0, 1), strict=True), *flags, **named)
    return tuple(t.squeeze(-1) for t in found) if isinstance(found, tuple) else found.squeeze(-1)


def _linspace(start: Any, end: Any, steps: Any, *, dtype: Any = None, **named: Any) -> Tensor:
    """torch.linspace of numbers: from either end to the middle, as ATen has it (RangeFactoriesKernel.cpp)."""
    dtype = dtype or torch.get_default_dtype()
    numbers = isinstance(start, (int, float)) and isinstance(end, (int, float))
    if not numbers or dtype not in (torch.float32, torch.float64) or named.get("out") is not None:
        return torch.linspace(start, end, steps, dtype=dtype, **named)
    i = torch.arange(steps, dtype=dtype)
    first, final, last = (torch.scalar_tensor(x, dtype=dtype) for x in (start, end, steps - 1))
    step = (final - first) / last.clamp(min=1)
    return torch.where((i < steps // 2) | (last == 0), first + step * i, final - step * (last - i))


class _Paths:
    """opt_einsum, where it is installed, by the sizes of the example: it wants ints."""

    @staticmethod
    def contract_path(equation: str, *operands: Tensor, **named: Any) -> Any:
        shapes = [[n.node.hint if isinstance(n, torch.SymInt) else n for n in x.shape] for x in operands]
        return OPT_EINSUM().contract_path(equation, *shapes, shapes=True, **named)


OPT_EINSUM = torch.backends.opt_einsum.get_opt_einsum


def _einsum(*args: Any) -> Tensor:
    with replaced(("torch.backends.opt_einsum.get_opt_einsum", lambda: _Paths)):
        return torch.einsum(*args)


def _where(condition: Tensor, *choices: Any, **named: Any) -> Any:
    """With a mask of bytes, which eager takes."""
    mask = condition.bool() if choices and condition.dtype is torch.uint8 else condition
    return torch.where(mask, *choices, **named)


def _chunk(x: Tensor, chunks: Any, dim: int = 0) -> Any:
    """Where the number of chunks is 1, as it is of a batch that is not split, a size that is the whole is one."""
    if int(chunks) == 1:
        return (x.view_as(x),)
    return _pieces(x, (x.shape[dim] + int(chunks) - 1) // int(chunks), dim, int(chunks))


def _split(x: Tensor, split_size: Any, dim: int = 0) -> Any:
    if isinstance(split_size, (list, tuple)):
        return torch.split_with_sizes(x, split_size, dim)
    return _pieces(x, split_size, dim)


def _pieces(x: Tensor, size: Any, dim: int, most: int | None = None) -> tuple[Tensor, ...]:
    """Pieces of a size, the last of what is left. How many there are is asked as a model would ask it: each answer that
    the declared sizes have is a branch.
    """
    n, count = x.shape[dim], 1
    while count != most and n > count * size:
        count += 1
    parts = [x.narrow(dim, k * size, size) for k in range(count - 1)]
    return (*parts, x.narrow(dim, (count - 1) * size, n - (count - 1) * size))


def _item(x: Tensor, index: Any) -> Any:
    """x[index], where a slice of one entry, as x[:, :1], has none of an axis without entries: torch takes it for one
    whatever the size. That there are enough is asked as a model would ask it.
    """
    found = x[index]
    parts = list(index) if isinstance(index, tuple) else [index]
    if not all(p is Ellipsis or type(p) in (int, slice) for p in parts) or not isinstance(found, Tensor):
        return found
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (x.dim() - len(parts) + 1)
    kept = iter(found.shape)
    for part, n in zip(parts, x.shape, strict=False):
        if isinstance(part, slice) and next(kept) is not n and isinstance(n, torch.SymInt) and (least := _needed(part)):
            bool(n >= least)
    return found


def _needed(part: slice) -> int:
    """How many entries an axis has to have for a slice to have its one; 0 of other slices."""
    start, stop = part.start or 0, part.stop
    if part.step not in (None, 1) or type(start) is not int:
        return 0
    return start + 1 if start >= 0 and stop == start + 1 else int(start == -1 and stop is None)


def _product(*matrices: Any, out: Any = None) -> Any:
    """From left to right: which order is the cheapest depends on the sizes."""
    given = matrices[0] if isinstance(matrices[0], (tuple, list)) else matrices
    if out is not None or len(given) < 2 or any(m.dim() > 2 for m in given):
        return torch.linalg.multi_dot(given, out=out)
    return functools.reduce(torch.matmul, given)


REPLACED: dict[str, Any] = {
    "__getitem__": _item,
    "max_pool1d": _max_pool1d,
    "linspace": _linspace,
    "einsum": _einsum,
    "where": _where,
    "chunk": _chunk,
    "split": _split,
    "linalg_multi_dot": _product,
    "chain_matmul": _product,
}
