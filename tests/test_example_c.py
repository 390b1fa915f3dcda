"""The generated C as a product of its own: any compiler builds it without warnings, and a C program runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from neve import artifact as artifacts
from neve.build.elf import missing_symbols
from neve.build.target import native
from tests.host_program import STRICT, command, execute, flags, needs, run_sanitized

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(native().os not in ("linux", "macos"), reason="the example is for POSIX systems")


# --- the example --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    """The example model unpacked, and what PyTorch gives for it."""

    folder: Path
    scores: npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    import torch

    import neve
    from neve.cli.models import load_model

    loaded = load_model(f"{ROOT}/examples/model.py:make")
    module = neve.compile(loaded.model, loaded.args, name="digits")
    folder = tmp_path_factory.mktemp("example")
    artifacts.unpack(module.artifact, folder / "digits")
    with torch.no_grad():
        assert loaded.args is not None
        return Example(folder, loaded.model(*loaded.args).numpy()[0])


@pytest.mark.parametrize("compiler", ["gcc", "clang", "zig"])
def test_the_example_prints_what_pytorch_gives(example: Example, compiler: str, compiler_names: list[str]) -> None:
    needs(compiler, compiler_names)
    program = example.folder / f"main-{compiler}"
    sources = [str(ROOT / "examples/c/main.c"), "digits/digits.c"]
    execute([*command(compiler), *flags(), "-Idigits", *sources, "-o", str(program)], example.folder)
    printed = execute([str(program), "digits/digits.weights"], example.folder).decode().split()
    assert printed[::2] == [str(i) for i in range(10)]
    np.testing.assert_allclose(np.array(printed[1::2], np.float32), example.scores, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("compiler", ["gcc", "clang", "zig"])
def test_the_object_needs_no_symbol(example: Example, compiler: str, compiler_names: list[str]) -> None:
    needs(compiler, compiler_names)
    out = example.folder / f"digits-{compiler}.o"
    quiet = ["-fno-stack-protector"] + (["-fno-sanitize=all"] if compiler == "zig" else [])
    execute([*command(compiler), *flags(), *quiet, "-c", "digits/digits.c", "-o", str(out)], example.folder)
    if native().os == "linux":
        assert missing_symbols([out]) == []


def test_the_header_is_c_plus_plus_too(example: Example, compiler_names: list[str]) -> None:
    needs("gcc", compiler_names)
    (example.folder / "host.cpp").write_text('#include "digits.h"\nint main() { return digits_context_size() == 0; }\n')
    argv = ["gcc", "-x", "c++", "-std=c++11", "-pedantic", *STRICT[1:], "-Idigits", "-fsyntax-only", "host.cpp"]
    execute(argv, example.folder)


# --- sanitizers, two contexts at once, threads ---------------------------------------------------------------------


def models() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Small models that between them use every kind of kernel, with sizes that fill no vector."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ids, self.norm = nn.Embedding(11, 24), nn.LayerNorm(24)
            self.layer = nn.TransformerEncoderLayer(24, 3, 40, batch_first=True)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x: torch.Tensor = self.layer(self.norm(self.ids(ids)))
            return x.cumsum(1).topk(2, dim=-1).values

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.lstm = nn.GRU(5, 7, bidirectional=True), nn.LSTM(14, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.lstm(self.gru(x)[0])[0]
            return y

    convs = nn.Sequential(
        nn.Conv2d(3, 13, 3, padding=1), nn.SiLU(), nn.Conv2d(13, 13, 3, groups=13, stride=2), nn.Hardswish(),
        nn.ConvTranspose2d(13, 6, 2, stride=2), nn.GroupNorm(2, 6), nn.MaxPool2d(3, 2, 1),
        nn.Upsample(scale_factor=2.0),
    )  # fmt: skip
    return {
        "convs": (convs, (torch.randn(2, 3, 15, 17),)),
        "attention": (Attention(), (torch.randint(0, 11, (2, 9)),)),
        "recurrent": (Recurrent(), (torch.randn(6, 2, 5),)),
        "mlp": (nn.Sequential(nn.Linear(9, 33), nn.GELU(), nn.Linear(33, 5), nn.Softmax(-1)), (torch.randn(7, 9),)),
    }


@pytest.mark.parametrize("name", ["convs", "attention", "recurrent", "mlp"])
def test_sanitizers_contexts_and_threads(name: str, tmp_path: Path, compiler_names: list[str]) -> None:
    """Two contexts in two threads at once, 1, 2 and 3 threads a call: the same bits, and ASan and UBSan are content."""
    import torch

    import neve

    needs("gcc", compiler_names)
    model, args = models()[name]
    module = neve.compile(model.eval(), args, name=name)
    with torch.no_grad():
        wanted = model(*args).numpy()
    got = run_sanitized(module, args, wanted, tmp_path)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())
    module.threads = 2
    two = module(*args).numpy()
    module.threads = 1
    np.testing.assert_array_equal(module(*args).numpy(), two)
