"""Discrete Fourier transforms along the last axis, of complex numbers as pairs of real tensors; overlap-add."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from neve.ir.index import Index
from neve.ir.loops import Builder, Expr, Tensor, cast, const, guard
from neve.ir.types import Dim, DType, TensorType, dims, numel
from neve.ops.base import Op, Sample
from neve.ops.checks import check, exact, wide
from neve.ops.samples import FLOATS, data, sample
from neve.ops.scatter import C_TYPES
from neve.ops.shape import reshaped

LARGEST = 31
"""The greatest prime factor of a length that the kernel takes; `neve.capture.aten_fourier` reduces others to it."""
MANY = 2048
"""Up to this length the kernel works on a vector of rows at a time (FFT_MANY in fft.h)."""
FORMS = ("complex", "real", "inverse_real")


@dataclass(frozen=True)
class Fourier(Op):
    """X[k] = Σ x[j] · exp(−2πi·j·k / n) over the last axis, of n. The first operand, (n, 2), is what `twiddles` gives.

    form "complex": (twiddles, re, im) → (re, im). With re and im exchanged on both sides it is the inverse.
    form "real": (twiddles, x) → (re, im) of n // 2 + 1 frequencies.
    form "inverse_real": (twiddles, re, im), of n // 2 + 1 frequencies, → the inverse's x, of n. The imaginary parts of
    frequency 0, and of n / 2, count as 0, as in torch.
    """

    n: int
    form: str = "complex"
    name: ClassVar[str] = "fourier"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        n, half = self.n, self.n // 2 + 1
        given, count = (half if self.form == "inverse_real" else n), (1 if self.form == "real" else 2)
        wanted = f"twiddles ({n}, 2), and {count} tensors (…, {given}) of float32 or float64"
        check(len(types) == count + 1 and self.form in FORMS and n > 0, self, wanted, types)
        table, x, *others = types
        check(x.rank > 0 and x.shape[-1] == given and all(t == x for t in others), self, wanted, types)
        check(x.dtype in (DType.float32, DType.float64), self, wanted, types)
        check(table == TensorType((n, 2), x.dtype), self, wanted, types)
        check(max(factors(n), default=1) <= LARGEST, self, f"a length with no prime factor above {LARGEST}", types)
        out = x.with_shape((*x.shape[:-1], half if self.form == "real" else n))
        return (out,) if self.form == "inverse_real" else (out, out)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        _, *parts = inputs
        wide, dtype = [p.astype(np.float64) for p in parts], parts[0].dtype
        with np.errstate(all="ignore"):
            if self.form == "inverse_real":
                return ((np.fft.irfft(wide[0] + 1j * wide[1], self.n) * self.n).astype(dtype),)
            y = np.fft.rfft(wide[0]) if self.form == "real" else np.fft.fft(wide[0] + 1j * wide[1])
        return (y.real.astype(dtype), y.imag.astype(dtype))

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The kernel of kernels/fft on rows."""
        table, *parts = inputs
        outs = self.infer(*(t.type for t in inputs))
        dtype = table.dtype
        if outs[0].numel == 0:
            return tuple(b.compute(o.shape, dtype, lambda *i: const(0.0, dtype)) for o in outs)
        rows = numel(parts[0].shape[:-1])
        m = self.n // 2 if self.form != "complex" and self.n % 2 == 0 else self.n
        macros: dict[str, str | int | Dim] = {
            "T": C_TYPES[dtype],
            "IS_DOUBLE": str(int(dtype is DType.float64)),
            "ROWS": rows,
            "N": str(self.n),
            "FORM": str(FORMS.index(self.form)),
            "FACTORS": ", ".join(map(str, factors(m))) or "1",
            "COUNT": str(len(factors(m))),
        }
        operands = [table, *(reshaped(b, p, (rows, p.shape[-1])) for p in parts)]
        scratch = 4 * m * (64 if m <= MANY else dtype.size) + 256
        types = [TensorType(dims((rows, o.shape[-1])), dtype) for o in outs]
        made = b.extern("fft/fft.h", macros, operands, types, scratch=scratch)
        return tuple(reshaped(b, t, o.shape) for t, o in zip(made, outs, strict=True))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for n in (1, 2, 3, 4, 5, 6, 7, 12, 31, 45, 80, 93, 240, 2100, 4000):
            for form in FORMS:
                last = n // 2 + 1 if form == "inverse_real" else n
                shape = (2, 9, last) if n < 400 else (1, 3, last)
                parts = [data(shape, seed=k + n) for k in range(1 if form == "real" else 2)]
                yield sample(cls(n, form), twiddles(n, DType.float32), *parts)
        for form in FORMS:
            last = 7 if form == "inverse_real" else 12
            parts = [data((5, last), DType.float64, k) for k in range(1 if form == "real" else 2)]
            yield sample(cls(12, form), twiddles(12, DType.float64), *parts)


