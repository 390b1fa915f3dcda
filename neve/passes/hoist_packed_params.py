"""Packed parameters go to the root of the program, under one name: @linear_packed is @packed_params.linear_packed.

All methods go on sharing them, and nothing is left of the modules that they were in. Exactness: EXACT. Not part of the
default pipeline, see `insert_prepack`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from neve.ir.graph import ConstTensor, Graph, Program
from neve.ir.walk import graphs
from neve.ops.prepacked import Prepacked
from neve.ops.source import Constant
from neve.passes.merge_equal_constants import replaced
from neve.passes.rewrite import Exactness, Log, ProgramPass

ROOT = "packed_params."


def run(program: Program, log: Log) -> Program:
    moved: dict[ConstTensor, ConstTensor] = {}
    for method in program.methods.values():
        for c in _packed(method.graph):
            if c not in moved and not c.name.startswith(ROOT):
                moved[c] = replace(c, name=f"{ROOT}{c.name}")
                log.rewrite(f"@{c.name} is @{moved[c].name}")
    return program.map(lambda graph: replaced(graph, moved)) if moved else program


def _packed(graph: Graph) -> Iterator[ConstTensor]:
    """The constants that prepacked ops take as parameters, here and in the graphs of branches and loops."""
    for g in graphs(graph):
        made = g.producers()
        for node in g.nodes:
            if isinstance(node.op, Prepacked):
                sources = [made[v].op for v in node.inputs[1:] if v in made]
                yield from (op.tensor for op in sources if isinstance(op, Constant))


PASS = ProgramPass("hoist_packed_params", Exactness.EXACT, run)
