"""docs/migrating.md: every row and every block is run, the old calls too where torch still has them."""

from __future__ import annotations

import importlib.util
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "migrating.md").read_text()
GONE = "XNNPACK is not enabled"
"""What the wheels of torch 2.13 say of optimize_for_mobile."""

pytestmark = pytest.mark.filterwarnings("ignore")


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def rows() -> list[tuple[str, str]]:
    """(old, new) of every row of every table."""
    return re.findall(r"^\| `(.+?)` \| `(.+?)` \|", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page's first block defines, out of a file, so that it can be scripted."""
    folder = tmp_path_factory.mktemp("migrating")
    (folder / "page.py").write_text(blocks()[0])
    spec = importlib.util.spec_from_file_location("page", folder / "page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(folder)
        spec.loader.exec_module(module)
    return vars(module) | {"folder": folder}


def test_the_page_has_its_tables() -> None:
    assert len(rows()) >= 45
    assert PAGE.count("\n| `") == len(rows()), "a row that the pattern does not see"


@pytest.mark.parametrize("place", range(len(rows())), ids=lambda i: re.sub(r"\W+", "_", rows()[i][1])[:50])
def test_row(place: int, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are run in the page's order: later ones use the files and the imports of earlier ones."""
    monkeypatch.chdir(names["folder"])
    old, new = rows()[place]
    imported = re.match(r"from (?:neve|torch[\w.]*) import [\w, ]+", new)
    exec(new, names)  # our own text
    assert imported is None or all(n.strip() in names for n in imported.group().partition("import")[2].split(","))
    if "optimize_for_mobile(" in old:
        with pytest.raises(RuntimeError, match=GONE):
            exec(old, names)
    else:
        exec(old, names)


def test_blocks(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks()[1:]:
        exec(compile(block, "docs/migrating.md", "exec"), names)
    assert "poisson" in capsys.readouterr().out
