"""The command line, as a script and as a person use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neve
from neve import artifact as artifacts
from neve.build.source import Source
from neve.build.target import AVX2, native
from neve.build.toolchain import build
from neve.cli.app import run
from neve.errors import BuildError

ROOT = Path(__file__).parents[1]
MODELS = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)).eval(), (torch.randn(3, 8),)

class Keywords(nn.Module):
    def forward(self, x, *, scale=2.0, y=None):
        return {"scaled": x * scale, "both": [x.sum(), y.to(torch.bfloat16) * 3]}

def keywords():
    return Keywords(), (torch.ones(3, 8),), {"y": torch.randint(0, 5, (2,))}

class Svd(nn.Module):
    def forward(self, x):
        return torch.linalg.eig(x)[0].real + torch.linalg.eigvals(x).real

def unsupported():
    return Svd(), (torch.randn(3, 3),)

def other():
    model, args = net()
    model[0].bias.data += 1
    return model, args

def raises():
    raise ValueError("no weights here")

def alone():
    return nn.Linear(2, 2)

def bundled():
    import neve
    return neve.bundled_inputs.bundle_inputs(nn.Linear(2, 2), [(torch.ones(1, 2),), (torch.zeros(1, 2),)])

def number():
    return 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cli")
    (made / "cli_models.py").write_text(MODELS)
    return made


@pytest.fixture(scope="module")
def net(folder: Path) -> Path:
    path = folder / "net.neve"
    assert run(["compile", f"{folder}/cli_models.py:net", "-o", str(path), "--dynamic", "input:0=batch:1..64"]) == 0
    return path


@pytest.fixture(scope="module")
def keywords(folder: Path) -> Path:
    path = folder / "keywords.neve"
    assert run(["compile", f"{folder}/cli_models.py:keywords", "-o", str(path), "--exact"]) == 0
    return path


def answer(capsys: pytest.CaptureFixture[str], *argv: object) -> Any:
    """What a command prints with --json, which must have succeeded."""
    capsys.readouterr()
    assert run([*map(str, argv), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def test_a_model_alone_brings_its_bundled_inputs(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bundled.neve"
    assert answer(capsys, "compile", f"{folder}/cli_models.py:bundled", "-o", path)["examples"] == {"forward": 2}
    assert [o["example"] for o in answer(capsys, "verify", path)["outputs"]] == [0, 1]


def test_a_preserved_attribute_is_changeable_and_an_unknown_one_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, path = f"{folder}/cli_models.py:net", tmp_path / "kept.neve"
    made = answer(capsys, "compile", spec, "-o", path, "--preserve", "3.bias", "--preserve", "1")
    assert made["state"]["3.bias"] == ["float32", [4]]
    assert neve.load(path).attributes["3.bias"].shape == (4,)
    assert "Unknown name: 9" in refused(capsys, 1, "compile", spec, "-o", path, "--preserve", "9")


def refused(capsys: pytest.CaptureFixture[str], code: int, *argv: object) -> str:
    """The message of a command that must fail with this exit code: one, without a traceback."""
    capsys.readouterr()
    assert run([*map(str, argv)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def test_inspect_tells_all_that_the_file_holds(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "inspect", net, "--graph", "--calls", "--log")
    assert found["inputs"]["forward"] == [{"name": "input", "dtype": "float32", "shape": ["batch", 8]}]
    assert found["sizes"]["forward"] == {"batch": [1, 64]}
    assert found["bytes"]["weights"] > 4 * (8 * 16 + 16 + 16 * 4 + 4)
    assert found["file_bytes"] == net.stat().st_size
    assert found["rewrites"]["fold_batch_norm"] == 1
    assert "batch_norm" not in found["graph"] and "linear(" in found["graph"]
    assert found["kernel_calls"]["forward"] == len(found["calls"]["forward"]) > 0
    assert 0 <= found["errors"]["forward/0"] < 1e-5
    assert run(["inspect", str(net)]) == 0
    text = capsys.readouterr().out
    assert "forward(input: float32 [batch, 8])" in text and "fold_batch_norm 1" in text
    assert run(["inspect", str(net), "--calls"]) == 0
    assert "linear" in capsys.readouterr().out


def test_run_gives_what_the_module_gives(net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import neve

    x = np.linspace(-1, 1, 40, dtype=np.float32).reshape(5, 8)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", input=x)
    wanted = neve.load(net)(x)
    for given in ("x.npy", "x.npz"):
        found = answer(capsys, "run", net, "-i", tmp_path / given, "-o", tmp_path / "y.npy")
        assert found["outputs"][0]["shape"] == [5, 4]
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), wanted)
    assert answer(capsys, "run", net, "--random", 1, "--size", "batch=7")["outputs"][0]["shape"] == [7, 4]
    assert answer(capsys, "run", net, "--random", 1) == answer(capsys, "run", net, "--random", 1)
    assert run(["run", str(net)]) == 0
    assert "float32" in capsys.readouterr().out


def test_structured_outputs_and_keywords(keywords: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "run", keywords, "-o", tmp_path / "y.npz")
    assert [o["dtype"] for o in found["outputs"]] == ["float32", "float32", "bfloat16"]
    assert found["outputs"][0]["mean"] == 2
    assert found["outputs"][1]["mean"] == 24
    assert set(np.load(tmp_path / "y.npz")) == {"out0", "out1", "out2"}
    assert answer(capsys, "verify", keywords)["right"]


def test_verify_finds_wrong_results(net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from neve import artifact as artifacts

    assert run(["verify", str(net)]) == 0
    loaded = artifacts.load(net)
    loaded.examples["forward"][0].outputs[0][0, 0] += 1e-3
    loaded.save(tmp_path / "wrong.neve")
    capsys.readouterr()
    assert run(["verify", str(tmp_path / "wrong.neve"), "--json"]) == 1
    assert not json.loads(capsys.readouterr().out)["right"]
    loaded.examples.clear()
    loaded.save(tmp_path / "none.neve")
    assert "no examples" in refused(capsys, 1, "verify", tmp_path / "none.neve")


def test_a_search_finds_no_difference(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["verify", "--thorough", "--seconds", 5], ["inspect", "--tried"]):
        done = answer(capsys, *command, net)
        tried = {t["what"] for t in done["tried"]}
        assert {"the example", "values redrawn", "sizes batch=1", "sizes batch=64", "floats: boundaries"} <= tried
        assert all(t["error"] < 1e-5 for t in done["tried"])
        assert run([*map(str, command), str(net)]) == 0
        assert "values redrawn" in capsys.readouterr().out
    assert answer(capsys, "bisect", "--seconds", 1, net) == {
        "file": str(net),
        "differs": "",
        "begins": "",
        "inputs": "",
    }


def test_a_file_of_another_model_differs(net: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = ["--model", f"{folder}/cli_models.py:other"]
    assert "was made of another one" in refused(capsys, 1, "verify", "--thorough", *other, net)
    assert run(["bisect", *other, str(net), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert "was made of another one" in found["begins"]
    assert run(["bisect", *other, str(net), "--input", found["inputs"]]) == 1
    assert "the given inputs: output 0" in capsys.readouterr().out
    assert "--thorough" in refused(capsys, 2, "verify", *other, net)


def test_bench_measures_each_number_of_threads(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "bench", net, "--threads", 1, "--threads", 2, "--seconds", 0.01, "--warmup", 0)
    assert [t["threads"] for t in found["times"]] == [1, 2]
    for t in found["times"]:
        assert 0 < t["min"] <= t["median"] <= t["p95"] and t["calls"] >= 10


def test_bench_tells_the_time_of_each_kernel(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["bench", net, "--threads", 1, "--seconds", 0.01, "--warmup", 0, "--profile"]
    found = answer(capsys, *argv)
    kernels = found["kernels"]
    assert found["peak"]["flops"] > 0 and len(found["peak"]["bandwidths"]) == 4
    assert {k["limit"] for k in kernels} <= {"compute", "memory"} and all(k["bytes"] > 0 for k in kernels)
    assert len(kernels) == answer(capsys, "inspect", net)["kernel_calls"]["forward"]
    assert all(k["seconds"] > 0 for k in kernels)
    assert run([*map(str, argv)]) == 0
    assert "share" in capsys.readouterr().out


def test_a_profile_is_of_the_target_that_was_compiled_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whose weights are packed for its vectors: other flags do not even compile."""
    path = tmp_path / "generic.neve"
    assert run(["compile", f"{folder}/cli_models.py:net", "-o", str(path), "--target", "x86_64", "--tune", "0.01"]) == 0
    capsys.readouterr()
    found = answer(capsys, "bench", path, "--threads", 1, "--seconds", 0.01, "--warmup", 0, "--profile")
    assert all(k["seconds"] > 0 for k in found["kernels"])
    made = artifacts.load(path)
    source = Source(made.name, made.sources, made.weights, made.signature)
    with pytest.raises(BuildError, match="vectors of 4 floats"):
        build(source, AVX2)


