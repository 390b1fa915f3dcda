"""Nodes and refusals of scripted models name the user's lines and modules, and damaged source ranges only lose them."""

from __future__ import annotations

import inspect
import io
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neve.capture.export import capture
from neve.capture.torchscript.entry import saved
from neve.capture.torchscript.lines import Lines
from neve.errors import CaptureError
from neve.ir.graph import Graph, Node
from neve.ops.control import If, While

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


class Child(nn.Module):
    def forward(self, x, n: int):
        y = torch.relu(
            torch.sigmoid(x)  # sigmoid
        )
        for _ in range(n):  # While
            y = y - 1  # sub
        return y


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.child = Child()
        self.last = nn.Linear(3, 3)

    def forward(self, x, n: int):
        if x.sum() > 0:  # If
            x = self.child(x, n) * 2  # mul
        return self.last(x)  # linear


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList([Bad()])

    def forward(self, x):
        for step in self.steps:
            x = step(x)
        return x


class Bad(nn.Module):
    def forward(self, x):
        y = x + 1
        return torch.poisson(y) + y[y > 0].sum()  # bad


X = torch.ones(2, 3)
MODULES = {"sigmoid": "child", "while": "child", "sub": "child", "if": "", "mul": "", "linear": "last"}


def line_of(marker: str) -> int:
    """The line of this file that ends in a comment."""
    lines = inspect.getsource(inspect.getmodule(line_of)).splitlines()  # type: ignore[arg-type]
    (found,) = [k + 1 for k, line in enumerate(lines) if line.endswith(f"# {marker}")]
    return found


def nodes(graph: Graph) -> Iterator[Node]:
    for n in graph.nodes:
        yield n
        if isinstance(n.op, If):
            yield from (*nodes(n.op.then), *nodes(n.op.orelse))
        if isinstance(n.op, While):
            yield from (*nodes(n.op.cond), *nodes(n.op.body))


def remade(data: bytes, change: Any) -> bytes:
    """The archive with each member as change(name, content) gives it; None leaves it out."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for i in old.infolist():
            content = change(i.filename, old.read(i))
            if content is not None:
                new.writestr(i.filename, content)
    return out.getvalue()


def without_ranges(name: str, content: bytes) -> bytes | None:
    return None if name.endswith(".debug_pkl") else content


@pytest.mark.parametrize("trace", [False, True])
def test_nodes_name_module_and_line(trace: bool) -> None:
    model = Net().eval()
    scripted = torch.jit.trace(model, (X, torch.tensor(1))) if trace else torch.jit.script(model)
    found = list(nodes(capture(scripted, (X, torch.tensor(1)) if trace else (X, 2)).methods["forward"].graph))
    for op in ["sigmoid", "linear"] if trace else MODULES:
        origins = {n.origin for n in found if n.op.name == op}
        assert {o.module for o in origins} == {MODULES[op]}, op
        marker = op.capitalize() if op in ("if", "while") else op
        assert {o.source for o in origins} == {f"tests/capture/torchscript/test_lines.py:{line_of(marker)}"}, op
    assert all(n.origin.source for n in found if n.op.name not in ("constant", "full"))


def test_without_source_ranges_lines_are_those_of_the_archive(tmp_path: Any) -> None:
    data = remade(saved(torch.jit.script(Net())), without_ranges)
    (tmp_path / "m.pt").write_bytes(data)
    graph = capture(tmp_path / "m.pt", (X, 2)).methods["forward"].graph
    code = zipfile.ZipFile(io.BytesIO(data)).read("archive/code/__torch__/tests/capture/torchscript/test_lines.py")
    for n in nodes(graph):
        if n.op.name in ("sigmoid", "sub"):
            file, line = n.origin.source.split(":")
            assert file == "code/__torch__/tests/capture/torchscript/test_lines.py"
            assert f"torch.{n.op.name}(" in code.decode().splitlines()[int(line) - 1]


@pytest.mark.parametrize("strip", [False, True])
def test_refusals_name_module_and_line(strip: bool, tmp_path: Any) -> None:
    data = saved(torch.jit.script(Nested()))
    (tmp_path / "m.pt").write_bytes(remade(data, without_ranges) if strip else data)
    with pytest.raises(CaptureError) as e:
        capture(tmp_path / "m.pt", (X,))
    place = "code/__torch__/tests/capture" if strip else f"test_lines.py:{line_of('bad')}"
    assert "(in steps.0, " in str(e.value) and place in str(e.value)


def ranges() -> tuple[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(saved(torch.jit.script(Net())))) as z:
        code = "archive/code/__torch__/tests/capture/torchscript/test_lines.py"
        return z.read(code).decode(), z.read(f"{code}.debug_pkl")


CODE, RANGES = ranges()


def found(data: bytes) -> list[tuple[str, int, str] | None]:
    lines = Lines(CODE, data)
    return [lines.find(k, 4) for k in range(len(CODE.splitlines()) + 2)]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(RANGES) - 1), st.binary(max_size=6), st.booleans())
def test_damaged_source_ranges_are_ignored(at: int, patch: bytes, cut: bool) -> None:
    for place in found(RANGES[:at] + patch + (b"" if cut else RANGES[at + len(patch) :])):
        assert place is None or (place[0].isprintable() and place[1] > 0)


@pytest.mark.parametrize("value", [b"", b"junk", b"\x80\x02N.", b"\x80\x02(K\x00K\x01t.", b"\x80\x02]."])
def test_what_are_no_source_ranges_is_ignored(value: bytes, tmp_path: Any) -> None:
    assert not any(found(value)) and any(found(RANGES))
    (tmp_path / "m.pt").write_bytes(
        remade(saved(torch.jit.script(Net())), lambda n, c: value if n.endswith(".debug_pkl") else c)
    )
    assert capture(tmp_path / "m.pt", (X, 2)).methods


def test_the_file_that_source_ranges_name_is_not_opened(tmp_path: Any) -> None:
    """It could be a device, or a secret that an error would show."""
    secret = tmp_path / "secret.txt"
    secret.write_text("secret\n" * 100)
    data = saved(torch.jit.script(Nested()))
    old, new = inspect.getfile(Nested).encode(), str(secret).encode()
    swap = [(b"X" + len(n).to_bytes(4, "little") + n) for n in (old, new)]
    (tmp_path / "m.pt").write_bytes(remade(data, lambda n, c: c.replace(*swap)))
    with pytest.raises(CaptureError, match=r"secret\.txt:\d+") as e:
        capture(tmp_path / "m.pt", (X,))
    assert ": secret" not in str(e.value)
