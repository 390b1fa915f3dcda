"""Compiles many small graphs as the methods of one library, and runs them: what the tests of emission share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neve.build.target import native
from neve.build.toolchain import build, find_compiler
from neve.emit.program import emit
from neve.ir.graph import ConstTensor, Graph, GraphBuilder, Method, Program
from neve.ir.types import DType, TensorType, to_bytes
from neve.ops.base import Sample
from neve.ops.source import Constant
from neve.runtime.loader import Module, open_library

NUMPY_DTYPES = {str(d.numpy): d for d in DType if d is not DType.bfloat16}
FAST = ("-O1",)
"""Tests of correctness build with little optimization: vectors are explicit in the C."""


@dataclass(frozen=True)
class Problem:
    """One graph with inputs and the outputs wanted of it."""

    name: str
    graph: Graph
    inputs: tuple[np.ndarray, ...]


def types_of(sample: Sample) -> tuple[TensorType, ...]:
    """The input types of a sample."""
    return sample.types or tuple(TensorType(x.shape, NUMPY_DTYPES[str(x.dtype)]) for x in sample.inputs)


def as_graph(sample: Sample, constants: Sequence[int] = ()) -> Graph:
    """The sample's op on graph inputs; those at the positions `constants` are constants instead."""
    b = GraphBuilder()
    values = []
    for k, (x, t) in enumerate(zip(sample.inputs, types_of(sample), strict=True)):
        values.append(b(Constant(ConstTensor(f"c{k}", x, t.dtype))) if k in constants else b.input(f"x{k}", t))
    return b.build(b.emit(sample.op, *values))


def build_methods(
    problems: Mapping[str, Graph], extra: Sequence[str] = FAST, compiler: str | None = None, threads: int = 1
) -> Module:
    """A module with a method for each graph."""
    emitted = emit(Program({k: Method(g) for k, g in problems.items()}), native(), "samples", max(threads, 1))
    library = build(emitted.source, compiler=find_compiler(native(), compiler), extra=extra)
    return open_library(library.path, emitted.source.signature, emitted.source.weights, threads)


def call(module: Module, method: str, graph: Graph, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The outputs in the interpreter's numpy form."""
    given = [to_bytes(x, v.dtype) for x, v in zip(inputs, graph.inputs, strict=True)]
    outs = module.methods[method](*given)
    return tuple(from_bytes(y, v.dtype) for y, v in zip(outs, graph.outputs, strict=True))


def from_bytes(array: Any, dtype: DType) -> np.ndarray:
    """Inverse of `to_bytes`; a method without inputs gives torch tensors where torch is imported."""
    if not isinstance(array, np.ndarray):
        import torch

        array = (array.view(torch.int16) if dtype is DType.bfloat16 else array).numpy()
    if dtype is DType.bfloat16:
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array
