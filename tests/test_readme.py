"""The README's Python is run, in order, as a reader would."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_tour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)  # our own text
    printed = capsys.readouterr().out
    assert "forward(input: float32 [1, 3, 32, 32])" in printed
    assert "is 65, wanted 1 to 64" in printed


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_the_documents_name_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    named = set(re.findall(r"`((?:neve|tests|examples|benchmarks)/[\w./]+\.(?:py|h|c))`", text))
    named |= set(re.findall(r"\]\(([\w./]+)\)", text))
    assert not [name for name in named if "NAME" not in name and not (ROOT / name).exists()]
    folders = re.findall(r"\| `(\w+)/`", text)
    assert all((ROOT / "neve" / folder).is_dir() for folder in folders)
