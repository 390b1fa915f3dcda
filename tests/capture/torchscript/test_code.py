"""Code that somebody changed ends in CaptureError or a recording, soon and in little memory."""

from __future__ import annotations

import io
import random
import re
import resource
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn

from neve.capture.torchscript.archive import read_archive
from neve.capture.torchscript.capture import interpreted
from neve.errors import CaptureError
from tests.capture.torchscript.fuzz import limit, load
from tests.capture.torchscript.programs import Program, calls

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
HUGE = 10**12


class Template(nn.Module):
    def forward(self, x, n: int):
        return torch.sub(x, 12345)


def changed(model: nn.Module, change: Callable[[str], str], path: Path) -> str:
    """An archive of a model with its code changed."""
    buffer, file = io.BytesIO(), str(path / "model.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(model, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, change(data.decode()) if name.endswith(".py") else data)
    return file


# statements before the return, each of which would take for ever, or all memory
BOMBS = {
    "a large fill": f"y = torch.full([{HUGE}], 1)",
    "many parts": "y = torch.unbind(torch.zeros([100000000]), 0)",
    "many rows": "y = torch.chunk(torch.zeros([100000000]), 100000000, 0)",
    "a loop in a loop": "k = 0\n    for i in range(99999):\n      for j in range(99999):\n        k = torch.add(k, 1)",
    "a long loop": f"k = 0\n    for i in range({HUGE}):\n      k = torch.add(k, i)\n      l = [k]",
    "a loop without end": "k = True\n    while k:\n      k = True",
    "a list that doubles": "l = [1]\n    for i in range(60):\n      l = torch.add(l, l)",
    "a list that extends itself": "l = [1]\n    for i in range(60):\n      torch.extend(l, l)",
    "a list times a number": f"l = torch.mul([1, 2], {HUGE})",
    "a string that doubles": 's = "ab"\n    for i in range(60):\n      s = torch.add(s, s)',
    "a string that is replaced": 's = "ab"\n    for i in range(9):\n      s = torch.replace(s, "b", s)',
    "a wide string": f's = torch.zfill("ab", {HUGE})',
    "a wide format": 's = torch.percentFormat("%1000000000d", 3)',
    "a list of a range": f"l = ops.prim.rangelist({HUGE})",
    "a large power": "k = torch.pow(10, 999999999)",
    "a large shift": "k = torch.__lshift__(1, 999999999)",
    "a large product": "k = 7\n    for i in range(40):\n      k = torch.mul(k, k)",
    "a deep expression": "y = " + "torch.neg(" * 3000 + "x" + ")" * 3000,
    "deep brackets": "y = " + "[" * 150 + "]" * 150,
    "a function that calls itself": "y = (self).forward(x, n, )",
    "deep loops": "\n    ".join("  " * k + f"while torch.gt(n, {k}):" for k in range(40)) + "\n" + " " * 90 + "n = 3",
    "a large number": f"k = torch.add({10**400}, 1)",
    "a number that overflows": "k = int(1e999)\n    y = torch.add(x, 1e999)",
    "a name that is not there": "y = torch.nothing(x, absent)",
    "an index": f"y = torch.select(x, {HUGE}, n)",
    "a wrong number of values": "a, b, c, = (x, n)",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=list(BOMBS))
def test_bombs(bomb: str, tmp_path: Path) -> None:
    path = changed(
        torch.jit.script(Template()), lambda s: s.replace("    return ", f"    {bomb}\n    return ", 1), tmp_path
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with limit(60), suppress(CaptureError):
        interpreted(read_archive(path), {"forward": {"args": (torch.ones(3), 2)}})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000, "kilobytes"


def mutated(text: str, r: random.Random) -> str:
    """Code with a line dropped, doubled or moved, two names swapped, or a number changed."""
    lines = text.split("\n")
    at = r.randrange(len(lines))
    kind = r.randrange(5)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[r.randrange(len(lines))])
    elif kind == 2:
        other = r.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    text = "\n".join(lines)
    if kind == 3:
        a, b = (r.choice(re.findall(r"\b[a-z_]+\d*\b", text)) for _ in range(2))
        text = re.sub(rf"\b({a}|{b})\b", lambda m: b if m.group() == a else a, text)
    if kind == 4:
        numbers = list(re.finditer(r"(?<![\w.])\d+(?![\w.])", text)) or [re.match("", text)]
        found = r.choice(numbers)
        assert found is not None
        new = r.choice(["0", "-1", "2", "None", "1000", str(HUGE), "1.5", "x", str(2**63)])
        text = text[: found.start()] + new + text[found.end() :]
    return text


def mutations(seeds: range, each: int, path: Path) -> None:
    for seed in seeds:
        model, r = load(Program(seed).source, f"<mutated {seed}>"), random.Random(seed)
        for _ in range(each):
            file = changed(model, lambda s, r=r: mutated(s, r), path)
            with limit(120), suppress(CaptureError):
                interpreted(read_archive(file), {"forward": {"args": calls(seed)[0]}})


def test_changed_code(tmp_path: Path) -> None:
    mutations(range(4), 8, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 300, 10))
def test_much_changed_code(first: int, tmp_path: Path) -> None:
    mutations(range(first, first + 10), 20, tmp_path)
