"""Every fix that a refusal proposes: the model is refused with it, and taken when it is followed."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from torch.utils import _pytree as pytree

from neve.capture.export import capture
from neve.capture.guards import written
from neve.errors import CaptureError
from neve.ir.interpret import interpret
from tests.capture.fixes import FIXES, Fix

RAW = re.compile(
    r"eval_with_key|Mod\(|Eq\(|\b(?:zuf|zf|u)\d\b|L\[|TORCH_LOGS|torch\.export raised|internal:|has no attribute"
)
"""What no user has to know."""


def shapes(args: tuple[Any, ...], dynamic: Any) -> Any:
    return dynamic if dynamic is None or isinstance(dynamic, tuple) else (dynamic, *[None] * (len(args) - 1))


@pytest.mark.parametrize("fix", FIXES, ids=str)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fix_that_is_followed_works(fix: Fix) -> None:
    with pytest.raises(CaptureError) as refused:
        capture(fix.broken().eval(), fix.args, dynamic_shapes=shapes(fix.args, fix.dynamic[0]))
    text = str(refused.value)
    assert re.search(fix.words, text) and not RAW.search(text)
    model = fix.fixed().eval()
    args = fix.args if fix.fixed_args is None else fix.fixed_args
    graph = capture(model, args, dynamic_shapes=shapes(args, fix.dynamic[1])).methods["forward"].graph
    with torch.no_grad():
        wanted = pytree.tree_leaves(copy.deepcopy(model)(*copy.deepcopy(args)))
    state = {}  # type: ignore[var-annotated]
    for got, want in zip(interpret(graph, [np.asarray(x) for x in args], state), wanted, strict=True):
        np.testing.assert_allclose(got, np.asarray(want), rtol=1e-5, atol=1e-5)


t, n = sympy.symbols("t n", integer=True, positive=True)
RELATIONS = (
    sympy.Eq(2 * sympy.floor(t / 2), t, evaluate=False),
    sympy.Ne(sympy.Mod(t + 1, 4), 0),
    sympy.And(t > 3, sympy.Or(sympy.Ne(t, 7), n < 2)),
    sympy.Not(sympy.Or(t > 3, n < 2)),
    sympy.Eq(sympy.Mod(t * n, 3), sympy.Mod(n, 2)),
    sympy.Ge(5, sympy.floor((t + n) / 3) * 2),
)


@pytest.mark.parametrize("relation", RELATIONS, ids=str)
def test_relations_are_written_as_python_code(relation: Any) -> None:
    text = written(relation)
    for sizes in ({"t": a, "n": b} for a in range(1, 9) for b in range(1, 5)):
        assert eval(text, {"floor": np.floor}, dict(sizes)) == bool(relation.subs({t: sizes["t"], n: sizes["n"]}))
