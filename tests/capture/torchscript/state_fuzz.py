"""Random scripted programs with state (ties, changing shapes, several methods), against torch.jit call by call.

    python -m tests.capture.torchscript.state_fuzz --programs 1000 --seed 0

compares the interpreter's recordings, `--whole` the captured program (four times slower), and prints how many are
right, refused (by reason) and wrong, and the seeds of what is wrong; `--show SEED` prints a program and its outcome.
"""

from __future__ import annotations

import sys
from typing import Any

from neve.capture.torchscript.capture import interpreted
from neve.capture.torchscript.entry import archive_of
from tests.capture.torchscript.fuzz import (
    Calls,
    Outcome,
    arguments,
    attempt,
    brief,
    compared,
    copied,
    difference,
    equal,
    fresh,
    report,
)
from tests.capture.torchscript.state_programs import EXAMPLE, StateProgram


def run(seed: int, whole: bool = False) -> Outcome:
    """What comes of the program of a seed."""
    program = StateProgram(seed)
    compare = compared if whole else replayed
    examples: dict[str, tuple[Any, ...]] = dict.fromkeys(program.names, EXAMPLE)
    return attempt(program.source, f"fuzz state {seed}", lambda m, d: compare(m, d, examples, program.calls()))


def replayed(model: Any, data: bytes, examples: dict[str, tuple[Any, ...]], calls: Calls) -> Outcome:
    """The recordings, run eagerly, against torch.jit up to a call that raises there: a recording need not raise."""
    scripted, _ = interpreted(archive_of(model), {name: {"args": args} for name, args in examples.items()})
    reference = fresh(data)
    for k, (name, args) in enumerate(calls):
        try:
            want = getattr(reference, name)(*copied(args))
        except Exception:
            return Outcome("right")
        try:
            got = scripted.replay(name).run(tuple(copied(args)), {})
        except Exception as error:
            return Outcome("wrong", f"call {k}, {name}: torch.jit: {brief(want)}; neve: {brief(error)}")
        if not equal(got, want):
            return Outcome("wrong", f"call {k}, {name}: {difference(got, want)}")
    return Outcome("right")


def main(argv: list[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--whole", action="store_true", help="capture the program and interpret its graphs")
    given = parser.parse_args(argv)
    if given.show is not None:
        print(StateProgram(given.show).source)
        print(run(given.show, given.whole))
        return 0
    return report(range(given.seed, given.seed + given.programs), lambda seed: run(seed, given.whole))


if __name__ == "__main__":
    sys.exit(main())
