"""The names of the passes, read from their files: to import them takes longer than to tell that a name is wrong."""

from __future__ import annotations

import re
from pathlib import Path

_MADE = re.compile(r'^[A-Z]+ = \w+\(\s*"(\w+)"', re.MULTILINE)


def pass_names() -> list[str]:
    """All of them, by the alphabet."""
    files = Path(__file__).parent.glob("*.py")
    return sorted(name for file in files for name in _MADE.findall(file.read_text(encoding="utf-8")))
