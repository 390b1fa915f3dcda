"""Random scripted programs: captured and interpreted, against torch.jit.

    python -m tests.capture.torchscript.fuzz --programs 1000 --seed 0

prints how many are right, refused (by reason) and wrong, and the seeds of what is wrong; `--show SEED` prints a program
and what came of it.
"""

from __future__ import annotations

import argparse
import collections
import io
import linecache
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neve.capture.export import capture
from neve.errors import CaptureError, ModelError
from neve.ir.graph import Method, StateVar
from neve.ir.interpret import interpret
from neve.runtime.trees import builder
from tests.capture.torchscript.programs import Program, calls

SECONDS = 60
Calls = Sequence[tuple[str, tuple[Any, ...]]]  # methods and their arguments


@dataclass
class Outcome:
    """kind: "right", "refused", "wrong" (another answer, an internal error, no end) or "invalid" (not TorchScript)."""

    kind: str
    reason: str = ""


class Slow(Exception):
    """A program took longer than `limit` allows."""


class InputUsed(Exception):
    """The call has another number where the example's was compiled in: refused at run time."""


def load(source: str, name: str) -> Any:
    """The scripted Model of a source text, on its initial state."""
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space: dict[str, Any] = {"__name__": "fuzzed"}
    exec(compile(source, name, "exec"), space)
    return torch.jit.script(space["Model"]().eval())


