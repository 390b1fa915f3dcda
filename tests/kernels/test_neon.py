"""The built code for aarch64: the sums of every tile that MobileNetV2 runs stay in registers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from neve.build.target import AARCH64
from neve.kernels.conv import depthwise
from neve.kernels.conv import direct as conv
from neve.kernels.gemm.tiles import GemmSpec
from tests.kernels import conv_unit, harness, test_gemm
from tests.kernels.conv_problems import Problem

pytestmark = pytest.mark.skipif("zig" not in harness.compilers(), reason="needs the ziglang wheel")

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and first stride of each stage of MobileNetV2 (Sandler et al., 2018, table 2)."""

USE = """
void use_{0}(void *const *p, const int64_t *s, neve_thread *th);
void use_{0}(void *const *p, const int64_t *s, neve_thread *th) {{ {0}_run(p, s, th); }}
"""
# depthwise tiles at the border also hold masks of columns, and clang puts one or two sums away around the store
TILE = re.compile(r"k(\d+)_((?:main|last)_\d+|(?:full|last)\d+|inner\w*|gemv_\w+)$")
STACK = re.compile(r"\b[qdv]\d+\b.*\[sp")


def mobilenet_v2(size: int = 224) -> Iterator[GemmSpec | Problem]:
    """Its layers: 1x1 convolutions as products, the others as they are."""
    side, channels = size // 2, 32
    yield Problem(3, 32, size, size, stride=(2, 2), padding=(1, 1, 1, 1), planar=True)
    for expansion, width, blocks, first in STAGES:
        for stride in (first, *[1] * (blocks - 1)):
            inner = expansion * channels
            if expansion > 1:
                yield GemmSpec(side * side, inner, channels)
            yield Problem(inner, inner, side, side, stride=(stride, stride), groups=inner)
            side //= stride
            yield GemmSpec(side * side, width, inner)
            channels = width
    yield GemmSpec(side * side, 1280, channels)
    yield GemmSpec(1, 1000, 1280)


def instances() -> Iterator[tuple[str, str]]:
    """C of a kernel k0, k1, ... for each layer, and its name; of products with the same tiles the first one."""
    seen = set()
    for k, layer in enumerate(dict.fromkeys(mobilenet_v2())):
        if isinstance(layer, GemmSpec):
            problem = test_gemm.Problem(layer, target=AARCH64)
            made = dict(problem.choice.macros)
            tiles = tuple(made[f"GEMM_{name}"] for name in ("NV", "NV_LAST", "ROWS", "ROWS_LAST", "PREFETCH", "GEMV"))
            if tiles not in seen:
                yield f"k{k}", test_gemm.source(problem, f"k{k}")
            seen.add(tiles)
        else:
            spec = layer.spec()
            choice = depthwise.choice(spec, AARCH64) if spec.depthwise else conv.planar(spec, AARCH64)
            yield f"k{k}", conv_unit.source(f"k{k}", spec, choice)


def assembly(text: str, folder: Path) -> str:
    """The compiler's assembly of a translation unit."""
    unit, made = folder / "unit.c", folder / "unit.s"
    unit.write_text(text)
    flags = [f for f in harness.FLAGS if f != "-Werror"]  # zig warns of a flag of its own
    command = [*harness.ZIG, "-target", "aarch64-linux-gnu", *flags, "-g0", "-fno-sanitize=all"]
    subprocess.run([*command, "-I", str(harness.KERNELS), "-S", str(unit), "-o", str(made)], check=True)
    return made.read_text()


def functions(text: str) -> dict[str, list[str]]:
    """Name of a tile's function → its lines of assembly."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        line = line.split("//")[0].strip()
        if line.endswith(":") and not line.startswith("."):
            name = line[:-1]
        elif TILE.match(name) and line:
            found.setdefault(name, []).append(line)
    return found


def inner_loops(lines: list[str]) -> Iterator[list[str]]:
    """The bodies of the innermost loops that multiply and add vectors."""
    labels = {line[:-1]: k for k, line in enumerate(lines) if line.endswith(":")}
    jumps = [(labels.get(line.split()[-1], k), k) for k, line in enumerate(lines) if re.match(r"c?t?bn?z?[. \t]", line)]
    spans = [(begin, end) for begin, end in jumps if begin < end]
    for begin, end in spans:
        inside = any(begin <= b and e <= end and (b, e) != (begin, end) for b, e in spans)
        if not inside and any(line.startswith("fmla") for line in lines[begin:end]):
            yield lines[begin : end + 1]


def test_sums_stay_in_registers(tmp_path: Path) -> None:
    kernels = dict(instances())
    uses = "".join(USE.format(name) for name in kernels)
    built = functions(assembly(conv_unit.HEAD + "".join(kernels.values()) + uses, tmp_path))
    found = {name.split("_")[0] for name in built}
    # the narrowest images have tiles at the border only
    narrow = {name for name, text in kernels.items() if "depthwise.h" in text} - found
    assert found | narrow == set(kernels)
    assert len(narrow) < 5
    for name, lines in built.items():
        loops = list(inner_loops(lines))
        assert loops, name
        assert not [line for body in loops for line in body if STACK.search(line)], name
