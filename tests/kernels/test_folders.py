"""A kernel is known in its own folder alone, and what plans says nothing in C."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from neve.kernels import KERNELS

ROOT = Path(__file__).parents[2] / "neve"
FOLDERS = sorted(p.parent for p in (ROOT / "kernels").glob("*/plan.py"))
HEADERS = {h.name for folder in FOLDERS for h in folder.glob("*.h")}
OUTSIDE = sorted(p for p in ROOT.rglob("*.py") if not any(f in p.parents for f in FOLDERS))
PLANNING = sorted([*(ROOT / "plan").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")])
STATEMENTS = [
    ROOT / "emit" / f"{name}.py"
    for name in ("expressions", "forms", "loops", "pointers", "reductions", "rows", "statements", "stores")
]
"""What turns loop nests into statements, before a language prints them."""
C = re.compile(
    r"\bs\[|^#|;\s*$|\b(u?int\d+_t|float \*|void \*|const \w+ \*|neve_\w+|v(load|store|set)\w*)\b|\d\.?\df\b"
)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of the strings of a file that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.lineno, node.value


def test_each_folder_is_in_the_list_once() -> None:
    listed = (ROOT / "kernels" / "__init__.py").read_text(encoding="utf-8")
    assert len(KERNELS) == len(FOLDERS)
    assert all(listed.count(f"neve.kernels.{f.name}.plan") == 1 for f in FOLDERS)


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_other_file_names_a_kernel(path: Path) -> None:
    named = [f"line {n}: {text!r}" for n, text in texts(path) if any(h in text for h in HEADERS)]
    assert not named, named
    if path != ROOT / "kernels" / "__init__.py":
        folders = "|".join(f.name for f in FOLDERS)
        assert not re.search(rf"neve\.kernels\.({folders})\b", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [*PLANNING, *STATEMENTS], ids=lambda p: str(p.relative_to(ROOT)))
def test_plans_and_statements_hold_no_c(path: Path) -> None:
    assert not [f"line {n}: {text!r}" for n, text in texts(path) if C.search(text)]