@dataclass(frozen=True)
class OverlapAdd(Op):
    """Windows (…, frames, size), laid down every step elements and added up: (…, step · (frames − 1) + size)."""

    step: int
    name: ClassVar[str] = "overlap_add"

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        (x,) = types
        wanted = "float windows (…, frames, size), with a size that is a number"
        check(x.rank >= 2 and x.dtype.is_float and self.step > 0 and isinstance(x.shape[-1], int), self, wanted, types)
        frames, size = x.shape[-2:]
        return (x.with_shape((*x.shape[:-2], *dims((self.step * (frames - 1) + size,)))),)

    def eval(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = inputs
        frames, size = x.shape[-2:]
        out = np.zeros((*x.shape[:-2], self.step * (frames - 1) + size), exact(x).dtype)
        for f in range(frames):
            out[..., f * self.step : f * self.step + size] += x[..., f, :]
        return (out.astype(x.dtype),)

    def lower(self, b: Builder, *inputs: Tensor) -> tuple[Tensor, ...]:
        """By blocks of step elements: each is the sum of one block of some frames that follow one another."""
        (x,) = inputs
        (out,) = self.infer(x.type)
        frames, size = x.shape[-2:]
        acc, parts = wide(x.dtype), -(-size // self.step)

        def term(at: tuple[Index, ...], j: tuple[Index, ...]) -> Expr:
            *lead, block, k = at
            frame, inside = block - j[0], j[0] * self.step + k
            value = cast(x(*lead, frame, inside), acc)
            return guard(((frame, Index.of(frames)), (inside, Index.of(size))), value, const(0.0, acc))

        shape = dims((*x.shape[:-2], frames + parts - 1, self.step))
        blocks = b.reduce("sum", shape, acc, (parts,), term)
        lead = len(out.shape) - 1

        def element(*i: Index) -> Expr:
            return cast(blocks(*i[:lead], i[lead] // self.step, i[lead] % self.step), x.dtype)

        return (b.compute(out.shape, x.dtype, element),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for shape, step in (((2, 5, 8), 2), ((3, 7), 3), ((1, 4), 4), ((2, 1, 3, 5), 7), ((6, 4), 1)):
            yield sample(cls(step), data(shape))
        for dtype in FLOATS[1:]:
            yield sample(cls(2), data((2, 5, 6), dtype), dtypes=[dtype])


@lru_cache
def twiddles(n: int, dtype: DType) -> np.ndarray:
    """cos and −sin of 2π·t / n, (n, 2), exact where they are 0, ½ or 1."""
    t = np.arange(n)

    def cosine(eighth: np.ndarray) -> np.ndarray:
        """cos of 2π·eighth / 8n, from the first eighth of the circle."""
        turn = np.minimum(eighth % (8 * n), -eighth % (8 * n))
        sign, turn = np.where(turn > 2 * n, -1, 1), np.where(turn > 2 * n, 4 * n - turn, turn)
        near = turn <= n
        angle = np.where(near, turn, 2 * n - turn) * (np.pi / 4 / n)
        return np.asarray(sign * np.where(near, np.cos(angle), np.sin(angle)))

    return (np.stack([cosine(8 * t), -cosine(8 * t - 2 * n)], -1) + 0.0).astype(dtype.numpy)  # no -0


@lru_cache
def factors(n: int) -> tuple[int, ...]:
    """The factors of the kernel's passes: fours first, then primes."""
    found, p = [], 2
    while n % 4 == 0:
        found.append(4)
        n //= 4
    while n > 1:
        while n % p == 0:
            found.append(p)
            n //= p
        p += 1
    return tuple(found)
