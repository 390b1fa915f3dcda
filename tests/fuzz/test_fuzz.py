"""Random modules of fixed seeds against eager; `python -m tests.fuzz` runs any number of others."""

from __future__ import annotations

import collections

import torch

from tests.conformance.pool import run_all
from tests.fuzz.__main__ import BAD, TIMEOUT
from tests.fuzz.grammar import Argument, Body, Program, Statement, generate
from tests.fuzz.run import Outcome
from tests.fuzz.shrink import shrink

PROGRAMS = 100
ACCEPTED = 0.7


def test_random_modules_give_what_eager_gives() -> None:
    found = dict(run_all("tests.fuzz.run", (), [str(k) for k in range(PROGRAMS)], 1, TIMEOUT))
    kinds = {seed: answer.get("kind", answer.get("class")) for seed, answer in found.items()}
    bad = {seed: found[seed] for seed, kind in kinds.items() if kind in (*BAD, "invalid")}
    assert not bad, bad
    assert collections.Counter(kinds.values())["right"] >= ACCEPTED * PROGRAMS


def test_a_seed_gives_one_program_and_eager_runs_it() -> None:
    for seed in range(200, 240):
        source = generate(seed).source()
        assert source == generate(seed).source()
        space: dict[str, object] = {}
        exec(source, space)
        model, methods = space["make"]()  # type: ignore[operator]
        with torch.no_grad():
            for name, call in methods.items():
                getattr(model, name)(*call["args"], **call.get("kwargs", {}))


def test_shrinking_leaves_what_fails() -> None:
    lines = ("v2 = v1 + 1", "v3 = torch.floor(v2)", "v4 = v3 * 2", "v5 = v4.sum()", "v6 = v2.exp()")
    body = Body(
        "forward", (Argument("v1", "torch.randn(n)", (0,)),), tuple(map(Statement, lines)), ("v5", "v6"), "dict"
    )

    def runs(source: str) -> Outcome:
        return Outcome("wrong" if "floor" in source else "right")

    (small,) = shrink(Program(0, (body,)), runs).bodies
    assert [s.text for s in small.statements if "floor" in s.text] == ["v3 = torch.floor(v2)"]
    assert len(small.statements) <= 2
    assert small.form == "plain"
    assert not small.arguments[0].dynamic
