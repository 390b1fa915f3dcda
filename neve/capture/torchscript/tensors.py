"""Functions on tensors that are not, or not in all their forms, ops of the dispatcher."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch._prims_common import suggest_memory_format

from neve.capture.recurrent_op import KINDS as RECURRENT_KINDS
from neve.capture.recurrent_op import RECURRENT
from neve.capture.torchscript import attention, grown
from neve.capture.torchscript.numbers import convert, is_number, kind_of
from neve.capture.torchscript.schema import MEMORY_FORMATS, call_op, dtype_number, dtype_of_number
from neve.capture.torchscript.tape import ATEN
from neve.capture.torchscript.values import KINDS, Dim, Num, Refusal, Var, describe, needs_of

if TYPE_CHECKING:
    from neve.capture.torchscript.machine import Machine


def dim_of(m: Machine, x: Var, axis: int) -> Any:
    """x.size(axis): an int, or a Dim."""
    n = x.meta.shape[axis]
    if isinstance(n, int):
        return n
    return Dim(int, m.tape.call(ATEN.sym_size.int, x, axis % x.meta.dim()))


def size(m: Machine, x: Any, axis: Any = None) -> Any:
    if not isinstance(x, Var):
        return NotImplemented
    if axis is None:
        return [dim_of(m, x, i) for i in range(x.meta.dim())]
    if type(axis) is not int or not -max(x.meta.dim(), 1) <= axis < max(x.meta.dim(), 1):
        raise Refusal(f"size({describe(axis)}) of {describe(x)}", needs_of(axis))
    return dim_of(m, x, axis)


def _len(m: Machine, x: Any) -> Any:
    if not isinstance(x, Var):
        return NotImplemented
    if not x.meta.dim():
        raise Refusal("len() of a 0-d tensor")
    return dim_of(m, x, 0)


def _numel(m: Machine, x: Var) -> Any:
    total: Any = 1
    for i in range(x.meta.dim()):
        total = m.torch("mul", [total, dim_of(m, x, i)], {})
    return total


def item(m: Machine, x: Var, kind: type) -> Any:
    """The only element of a tensor as a number of a kind."""
    if x.value is not None and not x.root.mutated and x.value.numel() == 1:
        return convert(m.tape, x.value.reshape(()).item(), kind)
    count = x.meta.numel()
    if not isinstance(count, int) or count != 1:
        raise Refusal(f"a number is made of {describe(x)}, which has not one element")
    if x.meta.dtype.is_complex:
        raise Refusal("complex numbers are not supported")
    scalar = m.tape.call(ATEN.reshape.default, x, []) if x.meta.dim() else x
    if kind is bool and x.meta.dtype is not torch.bool:
        return Num(bool, m.tape.call(ATEN.ne.Scalar, scalar, 0))
    if kind is int and x.meta.dtype.is_floating_point:
        fits = m.tape.call(ATEN.lt.Scalar, m.tape.call(ATEN.abs.default, scalar), 2.0**63)
        wrong = m.tape.call(ATEN.logical_not.default, fits)
        m.tape.fail(wrong, "a tensor's value does not fit into an int")
        zero = m.tape.call(ATEN.zeros_like.default, scalar)
        scalar = m.tape.call(ATEN.trunc.default, m.tape.call(ATEN.where.self, wrong, zero, scalar))
    # a copy: the number must not change when the tensor is written
    return Num(kind, m.tape.call(ATEN._to_copy.default, scalar, dtype=KINDS[kind]))


def _item(m: Machine, x: Var) -> Any:
    kind = bool if x.meta.dtype is torch.bool else float if x.meta.dtype.is_floating_point else int
    return item(m, x, kind)


def _tensor(m: Machine, data: Any, *_: Any, dtype: Any = None, device: Any = None, requires_grad: Any = False) -> Any:
    """torch.tensor(number or nested lists of numbers)."""
    if isinstance(data, Var):
        return _to(m, data, dtype=dtype, copy=True)
    flat, shape = _flat(data)
    kinds = {kind_of(v) for v in flat}
    kind = float if float in kinds or not kinds else int if int in kinds else bool
    wanted = (
        dtype_of_number(dtype) if dtype is not None else torch.get_default_dtype() if kind is float else KINDS[kind]
    )
    if any(isinstance(v, (Num, Dim)) for v in flat):
        parts = [m.tape.cast(_number(m, v, kind), wanted) for v in flat]
        return m.tape.call(ATEN.reshape.default, m.tape.call(ATEN.stack.default, parts), shape)
    if not shape:
        return m.tape.call(ATEN.full.default, [], flat[0], dtype=wanted)
    value = torch.tensor(flat, dtype=wanted).reshape(shape)
    if value.numel() and bool((value == value.reshape(-1)[0]).all()):
        return m.tape.call(ATEN.full.default, shape, value.reshape(-1)[0].item(), dtype=wanted)
    if not value.numel():
        return m.tape.call(ATEN.zeros.default, shape, dtype=wanted)
    parts = [m.tape.call(ATEN.full.default, [], v, dtype=wanted) for v in flat]
    return m.tape.call(ATEN.reshape.default, m.tape.call(ATEN.stack.default, parts), shape)


def _as_tensor(m: Machine, data: Any, dtype: Any = None, device: Any = None) -> Any:
    """The tensor itself, if it is one of that dtype."""
    return _to(m, data, dtype=dtype) if isinstance(data, Var) else _tensor(m, data, dtype=dtype)


def _scalar_tensor(m: Machine, value: Any, *, dtype: Any = None, **_: Any) -> Any:
    wanted = dtype_of_number(dtype) if dtype is not None else torch.get_default_dtype()
    return m.tape.cast(_number(m, value, kind_of(value)), wanted)


def _number(m: Machine, value: Any, kind: type) -> Var:
    if isinstance(value, Dim):
        value = m.as_run_time(value)
    return m.tape.number(value, kind)


def _flat(data: Any) -> tuple[list[Any], list[int]]:
    if is_number(data):
        return [data], []
    if not isinstance(data, (list, tuple)):
        raise Refusal(f"a tensor of {describe(data)}")
    parts = [_flat(d) for d in data]
    if any(p[1] != parts[0][1] for p in parts):
        raise Refusal("a tensor of lists of different lengths")
    return [v for p in parts for v in p[0]], [len(data), *(parts[0][1] if parts else [])]


def _to(m: Machine, x: Any, *args: Any, **kwargs: Any) -> Any:
    """tensor.to in all its forms; devices are all the same."""
    dtype = kwargs.get("dtype")
    flags = [a for a in args if not isinstance(a, (torch.device, str)) and a is not None]
    if flags and isinstance(flags[0], Var):
        dtype, flags = flags[0].meta.dtype, flags[1:]
    elif flags and type(flags[0]) is int:
        dtype, flags = dtype_of_number(flags[0]), flags[1:]
    elif type(dtype) is int:
        dtype = dtype_of_number(dtype)
    copy = kwargs.get("copy", False) or (len(flags) > 1 and flags[1] is True)
    order = kwargs.get("memory_format", flags[2] if len(flags) > 2 else None)
    order = torch.preserve_format if order is None else MEMORY_FORMATS[order]
    if order is not torch.preserve_format:
        _strides(x)
        copy = copy or suggest_memory_format(x.meta) is not order
    if dtype is not None and dtype is not x.meta.dtype:
        x, copy = m.tape.cast(x, dtype), order is not torch.preserve_format
    return m.tape.call(ATEN.clone.default, x, memory_format=order) if copy else x


def _select(m: Machine, x: Any, axis: Any, index: Any) -> Any:
    """x.select(axis, i) with i known at run time: a row that is read again when x is written."""
    if isinstance(index, Dim):
        index = m.as_run_time(index)
    if not isinstance(index, Num):
        return NotImplemented
    n = dim_of(m, x, axis)
    size_ = m.tape.number(n, int) if type(n) is int else m.as_run_time(n).var
    low = m.tape.call(ATEN.lt.Tensor, index.var, m.tape.call(ATEN.neg.default, size_))
    high = m.tape.call(ATEN.ge.Tensor, index.var, size_)
    m.tape.fail(m.tape.call(ATEN.logical_or.default, low, high), f"index out of range for axis {axis}")
    wrapped = m.tape.call(ATEN.remainder.Tensor, index.var, m.tape.call(ATEN.clamp.default, size_, 1))
    row = m.tape.call(ATEN.reshape.default, wrapped, [1])
    return m.tape.pick(x, axis, row)


def _slice(m: Machine, x: Any, axis: Any = 0, start: Any = None, stop: Any = None, step: Any = 1) -> Any:
    if not isinstance(x, Var) or not any(_varies(v) for v in (start, stop, step)):
        return NotImplemented
    return grown.cut(m, x, _axis(x, axis), start, stop, step)


def _recurrent(kind: str) -> Callable[..., Any]:
    """A recurrent layer over a number of steps that varies."""

    def run(
        m: Machine, x: Any, hx: Any, params: Any, biases: Any = None, layers: Any = None, dropout: Any = 0.0,
        train: Any = False, bidirectional: Any = False, batch_first: Any = False,
    ) -> Any:  # fmt: skip
        if not isinstance(x, Var) or not isinstance(params, list) or x.meta.dim() != 3 or train is not False:
            return NotImplemented
        if all(isinstance(n, int) for n in x.meta.shape):
            return NotImplemented
        states = list(hx) if isinstance(hx, (list, tuple)) else [hx]
        if any(isinstance(s, Var) and s.meta.shape[2] != states[0].meta.shape[2] for s in states):
            raise Refusal("an LSTM with a projection (proj_size) is not supported")
        return tuple(m.tape.call(RECURRENT, x, states, params, kind, biases, layers, bidirectional, batch_first))

    return run


def _narrow(m: Machine, x: Any, axis: Any, start: Any, length: Any) -> Any:
    if isinstance(start, Var):
        start = item(m, start, int)
    if not _varies(start) or isinstance(length, Num):
        return NotImplemented
    return grown.narrowed(m, x, _axis(x, axis), start, length)


def _varies(v: Any) -> bool:
    """Whether the run, or the next call, decides a bound."""
    return isinstance(v, Num) or (isinstance(v, Dim) and bool(v.needs))


def _axis(x: Var, axis: Any) -> int:
    if type(axis) is not int or not -x.meta.dim() <= axis < x.meta.dim():
        raise Refusal(f"an axis {describe(axis)} of {describe(x)}", needs_of(axis))
    return int(axis % x.meta.dim())


def _add_relu(name: str, relu: str) -> Callable[..., Any]:
    """What optimize_for_mobile made of relu(add(a, b, alpha))."""

    def add_relu(m: Machine, a: Any, b: Any, alpha: Any = 1, out: Any = None) -> Any:
        made = m.torch(relu, [m.torch(name, [a, b], {"alpha": alpha})], {})
        if out is None:
            return made
        if not same_type(out, made):
            raise Refusal(f"_add_relu with out= of {describe(out)} for {describe(made)}: give it that shape and type")
        return m.torch("copy_", [out, made], {})

    return add_relu


def same_type(x: Var, y: Var) -> bool:
    return x.meta.dtype is y.meta.dtype and str(x.meta.shape) == str(y.meta.shape)


def _full(m: Machine, shape: Any, value: Any, **kwargs: Any) -> Any:
    if not isinstance(value, Num):
        return NotImplemented
    wanted = kwargs.get("dtype")
    default = torch.get_default_dtype() if value.kind is float else torch.int64
    scalar = m.tape.cast(value.var, dtype_of_number(wanted) if wanted is not None else default)
    made = m.torch("expand", [scalar, shape], {})
    return m.tape.call(ATEN.clone.default, made, memory_format=torch.contiguous_format)


def _full_like(m: Machine, x: Any, value: Any, **kwargs: Any) -> Any:
    if not isinstance(value, Num):
        return NotImplemented
    made = m.torch("empty_like", [x], {k: v for k, v in kwargs.items() if k == "dtype"})
    return m.torch("fill_", [made, value], {})


def _fill(m: Machine, x: Any, value: Any) -> Any:
    if not isinstance(value, Num):
        return NotImplemented
    return call_op(m.tape, "aten", "fill_", [x, m.tape.cast(value.var, x.meta.dtype)], {})


def _strides(x: Var) -> Any:
    if x.loose:
        raise Refusal("the strides of a tensor that is not laid out alike on all paths are asked for")
    return x.meta.stride()


def _is_contiguous(m: Machine, x: Var, memory_format: int = 0) -> Any:
    _strides(x)
    return x.meta.is_contiguous(memory_format=MEMORY_FORMATS[memory_format])


def _stride(m: Machine, x: Var, axis: Any = None) -> Any:
    if type(axis) is int or axis is None:
        return list(_strides(x)) if axis is None else _strides(x)[axis]
    raise Refusal("a stride of an axis that depends on the inputs", needs_of(axis))


def _type_as(m: Machine, x: Var, other: Var) -> Any:
    return _to(m, x, other)


def _equal(m: Machine, x: Var, y: Var) -> Any:
    """torch.equal, on tensors whose shapes are known."""
    if not all(isinstance(n, int) for n in (*x.meta.shape, *y.meta.shape)):
        raise Refusal("equal of tensors whose sizes vary")
    if x.meta.shape != y.meta.shape:
        return False
    return item(m, m.torch("all", [m.torch("eq", [x, y], {})], {}), bool)


def _allclose(m: Machine, x: Var, y: Var, *args: Any, **kwargs: Any) -> Any:
    return item(m, m.torch("all", [m.torch("isclose", [x, y, *args], kwargs)], {}), bool)


def _native_dropout(m: Machine, x: Var, p: Any, train: Any) -> Any:
    """Without training a copy, where torch's own decomposition gives the tensor itself."""
    if train is not False:
        return NotImplemented
    return m.torch("clone", [x], {}), m.torch("ones_like", [x], {"dtype": dtype_number(torch.bool)})


