"""One process of the op_db sweep: reads entry names, answers each with its class."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.testing._internal import common_methods_invocations as invocations
from torch.utils import _pytree as pytree

from neve.capture.constants import in_parts
from neve.errors import CaptureError, VerifyError
from neve.ops.random import DEFAULT_SEED
from tests.conformance.backends import BACKENDS, Backend, hide_unusable_packages

CHUNK = 24
GIVE_UP = 4
TOLERANCE = 1e-5
UNINITIALISED = frozenset({"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"})


@dataclass
class Case:
    """A sample as a function of its tensors; what else is among its leaves is part of the function."""

    op: Callable[..., Any]
    leaves: list[Any]
    spec: Any
    draws: bool = False

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return tuple(x for x in self.leaves if isinstance(x, torch.Tensor))

    def __call__(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """The tensors among the results."""
        rest = iter(tensors)
        given = [next(rest) if isinstance(x, torch.Tensor) else x for x in self.leaves]
        args, kwargs = pytree.tree_unflatten(given, self.spec)
        return [x for x in pytree.tree_leaves(self.op(*args, **kwargs)) if isinstance(x, torch.Tensor)]


DRAWING: list[bool] = []
"""Not empty after a sample that draws random numbers has run."""


def unseeded(op: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """In place of op_db's own wrapper, which seeds torch's generator inside of the op: here eager and the compiled
    module begin with one seed, and have to draw the same numbers.
    """
    DRAWING.append(True)
    return op(*args, **kwargs)


class Cases(nn.Module):
    """Several samples in one model: one export and one compilation for all."""

    def __init__(self, cases: Sequence[Case]) -> None:
        super().__init__()
        self.cases = cases

    def forward(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        results, at = [], 0
        for case in self.cases:
            n = len(case.tensors)
            results += case(*tensors[at : at + n])
            at += n
        return results


def cases(name: str, limit: int = 0, dtype: torch.dtype = torch.float32) -> list[Case]:
    """The entry's samples of a dtype; if limit, so many of them, evenly spread."""
    found = list(_all_cases(name, dtype))
    return found if not limit or len(found) <= limit else [found[i * len(found) // limit] for i in range(limit)]


def _all_cases(name: str, dtype: torch.dtype) -> Iterator[Case]:
    from torch.testing._internal.common_methods_invocations import op_db

    from tests.conformance.opdb import title

    for info in op_db:
        if title(info) == name:
            for s in info.sample_inputs("cpu", dtype, requires_grad=False):
                leaves, spec = pytree.tree_flatten(((s.input, *s.args), s.kwargs))
                yield Case(info.op, leaves, spec)


MOVES = 4
"""How often inputs are moved to see how a result depends on their rounding."""


class Entry:
    """The outcome of one entry's samples."""

    def __init__(self, name: str, backend: Backend, limit: int, dtype: torch.dtype) -> None:
        self.name, self.backend, self.limit, self.dtype = name, backend, limit, dtype
        self.count, self.not_exported = 0, 0
        self.found: dict[str, str] = {}
        self.refused = self.passed = 0

    def run(self) -> dict[str, Any]:
        todo = [c for c in cases(self.name, self.limit, self.dtype) if self._eager_works(c)]
        size = 1 if any(c.draws for c in todo) else CHUNK
        for i in range(0, len(todo), size):
            self._chunk(todo[i : i + size])
            if self.refused >= GIVE_UP and not self.passed:
                break
        kind = next((k for k in ("wrong", "crashed", "refused") if k in self.found), "right")
        if kind == "right" and not self.passed:
            kind, self.found["refused"] = "refused", "torch.export takes none of its samples"
        detail = self.found.get(kind, "")
        more = (
            f" ({self.not_exported} samples that torch.export refuses left out)"
            if self.not_exported and kind == "right"
            else ""
        )
        return {"class": kind, "detail": (detail + more)[:300], "samples": self.count}

    def _eager_works(self, case: Case) -> bool:
        try:
            with torch.no_grad():
                DRAWING.clear()
                case(*(t.clone() for t in case.tensors))
                case.draws = bool(DRAWING)
            return True
        except Exception:
            return False

    def _chunk(self, chunk: Sequence[Case]) -> None:
        if self.refused >= GIVE_UP and not self.passed:
            return
        tensors = tuple(t for c in chunk for t in c.tensors)
        try:
            run = self.backend(Cases(chunk), tensors, {})
            torch.manual_seed(DEFAULT_SEED)  # a compiled module draws from torch's generator
            got = list(run(tensors))
        except Exception as error:
            if len(chunk) > 1:
                half = len(chunk) // 2 if self.passed else 1
                self._chunk(chunk[:half])
                self._chunk(chunk[half:])
            else:
                self._failed(error)
            return
        for case in chunk:
            self.count += 1
            self.passed += 1
            n = self._compare(case, got)
            del got[:n]

    def _failed(self, error: Exception) -> None:
        internal = str(error).find("internal:") >= 0
        if isinstance(error, CaptureError) and not internal:
            if error.__cause__ is not None:
                self.not_exported += 1
                self.refused += 1
                return
            self.count += 1
            self.refused += 1
            self.found.setdefault("refused", error.reasons[0].split("\n")[0].split("  (")[0])
        elif isinstance(error, VerifyError) and self.name in UNINITIALISED:
            self.count += 1
            self.refused += 1
            self.found.setdefault("refused", "what eager gives is not determined")
        else:
            self.count += 1
            self.found.setdefault(
                "crashed", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            )

    def _compare(self, case: Case, got: Sequence[np.ndarray]) -> int:
        """Note a difference between eager and the first of got; returns how many belong to this case."""
        torch.manual_seed(DEFAULT_SEED)
        with torch.no_grad():
            wanted = [in_parts(w) for w in case(*(t.clone() for t in case.tensors))]
        for i, (g, w) in enumerate(zip(got, wanted, strict=False)):
            if g.shape != tuple(w.shape):
                self.found.setdefault("wrong", f"shape {g.shape}, eager has {tuple(w.shape)}")
            elif self.name not in UNINITIALISED and not self._agree(case, i, g, w):
                shapes = [tuple(t.shape) for t in case.tensors]
                rest = [x for x in case.leaves if not isinstance(x, torch.Tensor)]
                self.found.setdefault("wrong", f"result {i} of inputs {shapes}, {rest}: {difference(g, numpy(w))}")
        return len(wanted)

    def _agree(self, case: Case, i: int, got: np.ndarray, wanted: torch.Tensor) -> bool:
        w = numpy(wanted)
        if agree(got, w, TOLERANCE):
            return True
        if not wanted.dtype.is_floating_point or case.draws:  # in float64 eager draws other numbers
            return False
        try:
            exact = self._exact(case, i)
            finite = np.isfinite(exact) & np.isfinite(w)
            if exact.dtype != np.float64 or not finite.any():
                return False
            top = max(float(np.abs(exact[finite]).max()), 1e-30)
            own = float(np.abs(exact - w)[finite].max()) / top
            if 2 * own > TOLERANCE and agree(got, exact, 2 * own):
                return True
            g = torch.Generator().manual_seed(0)
            moved = [self._exact(case, i, g) for _ in range(MOVES)]
        except Exception:
            return False
        condition = max(float(np.abs(exact - m)[finite].max()) for m in moved) / top
        return condition > TOLERANCE and agree(got, exact, condition)

    def _exact(self, case: Case, i: int, moves: torch.Generator | None = None) -> np.ndarray:
        """The result in float64; with moves, of inputs that are up to half a float32 rounding away."""

        def wide(t: torch.Tensor) -> torch.Tensor:
            if t.is_complex():
                return torch.view_as_complex(wide(in_parts(t)).contiguous())
            if not t.is_floating_point():
                return t
            by = torch.rand(t.shape, generator=moves, dtype=torch.float64) * 2 - 1 if moves is not None else 0.0
            return t.double() * (1 + 2.0**-24 * by)

        with torch.no_grad():
            return numpy(in_parts(case(*(wide(t) for t in case.tensors))[i]))


def numpy(t: torch.Tensor) -> np.ndarray:
    return t.detach().float().numpy() if t.dtype is torch.bfloat16 else t.detach().resolve_conj().resolve_neg().numpy()


def agree(got: np.ndarray, wanted: np.ndarray, tolerance: float) -> bool:
    """Equal, or floats within tolerance times the largest finite wanted value, NaN and Inf in the same places."""
    if got.dtype.kind != "f":
        return bool(got.dtype == wanted.dtype and np.array_equal(got, wanted))
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(got)) or not np.array_equal(
        got[~finite], wanted[~finite], equal_nan=True
    ):
        return False
    if not finite.any():
        return True
    with np.errstate(all="ignore"):
        return bool(
            np.abs(got[finite].astype(np.float64) - wanted[finite]).max() <= tolerance * np.abs(wanted[finite]).max()
        )


def difference(got: np.ndarray, wanted: np.ndarray) -> str:
    bad = np.argwhere(~((got == wanted) | ((got != got) & (wanted != wanted))))
    if not len(bad):
        return f"dtype {got.dtype}, eager has {wanted.dtype}"
    at = tuple(bad[int(np.argmax([np.abs(float(got[tuple(b)]) - float(wanted[tuple(b)])) for b in bad[:1000]]))])
    return f"{got[at]!r} at {tuple(map(int, at))}, eager has {wanted[at]!r}; {len(bad)} of {got.size} differ"


def main() -> None:
    warnings.simplefilter("ignore")
    hide_unusable_packages()
    invocations.wrapper_set_seed = unseeded
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    backend = BACKENDS[sys.argv[1]]
    for line in sys.stdin:
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - op_db draws from it
        try:
            answer = Entry(line.strip(), backend, int(sys.argv[2]), getattr(torch, sys.argv[3])).run()
        except Exception as error:
            answer = {"class": "crashed", "detail": f"{type(error).__name__}: {error}"[:300], "samples": 0}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