def test_unpack_writes_what_compiles(net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "unpack", net, "--c", tmp_path / "c")
    assert {"net.c", "net.h", "neve.h", "net.weights"} < set(found["files"])
    assert all((tmp_path / "c" / f).is_file() for f in found["files"])
    assert "-ffreestanding" in found["flags"]


@pytest.mark.parametrize(
    ("spec", "code", "message"),
    [
        ("raises", 1, "ValueError: no weights here"),
        ("alone", 1, "return (model, args)"),
        ("number", 1, "gave an int, wanted a model"),
        ("nothing", 2, "it has Keywords"),
    ],
)
def test_factories_that_give_no_model(
    folder: Path, spec: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, code, "compile", f"{folder}/cli_models.py:{spec}")


def test_every_unsupported_op_is_told_with_its_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = refused(capsys, 1, "compile", f"{folder}/cli_models.py:unsupported", "-o", folder / "no.neve")
    assert "linalg_eig:" in text and "linalg_eigvals:" in text and "cli_models.py:" in text
    assert not (folder / "no.neve").exists()


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["compile", "nowhere.pt2"], 2, "there is no file"),
        (["compile", "no_such_module:f"], 2, "there is no module"),
        (["compile", "justaname"], 2, "wanted model.pt2"),
        (["compile", "MODEL", "--target", "vax"], 2, "unknown target"),
        (["compile", "MODEL", "--compiler", "no-such-cc"], 3, "does not run"),
        (["run", "nowhere.neve"], 2, "there is no file"),
        (["run", "FILE", "-o", "nowhere/y.npy"], 2, "the folder nowhere does not exist"),
        (["run", "FILE", "-o", "FILE"], 2, "is what is read"),
        (["unpack", "FILE", "--c", "/dev/null/c"], 2, "is no folder"),
        (["frobnicate"], 2, "No such command"),
        (["run", "FILE", "--method", "encode"], 2, "only forward"),
        (["run", "FILE", "--random", "1", "--size", "batch"], 2, "wanted NAME=N"),
        (["run", "FILE", "--random", "1", "--size", "batch=65"], 1, "1 to 64"),
        (["run", "FILE", "-i", "FILE"], 2, "has no array 'input'"),
        (["run", "FILE", "-i", "MODEL"], 2, "no .npy or .npz file"),
        (["inspect", "MODEL"], 2, "there is no file"),
    ],
)
def test_mistakes_are_explained(
    net: Path, folder: Path, argv: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"FILE": str(net), "MODEL": f"{folder}/cli_models.py:net"}
    assert message in refused(capsys, code, *(names.get(a, a) for a in argv))


