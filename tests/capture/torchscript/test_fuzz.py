"""Random scripted programs, and what they found, against torch.jit. fuzz.py and state_fuzz.py are commands for more."""

from __future__ import annotations

import io
import itertools
import time

import pytest
import torch

import neve
from tests.capture.torchscript import state_fuzz
from tests.capture.torchscript.cases import CASES, Case
from tests.capture.torchscript.fuzz import Slow, copied, difference, equal, fresh, limit, load, run
from tests.capture.torchscript.programs import Program, calls

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_found(case: Case) -> None:
    outcome = run(case.source, case.calls, case.name)
    assert outcome.kind == ("refused" if case.refused else "right"), outcome.reason
    assert case.refused in outcome.reason


def test_limit_is_of_processor_time() -> None:
    with limit(0.2):
        time.sleep(0.4)
    with pytest.raises(Slow), limit(0.2):
        next(n for n in itertools.count() if n < 0)


def test_random_programs_are_right_or_refused() -> None:
    outcomes = [run(Program(seed).source, calls(seed), f"fuzz {seed}") for seed in (*range(15), 1444, 2243)]
    assert [(seed, o.kind, o.reason) for seed, o in enumerate(outcomes) if o.kind == "wrong"] == []
    assert sum(o.kind == "right" for o in outcomes) >= 3


@pytest.mark.parametrize(("whole", "seeds"), [(False, [*range(18, 38), 7, 66, 106]), (True, [2, 3, 6, 8, 3083])])
def test_random_programs_with_state_are_right_or_refused(whole: bool, seeds: list[int]) -> None:
    outcomes = {seed: state_fuzz.run(seed, whole) for seed in seeds}
    assert [(seed, o.kind, o.reason) for seed, o in outcomes.items() if o.kind not in ("right", "refused")] == []
    assert sum(o.kind == "right" for o in outcomes.values()) >= len(seeds) // 2


@pytest.mark.parametrize("seed", [1, 5, 8])
def test_compiled(seed: int) -> None:
    model = load(Program(seed).source, f"<compiled {seed}>")
    buffer = io.BytesIO()
    torch.jit.save(model, buffer)
    module, reference = neve.compile(model, calls(seed)[0], threads=1), fresh(buffer.getvalue())
    for args in calls(seed):
        got, want = module(*copied(args)), reference(*copied(args))
        assert equal(got, want), difference(got, want)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 3000, 100))
def test_many_random_programs_are_right_or_refused(first: int) -> None:
    outcomes = {seed: run(Program(seed).source, calls(seed), f"fuzz {seed}") for seed in range(first, first + 100)}
    assert [(seed, o.kind, o.reason) for seed, o in outcomes.items() if o.kind == "wrong"] == []


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 3500, 50))
def test_many_random_programs_with_state_are_right_or_refused(first: int) -> None:
    outcomes = {seed: state_fuzz.run(seed, whole=first >= 3000) for seed in range(first, first + 50)}
    assert [(seed, o.kind, o.reason) for seed, o in outcomes.items() if o.kind not in ("right", "refused")] == []
