"""The built code of the tiles: sums stay in registers, and each element of A and B is loaded once a term."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from neve.build.target import AVX2, AVX512, Target
from neve.kernels.conv import direct as conv
from neve.kernels.conv import winograd
from neve.kernels.conv.spec import ConvSpec
from neve.kernels.gemm import tiles as gemm
from tests.kernels import conv_unit, harness, test_gemm
from tests.kernels.conv_problems import Problem

TARGETS = {"avx2": AVX2, "avx512": AVX512}
GEMMS = (
    gemm.GemmSpec(128, 1536, 384),
    gemm.GemmSpec(197, 384, 1536),
    gemm.GemmSpec(49, 960, 160),
    gemm.GemmSpec(3136, 24, 144),
)
CONVS = (Problem(64, 128, 28, 28, stride=(2, 2)), Problem(64, 64, 56, 56), Problem(256, 256, 14, 14))

FUNCTION = re.compile(r"^[0-9a-f]+ <(\w+?)(?:\.\w+)*>:$")
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
TILE = re.compile(r"k(\d+)_(main_|last_|full|last)(\d+)$")
FMA = re.compile(r"vfn?m(add|sub)\d*ps$")
STACK = re.compile(r"\((%rsp|%rbp)\)|\(%rsp,|0x[0-9a-f]+\(%r[sb]p")

pytestmark = pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump here")

Line = tuple[int, str, str]


def functions(path: Path) -> dict[str, list[Line]]:
    """Name → (address, instruction, operands) of each function."""
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(path)], capture_output=True, text=True, check=True
    )
    found: dict[str, list[Line]] = {}
    name = ""
    for row in text.stdout.splitlines():
        if head := FUNCTION.match(row):
            name = head[1]
        elif (line := LINE.match(row)) and name:
            found.setdefault(name, []).append((int(line[1], 16), line[2], line[3].split("#")[0].strip()))
    return found


def inner_loops(lines: list[Line]) -> Iterator[list[Line]]:
    """The bodies of the innermost loops that multiply and add."""
    at = {address: k for k, (address, _, _) in enumerate(lines)}
    spans = []
    for k, (address, what, operands) in enumerate(lines):
        target = re.match(r"([0-9a-f]+)", operands)
        if what.startswith("j") and target and int(target[1], 16) <= address and int(target[1], 16) in at:
            spans.append((at[int(target[1], 16)], k))
    for begin, end in spans:
        inside = any(begin <= b and e <= end and (b, e) != (begin, end) for b, e in spans)
        body = lines[begin : end + 1]
        if not inside and any(FMA.match(what) for _, what, _ in body):
            yield body


def in_memory(operands: str) -> bool:
    return "(" in operands


def faults(body: list[Line], rows: int, vectors: int) -> list[str]:
    """What is wrong with the k loop of a tile of rows x vectors."""
    sums = [x for x in body if FMA.match(x[1])]
    loads = [x for x in body if x[1].startswith("v") and in_memory(x[2]) and not x[1].startswith("vprefetch")]
    stores = [x for x in loads if "mov" in x[1] and in_memory(x[2].split(",%")[-1])]
    stores = [x for x in stores if not x[2].rstrip().endswith(("%xmm", "%ymm", "%zmm")) and x[2].rstrip().endswith(")")]
    terms, left = divmod(len(sums), rows * vectors)
    found = []
    if left or not terms:
        found.append(f"{len(sums)} multiply-adds, wanted a multiple of {rows * vectors}")
    if stores or any(STACK.search(x[2]) for x in loads):
        found.append("vectors go to or come from the stack: " + "; ".join(f"{x[1]} {x[2]}" for x in stores or loads))
    if len(loads) > terms * (rows + vectors):
        found.append(f"{len(loads)} memory operands for {terms} terms, wanted {rows + vectors} a term")
    return found


def instances(isa: str) -> tuple[str, list[tuple[int, int]]]:
    """C of kernels k0, k1, ..., and the vectors of a full and of a last panel of each."""
    target: Target = TARGETS[isa]
    text, widths = conv_unit.HEAD, []
    for spec in GEMMS:
        problem = test_gemm.Problem(spec, target=target)
        macros = dict(problem.choice.macros)
        text += test_gemm.source(problem, f"k{len(widths)}")
        widths.append((int(macros["GEMM_NV"]), int(macros["GEMM_NV_LAST"])))
    for problem in CONVS:
        spec: ConvSpec = problem.spec()
        for choice in (conv.direct(spec, target), *winograd.choices(spec, target)):
            text += conv_unit.source(f"k{len(widths)}", spec, choice)
            widths.append((int(dict(choice.macros)["CONV_NV"]),) * 2)
    return text, widths


@pytest.mark.parametrize("isa", sorted(TARGETS))
@pytest.mark.parametrize("compiler", harness.compilers())
def test_sums_stay_in_registers_and_nothing_is_loaded_twice(compiler: str, isa: str) -> None:
    text, widths = instances(isa)
    entries = "".join(harness.ENTRY.format(f"k{k}_run") for k in range(len(widths)))
    bad, seen = [], 0
    for name, lines in functions(harness.build(text + entries, compiler, isa)).items():
        tile = TILE.match(name)
        if tile is None or int(tile[3]) < 4:
            continue  # lower tiles wait for their multiply-adds, not for loads
        loops = list(inner_loops(lines))
        vectors = widths[int(tile[1])]["last" in tile[2]]
        seen += bool(loops)
        bad += [f"{name}: {fault}" for body in loops for fault in faults(body, int(tile[3]), vectors)]
    assert seen >= len(widths), "the tiles were not found in the built code"
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("compiler", harness.compilers())
def test_a_tile_with_too_many_sums_is_found(compiler: str) -> None:
    spec = gemm.GemmSpec(128, 64, 64)
    macros = dict(gemm.candidates(spec, AVX2)[0].macros) | {"GEMM_MR": 12, "GEMM_MR_LAST": 12, "GEMM_MB": 132}
    macros |= {"GEMM_NV": 2, "GEMM_NV_LAST": 2, "GEMM_ROWS": 1 << 12 | 1 << 11, "GEMM_ROWS_LAST": 1 << 12 | 1 << 11}
    problem = test_gemm.Problem(spec)
    text = test_gemm.source(problem, "k0")
    for key, value in macros.items():
        text = re.sub(rf"#define {re.escape(key)} .*", f"#define {key} {value}", text)
    built = functions(harness.build(conv_unit.HEAD + text + harness.ENTRY.format("k0_run"), compiler))
    tiles = [lines for name, lines in built.items() if name in ("k0_main_12", "k0_last_12")]
    assert tiles and all(faults(body, 12, 2) for lines in tiles for body in inner_loops(lines))
