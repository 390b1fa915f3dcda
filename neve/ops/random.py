"""Random numbers as torch's CPU generator gives them: words of a Mersenne twister, and how distributions take them.

An op here has no effect: it takes the generator's state and gives the advanced one. Capture reads it from `GENERATOR`
and writes it back, so draws keep their order, are never merged, and happen even if their values are not used.

The state has the form of `torch.get_rng_state()`: the seed (uint64 at 0), what is left of the block of 624 words + 1
(int32 at 8), 1 (int32 at 12), how many of them are used (uint64 at 16), the words (uint64 each, at 24), the second of a
pair of normal numbers that the next scalar draw takes (float64 at 5024), and whether there is one (int32 at 5040).
Sources: aten/src/ATen/core/MT19937RNGEngine.h, DistributionsHelper.h, TransformationHelper.h and
native/cpu/DistributionTemplates.h, MultinomialKernel.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from neve.ir.graph import StateVar
from neve.ir.loops import Builder, Tensor, call, cast, const, where
from neve.ir.types import Dim, DType, TensorType, dims, numel, round_to, same
from neve.ops.base import Op, Sample
from neve.ops.shape import reshaped

WORDS, STATE_BYTES, DEFAULT_SEED = 624, 5056, 67280421310721
STATE = TensorType((STATE_BYTES,), DType.uint8)
KINDS = (
    "uniform",
    "normal",
    "serial_normal",
    "log_normal",
    "exponential",
    "cauchy",
    "geometric",
    "bernoulli",
    "bernoulli_of",
    "integers",
    "any_integers",
    "permutation",
    "multinomial",
    "rrelu",
)
_OPERANDS = ("bernoulli_of", "multinomial", "rrelu")


def seeded(seed: int) -> np.ndarray:
    """The state of a generator after `manual_seed(seed)`."""
    state = np.zeros(STATE_BYTES, np.uint8)
    words = np.zeros(WORDS, np.uint64)
    word = seed & 0xFFFFFFFF
    for i in range(WORDS):
        words[i] = word
        word = (1812433253 * (word ^ word >> 30) + i + 1) & 0xFFFFFFFF
    state[:8] = np.array([seed], np.uint64).view(np.uint8)
    state[8:16] = np.array([1, 1], np.int32).view(np.uint8)
    state[24:5016] = words.view(np.uint8)
    return state


GENERATOR = StateVar("torch.default_generator", seeded(DEFAULT_SEED), DType.uint8)
"""The one generator of a program."""


@dataclass(frozen=True)
class Draw(Op):
    """state, for some an operand → values, the advanced state.

    uniform: in [a, b), 24 random bits (53 of float64). normal: mean a, deviation b, by pairs within blocks of 16, as
    serial_normal below 16 elements. serial_normal, log_normal: by pairs, one after the other. exponential: of rate a.
    cauchy: median a, scale b. geometric: of probability a. bernoulli: 1 with probability a; bernoulli_of: with those of
    the operand. integers: low + word modulo span, a word having 64 bits from a span of 2**28 on;
    any_integers: words of `low` bits modulo span. permutation: of 0 … n - 1. multinomial: places in the rows
    of an operand (rows, n) of weights, with replacement. rrelu: for an element <= 0 of the operand uniform in [a, b), 1
    for others, which draw nothing.
    """

    name = "draw"
    kind: str
    shape: tuple[Dim, ...]
    dtype: DType
    a: float = 0.0
    b: float = 0.0
    low: int = 0
    span: int = 0

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if self.kind not in KINDS or not types or types[0] != STATE:
            raise ValueError(f"draw {self.kind} with {types}: wanted a kind of {KINDS} and the state {STATE} first")
        if len(types) != 1 + (self.kind in _OPERANDS):
            raise ValueError(f"draw {self.kind} with {len(types)} inputs")
        if self.kind in ("bernoulli_of", "rrelu"):
            fits = len(self.shape) == types[1].rank and all(
                same(d, e) for d, e in zip(self.shape, types[1].shape, strict=True)
            )
            if not fits or not types[1].dtype.is_float:
                raise ValueError(f"draw {self.kind} of shape {self.shape} for {types[1]}")
        if self.kind == "multinomial" and (types[1].rank != 2 or len(self.shape) != 2 or not types[1].dtype.is_float):
            raise ValueError(f"multinomial of shape {self.shape} for {types[1]}")
        return (TensorType(dims(self.shape), self.dtype), STATE)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        words = _Words(inputs[0])
        n = int(numel(self.shape))
        values = getattr(self, f"_{self.kind}")(words, n, *inputs[1:]) if n else np.zeros(0)
        values = np.asarray(values).reshape(self.shape)
        if not self.dtype.is_float:
            values = values.astype(self.dtype.numpy)
        return (values, words.state())

    def _uniform(self, words: _Words, n: int) -> np.ndarray:
        real = np.float64 if self.dtype is DType.float64 else np.float32
        low, high = real(self.a), real(self.b)
        values = words.real(n, real) * (high - low) + low
        rounded = round_to(np.asarray(values), self.dtype)
        return np.where(rounded == round_to(np.asarray(high), self.dtype), low, values)

    def _normal(self, words: _Words, n: int) -> np.ndarray:
        if n < 16:
            return self._serial_normal(words, n)
        real = np.float64 if self.dtype is DType.float64 else np.float32
        whole = n // 16 * 16
        raw = words.real(whole if self.dtype.size == 2 else n, real)  # torch's loop for half types draws no remainder
        out = np.zeros(n, real)
        out[:whole] = self._pairs(raw[:whole].reshape(-1, 16)).reshape(-1)
        if n % 16:
            out[n - 16 :] = self._pairs(words.real(16, real).reshape(1, 16)).reshape(-1)
        return out

    def _pairs(self, raw: np.ndarray) -> np.ndarray:
        radius = np.sqrt(-2 * np.log(1 - raw[:, :8]))
        angle = (raw.dtype.type(2 * np.pi) * raw[:, 8:]).astype(raw.dtype)
        unit = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], 1)
        return np.asarray(unit * raw.dtype.type(self.b) + raw.dtype.type(self.a))

    def _serial_normal(self, words: _Words, n: int) -> np.ndarray:
        return np.array([words.normal() for _ in range(n)]) * self.b + self.a

    def _log_normal(self, words: _Words, n: int) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(self._serial_normal(words, n)))

    def _exponential(self, words: _Words, n: int) -> np.ndarray:
        return np.asarray(-1.0 / self.a * np.log1p(-words.real(n, np.float64)))

    def _cauchy(self, words: _Words, n: int) -> np.ndarray:
        return np.asarray(self.a + self.b * np.tan(np.pi * (words.real(n, np.float64) - 0.5)))

    def _geometric(self, words: _Words, n: int) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.asarray(np.ceil(np.log(words.real(n, np.float64)) / np.log1p(-self.a)))

    def _bernoulli(self, words: _Words, n: int) -> np.ndarray:
        return np.asarray(words.real(n, np.float64) < self.a)

    def _bernoulli_of(self, words: _Words, n: int, p: np.ndarray) -> np.ndarray:
        real = np.float64 if p.dtype == np.float64 else np.float32
        return np.asarray(words.real(n, real) < p.reshape(-1))

    def _integers(self, words: _Words, n: int) -> np.ndarray:
        found = words.wide(n) if self.span >= 2**28 else words.take(n).astype(np.uint64)
        return (found % np.uint64(self.span) + np.uint64(self.low & (2**64 - 1))).astype(np.int64)

    def _any_integers(self, words: _Words, n: int) -> np.ndarray:
        found = words.wide(n) if self.low == 64 else words.take(n).astype(np.uint64)
        return (found % np.uint64(self.span)).astype(np.int64)

    def _permutation(self, words: _Words, n: int) -> np.ndarray:
        out = np.arange(n)
        for i in range(n - 1):
            k = i + int(words.take(1)[0]) % (n - i)
            out[i], out[k] = out[k], out[i]
        return out

    def _multinomial(self, words: _Words, n: int, p: np.ndarray) -> np.ndarray:
        out = np.zeros(self.shape, np.int64)
        real: Any = np.float64 if p.dtype == np.float64 else np.float32
        for i, row in enumerate(p):
            sums = np.zeros(len(row), real)
            total = real(0)
            for j, weight in enumerate(row):
                total = real(total + real(weight))
                sums[j] = total
            sums = (sums / total).astype(real)
            sums[-1] = 1
            out[i] = np.searchsorted(sums.astype(np.float64), words.real(out.shape[1], np.float64), "left")
        return out

    def _rrelu(self, words: _Words, n: int, x: np.ndarray) -> np.ndarray:
        out = np.ones(n)
        below = x.reshape(-1) <= 0
        out[below] = words.real(int(below.sum()), np.float64) * (self.b - self.a) + self.a
        return out

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        n = numel(self.shape)
        if n == 0:
            return (b.compute(self.shape, self.dtype, lambda *i: cast(const(0, DType.int64), self.dtype)), inputs[0])
        wide = DType.float64 if self.dtype is DType.float64 else DType.float32 if self.dtype.is_float else DType.int64
        if self.dtype.is_float and self.kind in ("integers", "any_integers", "permutation"):
            wide = DType.int64
        operands = [
            x if x.dtype in (DType.float32, DType.float64) else _converted(b, x, DType.float32) for x in inputs[1:]
        ]
        macros: dict[str, Any] = {
            "KIND": str(KINDS.index(self.kind)),
            "T": _C[wide],
            "WIDE": str(int(wide is DType.float64)),
            "HALF": str(int(self.dtype.size == 2 and self.dtype.is_float)),
            "N": n,
            "A": float(self.a).hex(),
            "B": float(self.b).hex(),
            "LOW": f"UINT64_C({self.low & (2**64 - 1)})",
            "SPAN": f"UINT64_C({self.span})",
            "P": _C[operands[0].dtype] if operands else "float",
            "COLUMNS": inputs[1].shape[1] if self.kind == "multinomial" else "1",
            "SAMPLES": self.shape[1] if self.kind == "multinomial" else "1",
        }
        capacity: Dim = 2816 + (8 * inputs[1].shape[1] if self.kind == "multinomial" else 0)
        outs = (TensorType(dims((n,)), wide), STATE)
        values, state = b.extern("random.h", macros, (inputs[0], *operands), outs, scratch=capacity)
        if self.kind == "uniform" and self.dtype in (DType.float16, DType.bfloat16):
            low, high = (
                const(float(round_to(np.asarray(x, np.float32), self.dtype)), self.dtype) for x in (self.a, self.b)
            )
            rounded = _converted(b, values, self.dtype)
            values = b.compute((n,), self.dtype, lambda i: where(call("eq", rounded(i), high), low, rounded(i)))
        return (reshaped(b, _converted(b, values, self.dtype), self.shape), state)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        f32, f64 = DType.float32, DType.float64
        for n in (0, 1, 15, 16, 17, 40, 700):
            for dtype in (f32, f64, DType.float16, DType.bfloat16):
                yield Sample(cls("normal", (n,), dtype, 1.0, 2.0), (_used(n),))
                yield Sample(cls("uniform", (n,), dtype, -1.0, 2.0), (_used(n),))
        for kind, a, b in (
            ("serial_normal", 0.5, 2.0), ("log_normal", 0.0, 0.5), ("exponential", 1.5, 0.0), ("cauchy", 0.5, 2.0),
            ("geometric", 0.3, 0.0), ("bernoulli", 0.3, 0.0),
        ):  # fmt: skip
            yield Sample(cls(kind, (3, 7), f32, a, b), (_used(5),))
            yield Sample(cls(kind, (20,), f64, a, b), (_used(0),))
        for dtype in (DType.int64, DType.int32, DType.uint8, DType.bool, f32, DType.float16):
            yield Sample(cls("integers", (30,), dtype, low=0, span=2), (_used(3),))
            bits, span = ANY_INTEGERS[dtype]
            yield Sample(cls("any_integers", (30,), dtype, low=bits, span=span), (_used(3),))
            yield Sample(cls("bernoulli", (30,), dtype, 0.5), (_used(3),))
        yield Sample(cls("integers", (30,), DType.int64, low=-(2**62), span=2**63), (_used(3),))
        for n in (1, 2, 33):
            yield Sample(cls("permutation", (n,), DType.int64), (_used(3),))
        reals: tuple[Any, ...] = (np.float32, np.float64)
        for real in reals:
            p = np.random.default_rng(3).uniform(0, 1, (3, 9)).astype(real)
            yield Sample(cls("bernoulli_of", (3, 9), f32), (_used(3), p))
            yield Sample(cls("multinomial", (3, 11), DType.int64), (_used(3), p))
            yield Sample(cls("rrelu", (3, 9), f64 if real is np.float64 else f32, 0.1, 0.4), (_used(3), p - real(0.5)))


ANY_INTEGERS = {
    DType.float64: (64, 2**53 + 1),
    DType.float32: (32, 2**24 + 1),
    DType.float16: (32, 2**11 + 1),
    DType.bfloat16: (32, 2**8 + 1),
    DType.int64: (64, 2**63),
    DType.int32: (32, 2**31),
    DType.int16: (32, 2**15),
    DType.int8: (32, 2**7),
    DType.uint8: (32, 2**8),
    DType.bool: (32, 2),
}
"""Bits and span of `any_integers`, of which random_() draws, by dtype."""
_C = {DType.float32: "float", DType.float64: "double", DType.int64: "int64_t"}


def _converted(b: Builder, x: Tensor, dtype: DType) -> Tensor:
    return x if x.dtype is dtype else b.compute(x.shape, dtype, lambda *i: cast(x(*i), dtype))


def _used(draws: int) -> np.ndarray:
    """A state after that many words and one scalar normal number."""
    words = _Words(seeded(7))
    words.take(draws)
    words.normal()
    return words.state()


class _Words:
    """The words of a generator in a state, by numpy's Mersenne twister."""

    def __init__(self, state: np.ndarray) -> None:
        self.before = state
        left, used = int(state[8:12].view(np.int32)[0]), int(state[16:24].view(np.uint64)[0])
        self.bits = np.random.MT19937()
        key = state[24:5016].view(np.uint64).astype(np.uint32)
        self.bits.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": WORDS if left == 1 else used}}
        self.kept = float(state[5024:5032].view(np.float64)[0]) if state[5040:5044].view(np.int32)[0] else None
        self.drawn = False

    def take(self, n: int) -> np.ndarray:
        self.drawn |= n > 0
        return self.bits.random_raw(n).astype(np.uint32)

    def wide(self, n: int) -> np.ndarray:
        pairs = self.take(2 * n).astype(np.uint64).reshape(n, 2)
        return np.asarray(pairs[:, 0] << np.uint64(32) | pairs[:, 1])

    def real(self, n: int, dtype: type[Any]) -> np.ndarray:
        """In [0, 1)."""
        if dtype is np.float64:
            return (self.wide(n) & np.uint64(2**53 - 1)) * 2.0**-53
        return np.asarray((self.take(n) & np.uint32(2**24 - 1)).astype(np.float32) * np.float32(2.0**-24))

    def normal(self) -> float:
        """The next of pairs by Box and Muller."""
        if self.kept is not None:
            value, self.kept = self.kept, None
            return value
        u1, u2 = self.real(2, np.float64)
        radius, angle = np.sqrt(-2.0 * np.log1p(-u2)), 2.0 * np.pi * u1
        self.kept = float(radius * np.sin(angle))
        return float(radius * np.cos(angle))

    def state(self) -> np.ndarray:
        out = self.before.copy()
        if self.drawn:
            state: Any = self.bits.state["state"]
            out[8:12] = np.array([WORDS + 1 - state["pos"]], np.int32).view(np.uint8)
            out[16:24] = np.array([state["pos"]], np.uint64).view(np.uint8)
            out[24:5016] = state["key"].astype(np.uint64).view(np.uint8)
        out[5024:5032] = np.array([self.kept or 0.0]).view(np.uint8)
        out[5040:5044] = np.array([self.kept is not None], np.int32).view(np.uint8)
        return out
