"""Every case through every entry point: as the eager model, or refused where the case says why."""

from __future__ import annotations

import re

import pytest

from tests.familiar.case import Case, run
from tests.familiar.registry import CASES

pytestmark = pytest.mark.filterwarnings("ignore")
RUNS = [pytest.param(c, e, id=f"{c}-{e}") for c in CASES for e in c.entries]


@pytest.mark.parametrize(("case", "entry"), RUNS)
def test_behaviour(case: Case, entry: str) -> None:
    outcome = run(case, entry)
    if case.refused:
        assert outcome.kind == "refused" and re.search(case.refused, outcome.text), outcome
        assert case.why
    else:
        assert outcome.kind == "right", outcome.text


def test_there_are_cases_of_every_section() -> None:
    assert {str(c)[0] for c in CASES} >= set("ACDFGIMR")
    assert len(CASES) >= 120