SPECIAL: dict[str, Callable[..., Any]] = {
    "native_dropout": _native_dropout,
    "_native_multi_head_attention": attention.native_attention,
    "_transformer_encoder_layer_fwd": attention.encoder_layer,
    "_nested_tensor_from_mask": attention.nested,
    "_nested_tensor_from_mask_left_aligned": attention.nested,
    "allclose": _allclose,
    "equal": _equal,
    "__lshift__": lambda m, x, n: m.torch("bitwise_left_shift", [x, n], {}),
    "__rshift__": lambda m, x, n: m.torch("bitwise_right_shift", [x, n], {}),
    "size": size,
    "len": _len,
    "dim": lambda m, x: x.meta.dim(),
    "ndimension": lambda m, x: x.meta.dim(),
    "numel": _numel,
    "item": _item,
    "tensor": _tensor,
    "as_tensor": _as_tensor,
    "scalar_tensor": _scalar_tensor,
    "to": _to,
    "type_as": _type_as,
    "cpu": lambda m, x: x,
    "cuda": lambda m, x, *a: x,
    "pin_memory": lambda m, x: x,
    "is_floating_point": lambda m, x: x.meta.dtype.is_floating_point,
    "is_complex": lambda m, x: x.meta.dtype.is_complex,
    "is_signed": lambda m, x: x.meta.dtype.is_signed,
    "is_contiguous": _is_contiguous,
    "stride": _stride,
    "element_size": lambda m, x: x.meta.element_size(),
    "get_device": lambda m, x: -1,
    "is_nonzero": lambda m, x: item(m, x, bool),
    "select": _select,
    "slice": _slice,
    "narrow": _narrow,
    **{kind: _recurrent(kind) for kind in RECURRENT_KINDS},
    "full": _full,
    "full_like": _full_like,
    "fill_": _fill,
    "_add_relu": _add_relu("add", "relu"),
    "_add_relu_": _add_relu("add_", "relu_"),
    "requires_grad_": lambda m, x, *a: x,
    "retain_grad": lambda m, x: None,
}
