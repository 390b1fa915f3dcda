"""What kernels ask of memory before their sums: rows that their stores read, and those they write that are far away."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from neve.build.target import AVX2
from neve.emit.program import emit
from neve.ir.graph import Method, Program, Value
from tests.passes.support import Build


def linear(b: Build, rows: int, columns: int = 64) -> Value:
    return b.op("linear", b.x(rows, 32), b.rand(columns, 32), b.rand(columns))


CASES: dict[str, tuple[Callable[[Build], Value], int]] = {
    "a result that stays in L2": (lambda b: linear(b, 16), 0),
    "a residual": (lambda b: b.op("add", linear(b, 16), b.x(16, 64)), 1),
    "two of them": (lambda b: b.op("add", b.op("mul", linear(b, 16), b.x(16, 64)), b.x(16, 64)), 2),
    "one repeated for every row": (lambda b: b.op("add", linear(b, 16), b.x(64)), 0),
    "one that lies across": (
        lambda b: b.op("add", linear(b, 16), b.op("permute", b.x(64, 16), dims=(1, 0))),
        0,
    ),
    "a large result": (lambda b: linear(b, 4096), 1),
    "a large result after a long epilogue": (lambda b: b.op("gelu", linear(b, 4096)), 0),
}


@pytest.mark.parametrize("name", CASES)
def test_rows_asked_for(name: str) -> None:
    make, wanted = CASES[name]
    b = Build()
    graph = b.build([make(b)])
    source = emit(Program({"forward": Method(graph)}), AVX2, "stores", 1).source
    text = source.files["stores.c"]
    assert text.count("vprefetch") == wanted
    assert text.count("vprefetch_write(") == (wanted if name == "a large result" else 0)
    assert text.count("#define K_FETCH") == (wanted > 0)
