"""Code for other processors gives eager's results, under an emulator."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from neve.build.target import AARCH64
from neve.build.toolchain import HEADER, compile_object, find_compiler
from neve.capture.export import capture
from neve.emit.program import emit
from neve.passes.pipeline import optimize
from tests.host_program import run_host
from tests.kernels import harness

QEMU = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
STATIC = (*harness.ZIG, "-target", "aarch64-linux-musl", "-static", "-O1", "-fno-sanitize=all")
KERNELS = {"attention", "conv", "conv_planar", "depthwise", "gemm", "recurrent", "winograd"}


class Kernels(nn.Module):
    """Every kernel, on sizes that leave parts of tiles, of vectors and of four terms; all results in one."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(3, 18, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(18, 38, 3, 1, 1),
            nn.Conv2d(38, 42, 1),
            nn.ReLU6(),
            nn.Conv2d(42, 42, 3, 1, 1, groups=42),
            nn.Conv2d(42, 25, 3, 2, 2, dilation=2),
        )
        self.project = nn.Linear(25, 3 * 28)
        self.gru = nn.GRU(28, 21, batch_first=True)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        rows = self.image(image).flatten(2).transpose(1, 2)
        q, k, v = self.project(rows).reshape(rows.shape[0], -1, 3, 4, 7).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return torch.cat([mixed, self.gru(mixed)[0], mixed @ (mixed.transpose(1, 2) @ mixed)], -1)


@pytest.mark.skipif(QEMU is None, reason="needs qemu-aarch64")
@pytest.mark.skipif("zig" not in harness.compilers(), reason="needs the ziglang wheel")
def test_aarch64(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, image = Kernels().eval(), torch.randn(2, 3, 21, 17)
    with torch.no_grad():
        wanted = model(image).numpy()
    source = emit(optimize(capture(model, (image,)))[0], AARCH64, "kernels").source
    assert {Path(name).stem for name in source.files} >= KERNELS
    compile_object(source, AARCH64, find_compiler(AARCH64), tmp_path / "model.o")
    for name in ("kernels.h", "neve.h"):
        (tmp_path / name).write_text({"neve.h": HEADER.read_text(), **source.files}[name])
    source.weights.tofile(tmp_path / "kernels.weights")
    got = run_host("kernels", [image], wanted, tmp_path, [*STATIC, "model.o"], [str(QEMU)])
    np.testing.assert_allclose(got, wanted, rtol=0, atol=3e-6 * np.abs(wanted).max())
