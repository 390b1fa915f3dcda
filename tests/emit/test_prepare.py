"""NAME_prepare against the weights file: the same bytes, for each packing that a kernel may ask for."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

import neve.runtime
from neve.build.source import Source
from neve.build.target import AVX2, AVX512, X86_64, native
from neve.build.toolchain import build, find_compiler
from neve.emit.headers import BASE
from neve.emit.prepare import Preparation
from neve.emit.program import MISPLACED, emit
from neve.emit.unit import Folded, Unit
from neve.ir.graph import ConstTensor, Method, Program
from neve.ir.loops import Tensor
from neve.ir.types import DType, TensorType, round_to
from neve.kernels.conv.direct import candidates as convolutions
from neve.kernels.gemm.tiles import GemmSpec
from neve.kernels.gemm.tiles import candidates as products
from neve.kernels.kernel import Pack
from neve.kernels.recurrent.panels import GATES, RecurrentSpec
from neve.kernels.recurrent.panels import candidates as cells
from neve.ops.base import REGISTRY
from neve.plan.schedule import Schedule
from tests.emit.programs import FAST, as_graph
from tests.emit.test_samples import WEIGHTS
from tests.kernels import harness
from tests.kernels.conv_problems import DEPTHWISE, DIRECT, PLANAR, WINOGRAD

INCLUDED = (Path(neve.runtime.__file__).parent / "neve.h", *BASE)
HEAD = "\n".join(f'#include "{h}"' for h in INCLUDED) + f"\n{MISPLACED}\n#define NEVE_KERNEL static\n"
OK, BAD_WEIGHTS = 0, 3


def packings() -> Iterator[tuple[Pack, tuple[int, ...], DType]]:
    """Every candidate's packing of weights on edge sizes, for vectors of 4, 8 and 16."""
    for target in (X86_64, AVX2, AVX512):
        for problem in (*DEPTHWISE, *DIRECT, *PLANAR, *WINOGRAD):
            spec = problem.spec()
            if spec.channels * spec.out_channels <= 64 * 64 and spec.kernel[0] <= 3:
                shape = (spec.out_channels, spec.channels // spec.groups, *spec.kernel)
                yield from ((c.pack, shape, DType.float32) for c in convolutions(spec, target) if c.pack)
        for n, k, m in ((1, 3, 2), (7, 5, 1), (16, 4, 5), (40, 9, 23), (72, 19, 23), (100, 33, 1)):
            for dtype in (DType.float32, DType.float16, DType.bfloat16):
                spec_nk = GemmSpec(m, n, k, b_type=dtype)
                spec_kn = GemmSpec(m, n, k, batch=2, a_batch=m * k, b_layout="kn", b_batched=True, b_type=dtype)
                yield from ((c.pack, (n, k), dtype) for c in products(spec_nk, target) if c.pack)
                yield from ((c.pack, (2, k, n), dtype) for c in products(spec_kn, target) if c.pack)
            yield from ((c.pack, (n, k, 1, 1), DType.float32) for c in products(GemmSpec(m, n, k), target) if c.pack)
        for kind, h in ((kind, h) for kind in GATES for h in (1, 16, 33)):
            spec_cell = RecurrentSpec(kind, 2, 1, h, h, h)
            yield from ((c.pack, (GATES[kind] * h, h), DType.float32) for c in cells(spec_cell, target) if c.pack)


EACH = 2
"""Packings of a kernel that are compiled."""


def some(found: Iterable[tuple[Pack, tuple[int, ...], DType]]) -> Iterator[tuple[Pack, tuple[int, ...], DType]]:
    """As many of each kernel, those of all targets, sizes and types in turn."""
    kinds: dict[object, list[tuple[Pack, tuple[int, ...], DType]]] = {}
    for x in found:
        kinds.setdefault(x[0].loops, []).append(x)
    for each in kinds.values():
        yield from each[:: -(-len(each) // EACH)]


def aligned(array: np.ndarray) -> np.ndarray:
    room = np.zeros(array.nbytes + 64, np.uint8)
    out = room[-room.ctypes.data % 64 :][: array.nbytes]
    out[:] = array
    return out


def prepared(library: Path, name: str, raw: np.ndarray, size: int) -> np.ndarray:
    """What the function writes over memory that was something else."""
    prepare = getattr(ctypes.CDLL(str(library)), f"{name}_prepare")
    prepare.argtypes = [ctypes.c_void_p, ctypes.c_size_t] * 2
    given, out = aligned(raw), aligned(np.full(size, 0xA5, np.uint8))
    given[0] ^= 1
    assert prepare(given.ctypes.data, given.size, out.ctypes.data, out.size) == BAD_WEIGHTS
    assert (out == 0xA5).all()
    given[0] ^= 1
    assert prepare(given.ctypes.data, given.size - 1, out.ctypes.data, out.size) == BAD_WEIGHTS
    assert prepare(given.ctypes.data, given.size, out.ctypes.data, out.size) == OK
    return out


@pytest.mark.parametrize("compiler", harness.compilers())
def test_every_packing(compiler: str) -> None:
    unit, rng = Unit(native(), []), np.random.default_rng(0)
    for pack, shape, dtype in some(dict.fromkeys(packings())):
        values = round_to(rng.standard_normal(shape), dtype).astype(np.float32)
        weight = Tensor(TensorType(shape, dtype), "w")
        plan = Schedule([], {}, {}, (), (), {weight: ConstTensor("w", values, dtype)}, {}, {})
        unit.fold(pack.array(values, dtype), Folded(plan, weight, pack))
    made = Preparation(unit, {})
    kernels = [t.replace("@", f"k{k}") for t, k in unit.kernels.items()]
    function = re.sub("@K([0-9]+)@", r"k\1", "\n".join(made.function("m")))
    text = "\n".join([HEAD, *kernels, f"NEVE_API {function.partition(chr(10))[0]};", function])
    got = prepared(harness.build(text, compiler, native().isa), "m", made.raw.blob(), unit.weights.size)
    assert np.array_equal(got, unit.weights.blob())


def program(rank: int) -> tuple[Source, int]:
    """Constants of every op that kernels take, as models have them: views, halves, each layer's candidate of a rank."""
    samples = {
        f"{name}_{k}": (s, at) for name, at in WEIGHTS.items() for k, s in enumerate([*REGISTRY[name].samples()][::3])
    }
    methods = {key: Method(as_graph(s, at)) for key, (s, at) in samples.items()}
    emitted = emit(Program(methods), native(), "m", 1, pick=lambda layer, n: rank % n, prepare=True)
    return emitted.source, len(methods)


def test_weights_of_programs() -> None:
    source, count = program(1)
    assert count > 15 and source.raw is not None
    library = build(source, compiler=find_compiler(native()), extra=FAST)
    assert np.array_equal(prepared(library.path, "m", source.raw, source.weights.size), source.weights)
