"""Names of torch outside of its API: each is asked for, and a release that lacks one is refused in words."""

from __future__ import annotations

import ast
import contextlib
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from neve import bundled_inputs
from neve.capture import diagnose
from neve.capture.export import capture
from neve.errors import CaptureError, NeveError
from neve.internals import missing, replaced, require

ROOT = Path(__file__).parents[1]
PRIVATE = re.compile(r"torch(\.\w+)*?\.(_(?!_)\w+)(\.\w+)*")


def test_missing_names() -> None:
    names = "torch.nn.Linear", "torch._C._nothing", "torch.nothing.at_all", "torch.Tensor.nothing"
    assert missing(*names) == list(names[1:])
    with pytest.raises(
        CaptureError, match=rf"a test needs torch\.nothing, which torch {re.escape(torch.__version__)} does"
    ):
        require("a test", "torch.nn", "torch.nothing", error=CaptureError)


def test_replaced_for_a_while() -> None:
    before = torch.fx.Graph.lint, torch.fx.Graph.erase_node
    with contextlib.suppress(KeyError), replaced(("torch.fx.Graph.lint", 1), ("torch.fx.Graph.erase_node", 2)):
        assert (torch.fx.Graph.lint, torch.fx.Graph.erase_node) == (1, 2)
        raise KeyError
    assert before == (torch.fx.Graph.lint, torch.fx.Graph.erase_node)


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def private_names(tree: ast.AST) -> Iterator[str]:
    """The dotted names of torch in a file that have a part with an underscore in front."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        else:
            names = [dotted(node)] if isinstance(node, ast.Attribute) else []
        yield from (n for n in names if PRIVATE.fullmatch(n) and not n.startswith("torch.ops."))


def asked_for() -> set[str]:
    trees = [ast.parse(f.read_text()) for f in (ROOT / "neve").rglob("*.py")]
    texts = (n.value for t in trees for n in ast.walk(t) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    return {t for t in texts if re.fullmatch(r"torch(\.\w+)+", t)}


def test_every_private_name_is_asked_for() -> None:
    asked = asked_for()
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "neve").rglob("*.py")
        for name in private_names(ast.parse(path.read_text()))
        if not any(a == name or a.startswith(f"{name}.") or name.startswith(f"{a}.") for a in asked)
    }
    assert not found


def test_all_that_is_asked_for_is_there() -> None:
    assert "torch._subclasses.fake_tensor.FakeTensorMode" in asked_for()
    assert missing(*(n for n in asked_for() if PRIVATE.fullmatch(n))) == []


LACKS = """
import torch._prims_common
del torch._prims_common.elementwise_dtypes
import neve
try:
    neve.compile(torch.nn.ReLU(), (torch.ones(2),))
except neve.NeveError as error:
    print("refused:", error)
"""


def test_a_torch_without_them_is_refused_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", LACKS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "refused: neve.compile needs torch._prims_common.elementwise_dtypes, which torch 2" in done.stdout


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            x = x * 2
        return x


def test_a_model_is_not_compiled_from_source_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("torch.jit._state._jit_caching_layer")
    with pytest.raises(CaptureError, match=r"compiling its source needs torch\.jit\._state\._jit_caching_layer, which"):
        capture(Branches(), (torch.ones(3),))


class Doubled(nn.Module):
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def test_lines_of_other_methods_are_lost_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("torch.fx.proxy.TracerBase._filter_traceback_frames")
    with diagnose.all_frames():
        assert missing("torch.fx.proxy.TracerBase._filter_traceback_frames")
    monkeypatch.undo()
    program = capture(Doubled(), methods={"encode": (torch.ones(3),)})
    assert "test_internals.py" in str(program.methods["encode"].graph.nodes[0].origin)


def test_silence_without_the_module_that_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neve.capture.diagnose.missing", lambda *names: list(names))
    monkeypatch.setattr(diagnose, "importlib", SimpleNamespace(import_module=pytest.fail))
    with diagnose.quiet():
        pass


def test_bundled_inputs_without_the_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.jit.script(nn.ReLU())
    monkeypatch.delattr("torch._C._hack_do_not_use_clone_module_with_class")
    with pytest.raises(NeveError, match=r"bundled inputs needs torch\._C\._hack_do_not_use_clone_module_with_class"):
        bundled_inputs.augment_model_with_bundled_inputs(model, [(torch.ones(2),)])
    assert not hasattr(model, "get_all_bundled_inputs")
