"""Imports run one way: capture → optimize → plan → emit → build → runtime, and only capture and check know torch."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neve.artifact import Artifact, Binary, save
from neve.build.target import native
from neve.build.toolchain import build
from neve.errors import NeveError
from tests.handmade import affine

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "neve"

# each part of neve → what of neve it may import besides itself; a part below never imports one above
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "trees": set(),
    "progress": set(),
    "internals": {"errors"},
    "build": {"errors"},
    "runtime": {"trees", "errors", "build"},
    "artifact": {"errors", "build", "runtime"},
    "ir": {"trees", "errors", "ops"},
    "ops": {"errors", "ir"},
    "capture": {"errors", "internals", "ir", "ops"},
    "passes": {"errors", "ir", "ops"},
    "kernels": {"ir", "ops", "build"},
    "plan": {"errors", "ir", "ops", "build", "kernels"},
    "emit": {"trees", "errors", "ir", "ops", "build", "kernels", "plan"},
    "sparsity": {"errors", "build", "kernels"},
    "check": {
        "trees",
        "errors",
        "ir",
        "ops",
        "capture",
        "passes",
        "plan",
        "emit",
        "build",
        "runtime",
        "artifact",
        "bundled_inputs",
    },
    "api": {
        "errors",
        "ir",
        "ops",
        "capture",
        "passes",
        "plan",
        "emit",
        "build",
        "runtime",
        "artifact",
        "check",
        "progress",
    },
    "bundled_inputs": {"errors", "internals"},
    "frozen": {"trees", "errors", "ir", "ops", "capture", "runtime", "check", "api"},
    "mobile": {"errors", "internals", "bundled_inputs", "capture", "runtime", "frozen"},
    "__init__": {"bundled_inputs", "mobile", "errors", "api", "runtime", "frozen"},
    "demo": {"errors", "cli", "api", "progress"},
    "cli": {"errors", "ir", "passes", "build", "runtime", "artifact", "check", "api", "demo", "progress"},
    "__main__": {"cli"},
}
# who may import these at all, and who when it is itself imported
OUTSIDE = {
    "torch": (
        {"bundled_inputs", "capture", "check", "cli", "demo", "frozen", "mobile", "sparsity"},
        {"capture", "check", "sparsity"},
    ),
    "transformers": ({"demo"}, set()),
    "sympy": ({"capture"}, {"capture"}),
    "rich": ({"cli", "progress"}, {"cli"}),
    "typer": ({"cli"}, {"cli"}),
}
FILES = sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    """The part of neve that a file belongs to: its folder, or its own name."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str, bool]]:
    """(line, dotted name, whether it runs when the file is imported) of every import that is not for types alone."""

    def walk(node: ast.AST, now: bool) -> Iterator[tuple[int, str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield child.lineno, alias.name, now
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno}: a relative import"
                folder = PACKAGE.parent.joinpath(*str(child.module).split("."))
                files = [a.name for a in child.names if (folder / f"{a.name}.py").exists()]
                yield from ((child.lineno, f"{child.module}.{name}", now) for name in files)
                if child.module == "neve":
                    rest = (a.name for a in child.names if a.name not in files)
                    yield from ((child.lineno, f"neve.{name}", now) for name in rest)
                elif len(files) < len(child.names):
                    yield child.lineno, str(child.module), now
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            else:
                inner = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                yield from walk(child, now and not inner)

    yield from walk(ast.parse(path.read_text()), True)


def test_every_part_is_in_the_table() -> None:
    assert {part(f) for f in FILES} == set(MAY_IMPORT)


def files_reached() -> dict[str, set[str]]:
    """Module → the modules of neve that it imports, whenever that is."""

    def name(path: Path) -> str:
        return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")

    known = {name(f): f for f in FILES}
    return {m: {other for _, other, _ in imports(f) if other in known and other != m} for m, f in known.items()}


@pytest.mark.parametrize("where", ["neve.kernels", "neve.plan", "neve.emit", "neve.build", "neve.check"])
def test_no_file_reaches_itself(where: str) -> None:
    graph = files_reached()

    def reached(start: str, seen: set[str]) -> set[str]:
        for other in graph[start] - seen:
            if other.startswith(where):
                seen.add(other)
                reached(other, seen)
        return seen

    assert not [m for m in graph if m.startswith(where) and m in reached(m, set())]


def test_the_table_runs_one_way() -> None:
    """Without the pair ir and ops, which are one layer, no part reaches itself."""

    def reached(start: str, seen: set[str]) -> set[str]:
        for other in MAY_IMPORT[start] - seen:
            if {start, other} != {"ir", "ops"} and {start, other} != {"cli", "demo"}:
                seen.add(other)
                reached(other, seen)
        return seen

    assert not [p for p in MAY_IMPORT if p in reached(p, set())]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    own = part(path)
    wrong = []
    for line, name, now in imports(path):
        top, _, rest = name.partition(".")
        inner = rest.split(".")[0]
        if top == "neve" and inner and inner != own and (PACKAGE / inner).exists() | (PACKAGE / f"{inner}.py").exists():
            if inner not in MAY_IMPORT[own]:
                wrong.append(f"{path}:{line}: {own} imports neve.{inner}")
        elif top in OUTSIDE:
            ever, at_once = OUTSIDE[top]
            if own not in ever or (now and own not in at_once):
                wrong.append(f"{path}:{line}: {own} imports {top}" + (" when it is imported" if now else ""))
    assert not wrong


LOADS = """
import importlib.abc, sys
BARRED = {"torch", "sympy", "transformers", "typer", "rich", "scipy", "ziglang"}
class Barred(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in BARRED:
            raise ModuleNotFoundError(f"{name} is barred", name=name)
sys.meta_path.insert(0, Barred())
import numpy as np
import neve
module = neve.load(sys.argv[1])
print(module(np.arange(8, dtype=np.float32)).tolist(), module.graph, module.methods["forward"])
assert not BARRED & set(sys.modules)
try:
    neve.compile(None)
except neve.NeveError as error:
    print("refused:", error)
"""


def test_load_and_call_need_numpy_alone(tmp_path: Path) -> None:
    source = affine()
    library = build(source)
    binaries = {native().name: Binary(library.compiler, library.path.read_bytes())}
    save(
        Artifact(source.name, source.signature, source.weights, "the graph", source.files, binaries),
        tmp_path / "a.neve",
    )
    done = subprocess.run(
        [sys.executable, "-c", LOADS, str(tmp_path / "a.neve")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0] the graph")
    assert "refused: compiling needs PyTorch" in done.stdout


def test_releases_of_torch() -> None:
    from neve.capture import NEWEST, OLDEST, check_release

    check_release("2.13.0+cpu")
    with pytest.raises(NeveError, match=r"torch 2\.12\.1 is installed"):
        check_release("2.12.1")
    with pytest.warns(UserWarning, match="not with 3.0"):
        check_release("3.0.0a0+git1234")
    after = f"{NEWEST[0]}.{NEWEST[1] + 1}"
    assert f'"torch>={OLDEST[0]}.{OLDEST[1]},<{after}"' in (ROOT / "pyproject.toml").read_text()
