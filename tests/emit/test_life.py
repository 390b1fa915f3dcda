"""What the C refuses before it touches memory: weights that are others, and pointers that are not where they may be."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from neve.build.source import Source
from neve.build.target import native
from neve.build.toolchain import build
from neve.emit.program import emit
from neve.errors import ArtifactError
from neve.ir.graph import ConstTensor, GraphBuilder, Method, Program
from neve.ir.types import DType, TensorType
from neve.ops.base import REGISTRY
from neve.ops.source import Constant
from neve.runtime.loader import open_library
from neve.runtime.native import address, aligned
from tests.emit.programs import FAST

OK, BAD_SIZE, BAD_POINTER, BAD_WEIGHTS, NOT_READY = range(5)


def source(seed: int) -> Source:
    """y = x + constants of that seed, and the same of float16."""
    methods = {}
    for name, dtype in (("forward", DType.float32), ("half", DType.float16)):
        b, data = GraphBuilder(), np.random.default_rng(seed).standard_normal(64).astype(dtype.numpy)
        x = b.input("x", TensorType((64,), dtype))
        methods[name] = Method(b.build([b(REGISTRY["add"](), x, b(Constant(ConstTensor("c", data, dtype))))]))
    return emit(Program(methods), native(), "life").source


def test_weights_of_another_model_are_refused() -> None:
    one, two = source(0), source(1)
    assert one.weights.size == two.weights.size
    path = build(one, extra=FAST).path
    x = np.zeros(64, np.float32)
    (y,) = open_library(path, one.signature, source(0).weights)(x)
    np.testing.assert_array_equal(y.view(np.uint8), one.weights[64:320])
    with pytest.raises(ArtifactError, match="not those that the code was generated for"):
        open_library(path, one.signature, two.weights)


def test_pointers_that_are_misaligned_are_refused() -> None:
    made = source(0)
    library = ctypes.CDLL(str(build(made, extra=FAST).path))
    size = library.life_context_size()
    context, weights = aligned(size + 64, ""), aligned(made.weights.size + 64, "")
    x, y = aligned(256 + 64, ""), aligned(256 + 64, "")

    def init(context_at: int, weights_at: int | None, nbytes: int = made.weights.size) -> int:
        if weights_at is not None:
            ctypes.memmove(weights_at, address(made.weights), made.weights.size)
        code: int = library.life_init(ctypes.c_void_p(context_at), ctypes.c_void_p(weights_at), ctypes.c_size_t(nbytes))
        return code

    at, good = address(context), address(weights)
    context[:] = 0
    assert library.life_forward(ctypes.c_void_p(at), ctypes.byref((ctypes.c_int64 * 4)()), None) == NOT_READY
    assert [init(at + 1, good), init(at + 32, good), init(at, good + 8), init(at, None)] == [BAD_POINTER] * 4
    assert init(at, good, made.weights.size - 64) == BAD_WEIGHTS
    assert init(at, good) == OK

    def call(function: Callable[..., int], x_at: int, y_at: int, context_at: int = at, shift: int = 0) -> int:
        block = (ctypes.c_int64 * 5)()
        io = ctypes.addressof(block) + shift
        (ctypes.c_int64 * 4).from_address(io)[:] = x_at, y_at, 0, 0
        return function(ctypes.c_void_p(context_at), ctypes.c_void_p(io), None)

    a, b = address(x), address(y)
    for function, step in ((library.life_forward, 4), (library.life_half, 2)):
        assert call(function, a, b + 3 * step) == call(function, a + step, b) == OK
        for wrong in (step // 2, step + 1):
            assert call(function, a + wrong, b) == call(function, a, b + wrong) == BAD_POINTER
        assert call(function, 0, b) == call(function, a, b, at + 8) == call(function, a, b, at, 4) == BAD_POINTER
        assert call(function, a, b, 0) == NOT_READY


def test_the_loader_copies_what_is_misaligned() -> None:
    made = source(0)
    module = open_library(build(made, extra=FAST).path, made.signature, made.weights)
    memory = np.zeros(64 * 4 + 1, np.uint8)
    shifted: Any = memory[1:].view(np.float32)
    shifted[:] = np.arange(64)
    (want,) = module(np.arange(64, dtype=np.float32))
    np.testing.assert_array_equal(module(shifted)[0], want)
    tensor = torch.frombuffer(memory.data, dtype=torch.float32, offset=1)
    for _ in range(3):  # on the slow path, then on the fast one
        np.testing.assert_array_equal(module(tensor)[0].numpy(), want)
        np.testing.assert_array_equal(module(torch.arange(64.0))[0].numpy(), want)
