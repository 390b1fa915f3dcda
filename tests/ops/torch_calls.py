"""What each basic op is in torch: TORCH maps op names to calls of (op, *tensors); a name not in it is torch.NAME or
torch.special.NAME.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from neve.ir.types import DType


def torch_type(dtype: DType) -> torch.dtype:
    return getattr(torch, dtype.value)  # type: ignore[no-any-return]


def to_torch(x: np.ndarray, dtype: DType) -> torch.Tensor:
    return torch.tensor(np.ascontiguousarray(x).reshape(x.shape)).to(torch_type(dtype))


def pads(op: Any) -> list[int]:
    """In torch's order: last axis first."""
    return [p for pair in reversed(op.pads) for p in pair]


def mirror(mode: str) -> Callable[..., torch.Tensor]:
    def f(op: Any, x: torch.Tensor) -> torch.Tensor:
        n = max((a for a, p in enumerate(reversed(op.pads), 1) if p != (0, 0)), default=0)
        if n == 0:
            return x
        flat = x if n < x.ndim <= n + 2 and mode != "circular" else x.reshape(*([1] * (n + 2 - x.ndim)), *x.shape)
        return torch.nn.functional.pad(flat, pads(op)[: 2 * n], mode=mode).reshape(
            [d + p + q for d, (p, q) in zip(x.shape, op.pads, strict=True)]
        )

    return f


def put(op: Any, x: torch.Tensor, *rest: torch.Tensor) -> Any:
    indices = dict(zip(op.axes, rest[:-1], strict=True))
    return torch.ops.aten.index_put(x, [indices.get(a) for a in range(x.ndim)], rest[-1], op.accumulate)


def scatter(op: Any, x: torch.Tensor, index: torch.Tensor, src: torch.Tensor) -> torch.Tensor:
    if op.reduce == "none":
        return torch.scatter(x, op.dim, index, src)
    return torch.scatter_reduce(x, op.dim, index, src, op.reduce, include_self=op.include_self)


def draw(op: Any, state: torch.Tensor, *operand: torch.Tensor) -> Any:
    """The values and the generator's state afterwards."""
    g = torch.Generator()
    g.set_state(state)
    x = torch.empty(op.shape, dtype=torch_type(op.dtype))
    gap = torch.empty((*op.shape, 2), dtype=x.dtype)[..., 0]
    made: dict[str, Callable[[], torch.Tensor]] = {
        "uniform": lambda: x.uniform_(op.a, op.b, generator=g),
        "normal": lambda: x.normal_(op.a, op.b, generator=g),
        "serial_normal": lambda: gap.normal_(op.a, op.b, generator=g),
        "log_normal": lambda: x.log_normal_(op.a, op.b, generator=g),
        "exponential": lambda: x.exponential_(op.a, generator=g),
        "cauchy": lambda: x.cauchy_(op.a, op.b, generator=g),
        "geometric": lambda: x.geometric_(op.a, generator=g),
        "bernoulli": lambda: x.bernoulli_(op.a, generator=g),
        "bernoulli_of": lambda: x.bernoulli_(operand[0], generator=g),
        "integers": lambda: x.random_(op.low, op.low + op.span, generator=g),
        "any_integers": lambda: x.random_(generator=g),
        "permutation": lambda: torch.randperm(op.shape[0], generator=g),
        "multinomial": lambda: torch.multinomial(operand[0], op.shape[1], True, generator=g),
        "rrelu": lambda: torch.ops.aten.rrelu_with_noise(operand[0], x, op.a, op.b, True, g) * 0 + x,
    }
    return made[op.kind](), g.get_state()


def over(name: str) -> Callable[..., torch.Tensor]:
    """A reduction; none of the axes, which torch takes for all, is said by an axis of size 1."""

    def f(op: Any, x: torch.Tensor) -> Any:
        function, keywords = getattr(torch, name, None) or torch.linalg.vector_norm, {}
        keywords.update(
            {"correction": op.correction} if name == "var" else {"ord": op.ord} if name == "linalg_vector_norm" else {}
        )
        axes = op.dims or (x.ndim,)
        return function(x if op.dims else x[..., None], dim=axes, keepdim=op.keepdim and bool(op.dims), **keywords)

    return f