def fresh(data: bytes) -> Any:
    """A ScriptModule from the bytes of an archive."""
    loaded = torch.jit.load(io.BytesIO(data))  # type: ignore[no-untyped-call]
    loaded.eval()
    return loaded


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raises Slow after so much time of the processor: what others on the machine do does not count."""

    def stop(*_: Any) -> None:
        raise Slow

    old = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


def run(source: str, inputs: list[tuple[Any, ...]], name: str = "fuzzed") -> Outcome:
    """What comes of a program for successive calls of its forward."""
    calls = [("forward", args) for args in inputs]
    return attempt(source, name, lambda model, data: compared(model, data, {"forward": inputs[0]}, calls))


def attempt(source: str, name: str, compare: Callable[[Any, bytes], Outcome]) -> Outcome:
    """What `compare` finds for a program, given its ScriptModule and the bytes of its archive, refusals included."""
    with warnings.catch_warnings(), torch.no_grad(), torch.jit.optimized_execution(False):
        warnings.simplefilter("ignore")
        try:
            model = load(source, f"<{name}>")
        except Exception as error:
            return Outcome("invalid", str(error))
        buffer = io.BytesIO()
        torch.jit.save(model, buffer)
        try:
            with limit(SECONDS):
                return compare(model, buffer.getvalue())
        except CaptureError as error:
            return Outcome("refused", error.reasons[0])
        except Slow:
            return Outcome("wrong", f"no end within {SECONDS} s")
        except Exception as error:
            return Outcome("wrong", f"{type(error).__name__}: {error}\n{traceback.format_exc(-3)}")


def compared(model: Any, data: bytes, examples: dict[str, tuple[Any, ...]], calls: Calls) -> Outcome:
    """The captured program against torch.jit: results, arguments written, state; after a call that raises, afresh."""
    others = {name: args for name, args in examples.items() if name != "forward"}
    program = capture(model, examples["forward"], methods=others)
    reference, state = fresh(data), {}
    for k, (name, args) in enumerate(calls):
        given, own = copied(args), copied(args)
        try:
            want: Any = getattr(reference, name)(*given)
        except Exception as error:
            if "but got None" in str(error):
                return Outcome("invalid", "torch.jit loses a value on the way out of a loop")
            want = error
        try:
            got: Any = called(program.methods[name], own, state)
        except InputUsed:
            return Outcome("refused", "run time: a number is compiled in")
        except ModelError as error:
            got = error
            if "cannot convert" in str(error) and not isinstance(want, Exception):
                return Outcome("refused", "run time: a NaN becomes an int, which torch.jit leaves to the machine")
        if isinstance(want, Exception) and isinstance(got, Exception):
            reference, state = fresh(data), {}
            continue
        differs = _differs(got, want, own, given) or _state_differs(state, reference)
        if differs:
            return Outcome("wrong", f"call {k}, {name}: {differs}")
    return Outcome("right")


def _differs(got: Any, want: Any, own: list[Any], given: list[Any]) -> str:
    if isinstance(want, Exception) or isinstance(got, Exception):
        return f"torch.jit: {brief(want)}; neve: {brief(got)}"
    if not all(equal(a, b) for a, b in zip(own, given, strict=True)):
        return f"an argument is written as {own}, wanted {given}"
    return "" if equal(got, want) else difference(got, want)


def _state_differs(state: dict[StateVar, np.ndarray], reference: Any) -> str:
    for var, value in state.items():
        held = attribute(reference, var)
        if held is not None and not equal(value, held):
            return f"{var.name} is {value}, wanted {held}"
    return ""


def copied(args: tuple[Any, ...]) -> list[Any]:
    return [a.clone() if isinstance(a, torch.Tensor) else a for a in args]


def called(method: Method, args: list[Any], state: dict[StateVar, np.ndarray]) -> Any:
    """A method's result, as torch.jit would return it; arguments that it writes are overwritten.

    InputUsed if a number is not the one compiled in.
    """
    leaves: list[Any] = [None] * len(method.graph.inputs)
    for tree, value in zip(method.in_tree["args"], args, strict=True):
        if "leaf" in tree:
            leaves[tree["leaf"]] = value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        elif tree["const"] != value:
            raise InputUsed
    attempt = dict(state)
    with np.errstate(all="ignore"):
        given = interpret(method.graph, leaves, attempt, method.given_sizes(leaves))
    results = [np.array(r) for r in given]  # some are views of the arguments, which are written below
    state.clear()
    state.update(attempt)
    tensors = dict(enumerate(a for a, tree in zip(args, method.in_tree["args"], strict=True) if "leaf" in tree))
    for i, k in method.in_tree.get("writes", ()):
        tensors[i].copy_(torch.from_numpy(results[k]))
    return builder(method.out_tree)(results)


def attribute(model: Any, var: StateVar) -> Any:
    """What torch.jit holds in the attribute that a state variable stands for; None if that is hard to say."""
    with suppress(AttributeError, KeyError, IndexError, TypeError):
        for part in var.name.split("."):
            entry = part if isinstance(model, dict) else int(part) if part.isdigit() else None
            model = getattr(model, part) if entry is None else model[entry]
        return model
    return None


def equal(got: Any, want: Any) -> bool:
    """Whether two results are the same: structure, types, shapes, and values bit for bit but for the sign of zero."""
    if isinstance(want, torch.Tensor):
        array = want.detach().numpy()
        got = got.detach().numpy() if isinstance(got, torch.Tensor) else np.asarray(got)
        return (
            got.dtype == array.dtype
            and got.shape == array.shape
            and np.array_equal(got, array, equal_nan=array.dtype.kind == "f")
        )
    if isinstance(want, (list, tuple)):
        return isinstance(got, (list, tuple)) and len(got) == len(want) and all(map(equal, got, want))
    if isinstance(want, dict):
        return isinstance(got, dict) and got.keys() == want.keys() and all(equal(got[k], want[k]) for k in want)
    if isinstance(got, (np.ndarray, np.generic)):
        got = got.item()
    return type(got) is type(want) and (got == want or (got != got and want != want))


def difference(got: Any, want: Any) -> str:
    """The first results that differ."""
    if isinstance(got, (tuple, list)) and isinstance(want, (tuple, list)) and len(got) == len(want):
        for k, (a, b) in enumerate(zip(got, want, strict=True)):
            if not equal(a, b):
                return f"[{k}] {difference(a, b)}"
    return f"{brief(got)}, wanted {brief(want)}"


def brief(value: Any) -> str:
    if isinstance(value, Exception):
        return f"{type(value).__name__} {' '.join(str(value).split())[-160:]}"
    return f"{type(value).__name__} {' '.join(str(value).split())[:300]}"


def kind_of_reason(reason: str) -> str:
    """A reason without what differs from program to program."""
    reason = re.sub(r"\s*\((code/|<fuzz|in part, <fuzz).*", "", reason, flags=re.DOTALL)
    return re.sub(r"\b[a-z]{1,2}\d+\b|'[^']*'|[\d.]*\d", "…", reason)[:150]


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """What the command line of a fuzz takes."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--programs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first program; the others count up from it")
    parser.add_argument("--show", type=int, help="print the program of this seed and what comes of it")
    return parser


def report(seeds: range, run: Callable[[int], Outcome]) -> int:
    """Runs and prints; 1 if anything is wrong."""
    kinds: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    example: dict[str, int] = {}
    for done, seed in enumerate(seeds, 1):
        outcome = run(seed)
        kinds[outcome.kind] += 1
        if outcome.kind == "refused":
            reason = kind_of_reason(outcome.reason)
            reasons[reason] += 1
            example.setdefault(reason, seed)
        elif outcome.kind != "right":
            print(f"seed {seed}: {outcome.kind}: {outcome.reason}", flush=True)
        print(f"\r{done}/{len(seeds)}: {dict(kinds)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(f"{len(seeds)} programs from seed {seeds.start}: " + ", ".join(f"{n} {k}" for k, n in kinds.most_common()))
    for reason, n in reasons.most_common():
        print(f"  refused {n:4d}  (seed {example[reason]}) {reason}")
    return 1 if kinds["wrong"] else 0


def main(argv: list[str] | None = None) -> int:
    given = arguments(__doc__).parse_args(argv)
    if given.show is not None:
        program = Program(given.show)
        print(program.source)
        print(run(program.source, calls(given.show)))
        return 0
    return report(range(given.seed, given.seed + given.programs), lambda seed: run(Program(seed).source, calls(seed)))


if __name__ == "__main__":
    sys.exit(main())
