"""The C headers of kernels, and what these include."""

from __future__ import annotations

import re
from pathlib import Path

KERNELS = (Path(__file__).parent.parent / "kernels").resolve()
BASE = ("rt.h", "vec.h", "math.h", "nest.h")
"""What all C includes."""
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def header_closure(names: set[str]) -> dict[str, str]:
    """kernels/NAME → text for the headers and all that they include."""
    out: dict[str, str] = {}
    todo = sorted(names, reverse=True)
    while todo:
        path = KERNELS / todo.pop()
        name = f"kernels/{path.relative_to(KERNELS).as_posix()}"
        if name not in out:
            out[name] = path.read_text()
            found = ((path.parent / x).resolve() for x in INCLUDE.findall(out[name]))
            todo += [p.relative_to(KERNELS).as_posix() for p in found if p.exists()]
    return out
