"""Builders of random numbers: each draw reads the state of `GENERATOR`, and writes the advanced one.

torch fills a tensor in the order of its memory, and normal numbers otherwise where memory is not contiguous, so strides
matter here: they are those of the fake tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

from neve.capture.aten import aten
from neve.capture.context import Context, Number, Refusal
from neve.capture.draws import NEEDED
from neve.internals import missing
from neve.ir.graph import Value
from neve.ir.types import DType
from neve.ops.activation import Dropout
from neve.ops.control import Raise, ReadState, WriteState
from neve.ops.random import ANY_INTEGERS, GENERATOR, Draw

PASSED_IN = "draw outside of the model and pass the numbers as an argument"


def draw(c: Context, kind: str, dtype: DType, fake: Any, operand: Value | None = None, **numbers: Any) -> Value:
    """Values for a tensor that lies in memory as the fake one does; operand has its shape."""
    order = memory_order(fake)
    shape = c.type_of(fake).shape
    if (kind == "normal" and order != tuple(range(len(shape)))) or (kind == "normal" and not _contiguous(fake)):
        kind = "serial_normal"
    inputs = () if operand is None else (c.permute(operand, order),)
    values = advance(c, Draw(kind, tuple(shape[a] for a in order), dtype, **numbers), *inputs)
    return c.permute(values, [order.index(a) for a in range(len(order))])


def advance(c: Context, op: Draw, *inputs: Value) -> Value:
    """The values of a draw; the generator goes on. Refused where torch may have dropped a draw before it."""
    if lost := missing(*NEEDED):
        raise Refusal(
            f"torch {torch.__version__} lacks {', '.join(lost)}, without which draws may be lost: {PASSED_IN}"
        )
    values, state = c.emit(op, c(ReadState(GENERATOR)), *inputs)
    c.emit(WriteState(GENERATOR), state)
    return values


def memory_order(fake: Any) -> tuple[int, ...]:
    """The axes from the outermost in memory to the innermost; those of a contiguous tensor as they are."""
    if _contiguous(fake):
        return tuple(range(fake.dim()))
    try:
        strides = [int(s) for s in fake.stride()]
        sizes = [int(n) for n in fake.shape]
    except Exception:
        raise Refusal(f"random numbers for a tensor whose order in memory depends on sizes: {PASSED_IN}") from None
    if any(s == 0 and n > 1 for s, n in zip(strides, sizes, strict=True)):
        raise Refusal("random numbers for an expanded tensor: call .clone() on it first")
    return tuple(sorted(range(len(strides)), key=lambda a: -strides[a] if sizes[a] != 1 else -(2**62)))


def _contiguous(fake: Any) -> bool:
    try:
        return bool(fake.is_contiguous())
    except Exception:
        raise Refusal(f"random numbers for a tensor whose order in memory depends on sizes: {PASSED_IN}") from None


def _own(generator: Any) -> None:
    if generator is not None:
        raise Refusal(
            "a generator of its own (generator=…) is not supported: leave it out, and seed the compiled module by "
            f"module.manual_seed(n), or {PASSED_IN}"
        )


def _number(value: Any, what: str) -> float:
    if isinstance(value, (Value, Number)):
        raise Refusal(f"{what} is known at run time only: draw standard numbers and scale them")
    return float(value)


@cache
def twister_alone() -> bool:
    """Whether this torch draws bernoulli_(p), exponential_ from the Mersenne twister: on processors of Intel it takes
    MKL's generator, seeded by it.
    """
    for n in (1, 50):
        scalar, tensor = (torch.Generator().manual_seed(3) for _ in range(2))
        p = torch.full((n,), 0.3, dtype=torch.float64)
        one = torch.empty(n).bernoulli_(0.3, generator=scalar)
        if not torch.equal(one.double(), torch.bernoulli(p, generator=tensor)):
            return False
    return True


def _twister(name: str) -> None:
    if not twister_alone():
        instead = {
            "exponential": "-torch.log1p(-torch.rand_like(x, dtype=torch.float64)) / rate",
            "bernoulli": "torch.bernoulli(torch.full_like(x, p))",
        }[name]
        raise Refusal(
            f"torch draws {name} numbers from MKL's generator on this processor, which is not reproduced: "
            f"use {instead}, or {PASSED_IN}"
        )


def bernoulli_numbers(c: Context, p: float, dtype: DType, fake: Any) -> Value:
    """1 with probability p, else 0, for a tensor like the fake one."""
    _twister("bernoulli")
    return draw(c, "bernoulli", dtype, fake, a=p)


def _out(c: Context) -> Any:
    return c.node.meta["val"]


def _given(c: Context) -> Any:
    """The fake tensor that a functional form of an in-place op is called with."""
    return c.node.args[0].meta["val"]


@aten("rand", "rand_like", "rand.generator", "rand_like.generator")
def rand(c: Context, *args: Any, generator: Any = None, **kwargs: Any) -> Value:
    _own(generator)
    return draw(c, "uniform", c.out.dtype, _out(c), a=0.0, b=1.0)


@aten("randn", "randn_like", "randn.generator", "randn_like.generator")
def randn(c: Context, *args: Any, generator: Any = None, **kwargs: Any) -> Value:
    _own(generator)
    return draw(c, "normal", c.out.dtype, _out(c), a=0.0, b=1.0)


@aten("uniform")
def uniform(c: Context, x: Value, low: Any = 0.0, high: Any = 1.0, generator: Any = None) -> Value:
    _own(generator)
    low, high = _number(low, "the bound of uniform_"), _number(high, "the bound of uniform_")
    return draw(c, "uniform", x.dtype, _given(c), a=low, b=high)


@aten("normal_functional")
def normal(c: Context, x: Value, mean: Any = 0.0, std: Any = 1.0, generator: Any = None) -> Value:
    _own(generator)
    mean, std = _number(mean, "the mean of normal_"), _number(std, "the deviation of normal_")
    return draw(c, "normal", x.dtype, _given(c), a=mean, b=std)


@aten("normal.float_float")
def normal_sized(c: Context, mean: Any, std: Any, size: Any, generator: Any = None, **kwargs: Any) -> Value:
    _own(generator)
    mean, std = _number(mean, "the mean of normal"), _number(std, "the deviation of normal")
    return draw(c, "normal", c.out.dtype, _out(c), a=mean, b=std)


@aten("normal.Tensor_float", "normal.float_Tensor", "normal.Tensor_Tensor")
def normal_of(c: Context, mean: Any = 0.0, std: Any = 1.0, *, generator: Any = None) -> Value:
    _own(generator)
    out = c.out
    if isinstance(std, Value):
        negative = c("lt", std, c.full(0, std.dtype))
        c.emit(Raise("normal expects all elements of std >= 0.0"), _any(c, negative))
        unit = draw(c, "normal", out.dtype, _out(c), a=0.0, b=1.0)
        unit = c("mul", unit, c.expand(c.cast(std, out.dtype), out.shape))
    else:
        unit = draw(c, "normal", out.dtype, _out(c), a=0.0, b=_number(std, "the deviation of normal"))
    return c("add", unit, c.expand(c.tensor(mean, out.dtype), out.shape))


@aten("log_normal")
def log_normal(c: Context, x: Value, mean: Any = 1.0, std: Any = 2.0, generator: Any = None) -> Value:
    _own(generator)
    mean, std = _number(mean, "the mean of log_normal_"), _number(std, "the deviation of log_normal_")
    return draw(c, "log_normal", x.dtype, _given(c), a=mean, b=std)


@aten("exponential")
def exponential(c: Context, x: Value, lambd: Any = 1.0, generator: Any = None) -> Value:
    _own(generator)
    _twister("exponential")
    return draw(c, "exponential", x.dtype, _given(c), a=_number(lambd, "the rate of exponential_"))


@aten("cauchy")
def cauchy(c: Context, x: Value, median: Any = 0.0, sigma: Any = 1.0, generator: Any = None) -> Value:
    _own(generator)
    median, sigma = _number(median, "the median of cauchy_"), _number(sigma, "the scale of cauchy_")
    return draw(c, "cauchy", x.dtype, _given(c), a=median, b=sigma)


@aten("geometric")
def geometric(c: Context, x: Value, p: Any, generator: Any = None) -> Value:
    _own(generator)
    return draw(c, "geometric", x.dtype, _given(c), a=_number(p, "the probability of geometric_"))


@aten("bernoulli", "bernoulli.p", "bernoulli.Tensor")
def bernoulli(c: Context, x: Value, p: Any = None, *, generator: Any = None) -> Value:
    _own(generator)
    if p is None or isinstance(p, Value):
        return _bernoulli_of(c, x, x if p is None else p)
    if not _contiguous(_given(c)):
        raise Refusal("bernoulli numbers for a tensor that is not contiguous: call .contiguous() on it first")
    return bernoulli_numbers(c, _number(p, "the probability of bernoulli"), x.dtype, _out(c))


def _bernoulli_of(c: Context, x: Value, p: Value) -> Value:
    fake = _given(c) if p is not x else _out(c)
    zero, one = c.full(0, p.dtype), c.full(1, p.dtype)
    inside = c("bitwise_and", c("ge", p, zero), c("le", p, one))
    c.emit(Raise("Expected p_in >= 0 && p_in <= 1 to be true, but got false."), _any(c, c("logical_not", inside)))
    return draw(c, "bernoulli_of", x.dtype, fake, c.expand(p, x.shape))


def _any(c: Context, flags: Value) -> Value:
    from neve.ops.reduce import Any as AnyOp

    return c(AnyOp(tuple(range(len(flags.shape)))), flags) if flags.shape else flags


@aten(
    "randint", "randint.low", "randint_like", "randint_like.low_dtype", "randint.generator", "randint.low_generator",
)  # fmt: skip
def randint(c: Context, *args: Any, generator: Any = None, **kwargs: Any) -> Value:
    _own(generator)
    given = [a for a in args if not isinstance(a, (Value, list, tuple))]
    if any(isinstance(a, Number) for a in given):
        raise Refusal("randint with bounds that are known at run time only: use torch.rand and floor")
    low, high = (0, *given)[-2:] if len(given) == 1 else given
    return _integers(c, low, high, c.out.dtype, _out(c))


def _integers(c: Context, low: Any, high: Any, dtype: DType, fake: Any) -> Value:
    try:
        low, high = int(low), int(high)
    except TypeError:
        raise Refusal("random integers with bounds that depend on sizes: use torch.rand and floor") from None
    if low >= high:
        raise Refusal(f"random integers from {low} to {high}: the range is empty")
    if dtype.is_float and max(abs(low), abs(high)) > {8: 2**53, 4: 2**24}.get(dtype.size, 2**8):
        raise Refusal(f"random integers from {low} to {high} as {dtype.value}, which does not have all of them")
    return draw(c, "integers", dtype, fake, low=low, span=high - low)


@aten("random", "random.from", "random.to")
def random(c: Context, x: Value, *args: Any, generator: Any = None) -> Value:
    _own(generator)
    if not args:
        bits, span = ANY_INTEGERS[x.dtype]
        return draw(c, "any_integers", x.dtype, _given(c), low=bits, span=span)
    low, high = (0, args[0]) if len(args) == 1 else args
    if high is None:
        raise Refusal("random_(from, None) is not supported: name the upper bound")
    return _integers(c, low, high, x.dtype, _given(c))


@aten("randperm", "randperm.generator")
def randperm(c: Context, n: Any, *, generator: Any = None, **kwargs: Any) -> Value:
    _own(generator)
    return draw(c, "permutation", c.out.dtype, _out(c))


@aten("multinomial")
def multinomial(c: Context, p: Value, samples: Any, replacement: bool = False, *, generator: Any = None) -> Value:
    from neve.ops.sort import TopK

    _own(generator)
    out = c.out
    rank, fake = len(p.shape), c.node.args[0].meta["val"]
    _check_weights(c, p)
    if replacement and not (isinstance(samples, int) and samples == 1):
        rows = p if rank == 2 else c.reshape(p, (1, *p.shape))
        values = advance(c, Draw("multinomial", (rows.shape[0], samples), DType.int64), rows)
        return c.reshape(values, out.shape)
    _twister("exponential")
    q = draw(c, "exponential", p.dtype, fake, a=1.0)
    q = c("div", p, q)
    return c.emit(TopK(samples, rank - 1), q)[1]


def _check_weights(c: Context, p: Value) -> None:
    """Raises as eager does for weights that are no distribution."""
    from neve.ops.reduce import Sum

    zero, infinite = c.full(0, p.dtype), c.full(math.inf, p.dtype)
    inside = c("bitwise_and", c("ge", p, zero), c("lt", p, infinite))
    what = "probability tensor contains either `inf`, `nan` or element < 0"
    c.emit(Raise(what), _any(c, c("logical_not", inside)))
    none = c("le", c(Sum((len(p.shape) - 1,)), p), zero)
    c.emit(Raise("invalid multinomial distribution (sum of probabilities <= 0)"), _any(c, none))


def random_rrelu(c: Context, x: Value, noise: Value, low: float, high: float, generator: Any) -> tuple[Value, Value]:
    """x times a random slope where it is not positive, and the slopes."""
    _own(generator)
    fake = c.node.args[0].meta["val"]
    if not _contiguous(fake) or not _contiguous(c.node.args[1].meta["val"]):
        raise Refusal("rrelu in training mode of a tensor that is not contiguous: call .contiguous() on it first")
    slope = draw(c, "rrelu", x.dtype, fake, x, a=low, b=high)
    return c("mul", x, slope), slope


@aten("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def dropout(c: Context, x: Value, p: float, train: bool) -> Value:
    if not train or p == 0:
        return c(Dropout(float(p)), x)
    kind = c.node.target.overloadpacket.__name__
    return dropped(c, x, c.node.args[0].meta["val"], float(p), "feature" in kind, "alpha" in kind)


def dropped(c: Context, x: Value, fake: Any, p: float, feature: bool = False, alpha: bool = False) -> Value:
    """Dropout that is on, of a tensor that lies in memory as the fake one."""
    if p == 1:
        return c("mul", x, c.full(0, x.dtype))
    if feature:
        if fake.dim() < 2:
            raise Refusal("feature dropout requires at least 2 dimensions in the input")
        fake = fake.new_empty((*fake.shape[:2], *(1,) * (fake.dim() - 2)))
    noise = bernoulli_numbers(c, 1 - p, x.dtype, fake)
    if not alpha:
        return c("mul", x, c("div", noise, c.full(1 - p, x.dtype)))
    scale = 1.7580993408473766
    a = 1.0 / math.sqrt((scale * scale * p + 1) * (1 - p))
    shift = c("mul", c("add", noise, c.full(-1, x.dtype)), c.full(scale * a, x.dtype))
    shift = c("add", shift, c.full(scale * a * p, x.dtype))
    return c("add", c("mul", x, c("mul", noise, c.full(a, x.dtype))), shift)


@aten("native_dropout")
def native_dropout(c: Context, x: Value, p: float, train: bool | None) -> tuple[Value, Value]:
    if train is False or p == 0:
        return x, c.full(True, DType.bool, x.shape)
    fake = c.node.args[0].meta["val"]
    kept = bernoulli_numbers(c, 1 - p, DType.bool, fake)
    scale = 0.0 if p == 1 else 1 / (1 - p)
    return c("mul", c("mul", x, c.cast(kept, x.dtype)), c.full(scale, x.dtype)), kept


def refuse_random(names: Sequence[str]) -> None:
    """Registers a refusal for distributions that are not reproduced."""
    for name in names:

        @aten(name)
        def refused(c: Context, *args: Any, name: str = name, **kwargs: Any) -> Any:
            raise Refusal(f"{name} numbers are not reproduced: {PASSED_IN}")


refuse_random(["poisson", "binomial", "_standard_gamma", "_sample_dirichlet"])
