"""What torch.export says of sizes that do not take their whole declared range, in the words of the one who declared it.

torch names neither the line nor what to do in a way that always works; both are found here.
"""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from neve.capture import diagnose
from neve.capture.hidden import is_users
from neve.internals import missing, replaced

GUARD = "torch.fx.experimental.symbolic_shapes.ShapeEnv._log_guard"
SIZE = re.compile(r"(\w+) = (L\[[^=]*?\]\.size\(\)\[\d+\])")
"""How torch introduces the size behind a Dim."""
FIX = re.compile(r"(\w+) = (.+?)(?=\s+\w+ = |\s*$)")
STATIC = re.compile(r"inferred a static shape of (\d+) for dimension (inputs\S+\])")
REPORTED = 2
HEAD = "the model does not take every declared size"


@dataclass
class Assumed:
    """What torch assumed of sizes: (relation, the stack of the model's code that asked), and torch's symbols."""

    found: list[tuple[Any, list[diagnose.Line]]] = field(default_factory=list)
    env: Any = None

    def lines(self, sources: list[str]) -> list[diagnose.Line]:
        """Where something was assumed of these sizes, named as torch names them ("L['x'].size()[0]")."""
        known_to = getattr(self.env, "source_to_var", {})
        symbols = [known_to.get(s) for s in sources]
        known = {x for s in symbols if s is not None for x in (s, *self.env.replace(s).free_symbols)}
        lines = [line for relation, line in self.found if line and known & relation.free_symbols]
        return [line for stack in lines for line in diagnose.telling(stack)]


@contextmanager
def recorded() -> Iterator[Assumed]:
    """While a model is traced: what torch assumes of its sizes, and where."""
    noted = Assumed()
    if missing(GUARD):
        yield noted
        return
    logged: Any = torch.fx.experimental.symbolic_shapes.ShapeEnv._log_guard

    def note(env: Any, prefix: str, relation: Any, forcing_spec: bool) -> None:
        noted.env = env
        noted.found.append((relation, _stack()))
        logged(env, prefix, relation, forcing_spec)

    with replaced((GUARD, note)):
        yield noted


def _stack() -> list[diagnose.Line]:
    """The lines of the model's code that run, outermost first."""
    found: list[diagnose.Line] = []
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename != diagnose.ENTRY:
        file = frame.f_code.co_filename
        if is_users(file):
            found.append((file, frame.f_lineno, linecache.getline(file, frame.f_lineno).strip()))
        frame = frame.f_back  # type: ignore[assignment]
    return found[::-1]


def explained(text: str, assumed: Assumed | None = None) -> str:
    """torch.export's message as: which sizes fit, where that is asked, and what to declare."""
    sizes = dict(SIZE.findall(text))
    fixes = list(_fixes(text))
    lines = assumed.lines(list(sizes.values())) if assumed is not None else []
    where = diagnose.where("", *list(dict.fromkeys(lines))[:REPORTED])
    if not fixes:
        said = [line.strip().lstrip("- ") for line in text.splitlines() if line.strip().startswith("- ")]
        return f"{HEAD}: {_in_words('; '.join(said) or diagnose.first_lines(text))}{where}"
    return f"{HEAD}: {'; '.join(fixes)}{where}"


def _fixes(text: str) -> Iterator[str]:
    """What to declare, from what torch suggests."""
    for size, place in STATIC.findall(text):
        yield f"{_in_words(place)} can be {size} alone: leave it out of dynamic_shapes"
    _, _, suggested = text.partition("Suggested fixes:")
    for name, value in FIX.findall(" ".join(suggested.split("\n\n")[0].split())):
        if value.lstrip("-").isdigit():
            yield f"{name} can be {value} alone: leave it out of dynamic_shapes"
        elif re.fullmatch(r"\w+", value):
            yield f"{name} and {value} are always equal: declare one Dim for both"
        elif value.startswith("Dim("):
            yield f"declare {name} = torch.export.{value}"
        else:
            yield f"declare {name} as {value}"


def _in_words(text: str) -> str:
    """With x.shape[0] for L['x'].size()[0] and inputs['x'].shape[0]."""
    return re.sub(r"(?:L|inputs)\['(\w+)'\]((?:\[[^\]]+\])*)\.(?:size\(\)|shape)\[(\d+)\]", r"\1\2.shape[\3]", text)
