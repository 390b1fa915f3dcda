"""Python's in-place operators on tensors, by every kind of target, in a branch not taken by the example."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from neve.capture.export import capture
from neve.errors import CaptureError
from tests.capture.scripting.test_scripting import check

OPERATORS = ("-=", "//=", "**=", "&=", "|=", "^=")
"""Those that torch.jit computes otherwise, and one that it does not."""
WHOLE = {"//=", "&=", "|=", "^="}
SOURCE = """
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("b", torch.tensor([5, 6, 7, 8], dtype=torch.{dtype}))
        self.register_buffer("c", torch.tensor([5, 6, 7, 8], dtype=torch.{dtype}))

    def count(self):
        return 1

    def forward(self, x, v):
        other = x.clone()
        name, part, rows, entry = x.clone(), x.clone(), x.clone(), x.clone()
        alias, entries, numbers = name, [entry, other], [5, 6]
        if v.sum() > 0:
            {body}
        return alias, part, rows, entry, entries[1], self.b.clone(), self.c.clone(), x * numbers[0] + numbers[1]
"""
TARGETS = """
            name {op} v
            part[1:] {op} v[1:]
            rows[x > 2] {op} v[x > 2]
            entries[0] {op} v
            entries[1] = v
            self.b {op} v
            self.c[: x.size(0) // 2] {op} v[:2]
"""


def module_of(path: Path, body: str, dtype: str) -> torch.nn.Module:
    path.write_text(SOURCE.format(body=body.strip(), dtype=dtype))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    made = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made.Model().eval()  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("op", OPERATORS)
def test_in_place_operators(op: str, tmp_path: Path) -> None:
    dtype = "int64" if op in WHOLE else "float32"
    numbers = f"numbers[1] {op} 2" if op != "**=" else ""
    body = TARGETS.format(op=op) + f"            {numbers}"
    model = module_of(tmp_path / f"in_place_{OPERATORS.index(op)}.py", body, dtype)
    x = torch.tensor([1, 2, 3, 4], dtype=getattr(torch, dtype))
    v = torch.tensor([3, 1, 2, 3], dtype=getattr(torch, dtype))
    program = capture(model, (x, -v))
    check(program, model, [("forward", (x, v)), ("forward", (x, v * 0)), ("forward", (x * 3, v))])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_target_that_may_be_computed_once_is_refused(tmp_path: Path) -> None:
    """With a fix that works."""
    target = "self.b[self.count()]"
    x, v = torch.arange(4), torch.tensor([1, 1, 2, 3])
    model = module_of(tmp_path / "in_place_called.py", f"{target} &= 3", "int64")
    with pytest.raises(CaptureError, match=r"`.*\] = .* & 3`, with its index in a variable.*in_place_called.py:\d+"):
        capture(model, (x, v))
    plain = target.replace("self.count()", "k")
    fixed = module_of(tmp_path / "in_place_fixed.py", f"k = self.count()\n            {plain} = {plain} & 3", "int64")
    check(capture(fixed, (x, v)), fixed, [("forward", (x, v)), ("forward", (x, -v))])