def product(op: Any, x: torch.Tensor) -> torch.Tensor:
    for axis in sorted(op.dims, reverse=True):
        x = torch.prod(x, axis, keepdim=op.keepdim, dtype=x.dtype)
    return x


def truth(name: str) -> Callable[..., torch.Tensor]:
    def f(op: Any, x: torch.Tensor) -> torch.Tensor:
        for axis in sorted(op.dims, reverse=True):
            x = getattr(torch, name)(x, axis, keepdim=op.keepdim)
        return x

    return f


def middle(op: Any, x: torch.Tensor) -> Any:
    return (torch.nanmedian if op.ignore_nan else torch.median)(x, op.axis, op.keepdim)


def aranged(op: Any) -> Any:
    return (op.start + torch.arange(op.length, dtype=torch.float64) * op.step).to(torch_type(op.dtype))


F = torch.nn.functional
TORCH: dict[str, Callable[..., Any]] = {
    "draw": draw,
    "floor_divide": lambda op, x, y: torch.div(x, y, rounding_mode="floor"),
    "trunc_divide": lambda op, x, y: torch.div(x, y, rounding_mode="trunc"),
    "bitwise_left_shift": lambda op, x, y: torch.bitwise_left_shift(x, y),
    "bitwise_right_shift": lambda op, x, y: torch.bitwise_right_shift(x, y),
    "logsigmoid": lambda op, x: F.logsigmoid(x),
    "zeta": lambda op, x, y: torch.special.zeta(x, y),
    "ndtr": lambda op, x: torch.special.ndtr(x),
    "ndtri": lambda op, x: torch.special.ndtri(x),
    "log_ndtr": lambda op, x: torch.special.log_ndtr(x),
    "i0e": lambda op, x: torch.special.i0e(x),
    "i1": lambda op, x: torch.special.i1(x),
    "i1e": lambda op, x: torch.special.i1e(x),
    "xlog1py": lambda op, x, y: torch.special.xlog1py(x, y),
    "polygamma": lambda op, x: torch.polygamma(op.n, x),
    "gelu": lambda op, x: F.gelu(x),
    "gelu_tanh": lambda op, x: F.gelu(x, approximate="tanh"),
    "silu": lambda op, x: F.silu(x),
    "mish": lambda op, x: F.mish(x),
    "add_relu": lambda op, x, y: torch.relu(x + y),
    "dropout": lambda op, x: F.dropout(x, op.p, training=False),
    "clamp": lambda op, x: torch.clamp(x, op.min, op.max),
    "hardsigmoid": lambda op, x: F.hardsigmoid(x),
    "hardswish": lambda op, x: F.hardswish(x),
    "leaky_relu": lambda op, x: F.leaky_relu(x, op.negative_slope),
    "prelu": lambda op, x, w: torch.where(x > 0, x, w * x),
    "elu": lambda op, x: torch.ops.aten.elu(x, op.alpha, op.scale, op.input_scale),
    "softplus": lambda op, x: F.softplus(x, op.beta, op.threshold),
    "igamma": lambda op, a, x: torch.special.gammainc(a, x),
    "igammac": lambda op, a, x: torch.special.gammaincc(a, x),
    "frexp_mantissa": lambda op, x: torch.frexp(x)[0],
    "frexp_exponent": lambda op, x: torch.frexp(x)[1].to(x.dtype),
    "cast": lambda op, x: x.to(torch_type(op.dtype)),
    "constant": lambda op: to_torch(op.tensor.array, op.tensor.dtype),
    "full": lambda op: torch.full(op.shape, op.value, dtype=torch_type(op.dtype)),
    "arange": aranged,
    "size": lambda op: torch.tensor(op.value),
    "sum": lambda op, x: over("sum")(op, x).to(x.dtype),
    "mean": over("mean"),
    "var": over("var"),
    "amax": over("amax"),
    "amin": over("amin"),
    "logsumexp": over("logsumexp"),
    "linalg_vector_norm": over("linalg_vector_norm"),
    "prod": product,
    "any": truth("any"),
    "all": truth("all"),
    "argmax": lambda op, x: torch.argmax(x, op.dim, op.keepdim),
    "argmin": lambda op, x: torch.argmin(x, op.dim, op.keepdim),
    "cumsum": lambda op, x: torch.cumsum(x, op.axis, dtype=x.dtype),
    "cumprod": lambda op, x: torch.cumprod(x, op.axis, dtype=x.dtype),
    "cummax": lambda op, x: torch.cummax(x, op.axis),
    "cummin": lambda op, x: torch.cummin(x, op.axis),
    "logcumsumexp": lambda op, x: torch.logcumsumexp(x, op.axis),
    "reshape": lambda op, x: x.reshape(op.shape),
    "permute": lambda op, x: x.permute(op.dims),
    "expand": lambda op, x: x.expand(op.shape),
    "slice": lambda op, x: torch.ops.aten.slice(x, op.axis, op.start, op.stop, op.step),
    "flip": lambda op, x: x.flip(op.dims),
    "repeat": lambda op, x: x.repeat(op.repeats),
    "diagonal": lambda op, x: torch.diagonal(x, op.offset, op.dim1, op.dim2),
    "unfold": lambda op, x: x.unfold(op.axis, op.size, op.step),
    "as_strided": lambda op, x: x.as_strided(op.size, op.stride, op.offset),
    "cat": lambda op, *x: torch.cat(x, op.axis),
    "constant_pad": lambda op, x: F.pad(x, pads(op), value=op.value),
    "reflection_pad": mirror("reflect"),
    "replication_pad": mirror("replicate"),
    "circular_pad": mirror("circular"),
    "roll": lambda op, x: x.roll(op.shift, op.axis),
    "tril": lambda op, x: x.tril(op.diagonal),
    "triu": lambda op, x: x.triu(op.diagonal),
    "as_strided_scatter": lambda op, x, src: torch.as_strided_scatter(x, src, op.size, op.stride, op.offset),
    "slice_scatter": lambda op, x, src: torch.slice_scatter(x, src, op.axis, op.start, op.stop, op.step),
    "diagonal_scatter": lambda op, x, src: torch.diagonal_scatter(x, src, op.offset, op.dim1, op.dim2),
    "diag_embed": lambda op, x: torch.diag_embed(x, op.offset, op.dim1, op.dim2),
    "embedding": lambda op, w, i: F.embedding(i, w),
    "any_outside": lambda op, x: ((x.long() < op.low) | (x.long() >= op.high)).any(),
    "gather": lambda op, x, i: torch.gather(x, op.dim, i),
    "index_select": lambda op, x, i: torch.index_select(x, op.dim, i),
    "index_put": put,
    "scatter": scatter,
    "index": lambda op, x, *i: torch.ops.aten.index(
        x, [dict(zip(op.axes, i, strict=True)).get(a) for a in range(x.ndim)]
    ),
    "masked_scatter": lambda op, x, mask, source: torch.masked_scatter(x, mask, source),
    "sort": lambda op, x: torch.sort(x, dim=op.axis, descending=op.descending, stable=True),
    "topk": lambda op, x: torch.topk(x, op.k, op.axis, op.largest),
    "kthvalue": lambda op, x: torch.kthvalue(x, op.k, op.axis, op.keepdim),
    "median": middle,
    "mode": lambda op, x: torch.mode(x, op.axis, op.keepdim),
    "searchsorted": lambda op, s, v: torch.searchsorted(s, v, right=op.right),
}


def torch_call(name: str) -> Callable[..., Any]:
    """The op of that name, called with itself and its tensors."""
    function = getattr(torch, name, None) or getattr(torch.special, name, None)
    return TORCH.get(name) or (lambda op, *x: function(*x))  # type: ignore[misc]