def test_json_has_the_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.neve").touch()
    assert run(["run", str(tmp_path / "empty.neve"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "ArtifactError"


def test_debug_shows_where(tmp_path: Path) -> None:
    from neve.errors import ArtifactError

    (tmp_path / "empty.neve").touch()
    with pytest.raises(ArtifactError, match="empty"):
        run(["run", str(tmp_path / "empty.neve"), "--debug"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dynamic", "input:0=b:1..0"], "0 <= MIN <= MAX"),
        (["--dynamic", "input:0=b:0..0"], "0 <= MIN <= MAX"),
        (["--dynamic", f"input:0=b:0..{10**30}"], "0 <= MIN <= MAX"),
        (["--dynamic", "input.0"], "wanted ARG:DIM"),
        (["--dynamic", "input:-1"], "wanted ARG:DIM"),
        (["--dynamic", "input:0="], "wanted ARG:DIM"),
        (["--dynamic", "input:0=a:x..3"], "wanted ARG:DIM"),
        (["--dynamic", ":0"], "wanted ARG:DIM"),
        (["--dynamic", "input:0=if"], "a word of Python"),
        (["--dynamic", "input:0=a", "--dynamic", "input:0=b"], "about the same dim"),
        (["--dynamic", "input:0=a:1..4", "--dynamic", "input:1=a:1..5"], "has two ranges"),
        (["-o", "FOLDER"], "is a folder"),
        (["-o", "FOLDER/nowhere/a.neve"], "does not exist: make it first"),
        (["-o", "FOLDER/cli_models.py/a.neve"], "is no folder"),
        (["-o", "FOLDER/cli_models.py"], "is what is read"),
        (["-o", "/dev/null"], "is no plain file"),
        (["--target", "vax"], "unknown target"),
        (["--disable", "fold_batch_nrm"], "did you mean fold_batch_norm?"),
        (["--name", "a-b"], "a C identifier"),
        (["--threads", "0"], "equal to 1"),
        (["--tune", "1", "--target", "wasm32"], "cannot run code for wasm32"),
        (["--nonsense"], "No such option"),
    ],
)
def test_wrong_usage_is_told_before_anything_slow_is_imported(
    folder: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torch", "sympy"):
        monkeypatch.setitem(sys.modules, name, None)  # so that importing it fails
    argv = [o.replace("FOLDER", str(folder)) for o in options]
    assert message in " ".join(refused(capsys, 2, "compile", f"{folder}/cli_models.py:net", *argv).split())


def test_the_passes_are_known_by_name() -> None:
    from neve.passes.names import pass_names
    from neve.passes.pipeline import passes

    assert pass_names() == sorted({p.name for p in passes()})


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("x:0", "it has input"),
        ("input:2", "has the dims 0 to 1 only"),
        ("input:0=b:4..9", "outside of the range"),
    ],
)
def test_a_dynamic_size_has_to_be_of_the_example(
    folder: Path, size: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, 2, "compile", f"{folder}/cli_models.py:net", "--dynamic", size)


def test_an_interrupted_compilation_leaves_no_compiler(folder: Path, tmp_path: Path) -> None:
    """A compiler that starts another process, as gcc does, and never ends."""
    started, fake = tmp_path / "started", tmp_path / "gcc"
    fake.write_text(
        f"#!/bin/sh\n[ \"$1\" = --version ] && echo 'gcc 12.2.0' && exit\nsleep 600 &\n"
        f"echo $$ $! >> {started}.part\nmv {started}.part {started}\nwait\n"
    )
    fake.chmod(0o755)
    argv = [sys.executable, "-m", "neve", "compile", f"{folder}/cli_models.py:net", "-o", str(tmp_path / "a.neve")]
    argv += ["--compiler", str(fake)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NEVE_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    # a shell starts background jobs with SIGINT ignored, and so do all that they start
    heard: Any = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    child = subprocess.Popen(argv, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **heard)
    while not started.exists() and child.poll() is None:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    printed, said = child.communicate(timeout=60)
    assert (child.returncode, printed, said) == (130, "", "neve: interrupted\n")
    for process in map(int, started.read_text().split()):
        assert not Path(f"/proc/{process}").exists() or "(zombie)" in Path(f"/proc/{process}/status").read_text()
    assert not list(tmp_path.glob("neve-build-*"))


def test_a_pt2_file_brings_its_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    from torch import nn

    exported = torch.export.export(nn.Linear(4, 3).eval(), (torch.randn(2, 4),))
    torch.export.save(exported, tmp_path / "linear.pt2")
    found = answer(capsys, "compile", tmp_path / "linear.pt2", "-o", tmp_path / "linear.neve", "--name", "lin")
    assert found["verified"] and found["name"] == "lin"
    assert answer(capsys, "verify", tmp_path / "linear.neve")["right"]


COMMANDS = ("compile", "run", "bench", "inspect", "verify", "unpack", "demo")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage: neve" in text
    assert command == "demo" or f"neve {command} " in text.split("Usage:")[1].split("\n", 1)[1]


def test_the_command_starts_without_torch_and_says_what_it_lacks() -> None:
    def start(barred: str, *argv: str) -> subprocess.CompletedProcess[str]:
        barring = f"import sys; sys.modules[{barred!r}] = None; sys.argv = ['neve', *{list(argv)!r}]"
        code = f"{barring}\nfrom neve.cli import main; main()"
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)

    helped = start("torch", "--help")
    assert helped.returncode == 0 and "Exit codes" in helped.stdout
    lacking = start("typer", "--help")
    assert lacking.returncode == 3 and "pip install 'neve[cli]'" in lacking.stderr


@pytest.mark.parametrize("target", ["aarch64", "aarch64-android", "aarch64-ios", "x86_64-avx2-windows", "wasm32"])
def test_other_targets_are_built_and_said_not_to_have_run(
    folder: Path, target: str, tmp_path: Path, compiler_names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    if "zig" not in compiler_names:
        pytest.skip("no zig here")
    path = tmp_path / "other.neve"
    assert run(["compile", f"{folder}/cli_models.py:net", "-o", str(path), "--target", target]) == 0
    assert "not run" in capsys.readouterr().out
    assert list(answer(capsys, "inspect", path)["targets"]) == [target]
    if target != f"{native().name}":
        assert "has no library for this machine" in refused(capsys, 1, "run", path)
