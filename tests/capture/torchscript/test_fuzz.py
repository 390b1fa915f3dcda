"""Random scripted programs, and what they found, against torch.jit. fuzz.py is a command that runs more of them."""

from __future__ import annotations

import pytest

from tests.capture.torchscript.cases import CASES, Case
from tests.capture.torchscript.fuzz import run
from tests.capture.torchscript.programs import Program, calls

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_found(case: Case) -> None:
    outcome = run(case.source, case.calls, case.name)
    assert outcome.kind == ("refused" if case.refused else "right"), outcome.reason
    assert case.refused in outcome.reason


def test_random_programs_are_right_or_refused() -> None:
    outcomes = [run(Program(seed).source, calls(seed), f"fuzz {seed}") for seed in range(15)]
    assert [(seed, o.kind, o.reason) for seed, o in enumerate(outcomes) if o.kind == "wrong"] == []
    assert sum(o.kind == "right" for o in outcomes) >= 3


@pytest.mark.slow
def test_many_random_programs_are_right_or_refused() -> None:
    outcomes = {seed: run(Program(seed).source, calls(seed), f"fuzz {seed}") for seed in range(1000, 3000)}
    assert [(seed, o.kind, o.reason) for seed, o in outcomes.items() if o.kind == "wrong"] == []
