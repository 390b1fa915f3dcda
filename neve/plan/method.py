"""Planning one method: its graph becomes steps over buffers, and places for these in one arena."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from neve.build.target import Target
from neve.ir.graph import Graph
from neve.ir.types import Range
from neve.plan.check import check_plan
from neve.plan.lowering import Lowering
from neve.plan.memory import Arena, assign, lifetimes
from neve.plan.schedule import Schedule, schedule

CHECK = "NEVE_CHECK_PLANS"
"""The environment variable that has every plan checked; the tests set it."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A method's steps, and where their buffers lie."""

    schedule: Schedule
    arena: Arena


def plan(graph: Graph, target: Target, ranges: Mapping[str, Range]) -> Plan:
    """The plan of a method for a target. ranges are those of the symbols.

    Raises PlanError if plans are checked and this one is wrong.
    """
    lowered = Lowering().method(graph)
    steps = schedule(lowered, target)
    arena = assign(lifetimes(steps.steps, steps.buffers), lowered.most)
    if os.environ.get(CHECK):
        check_plan(lowered, steps, arena, ranges)
    return Plan(steps, arena)
