from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neve.build.source import Source
from neve.build.toolchain import build
from neve.errors import ArtifactError, InputError, ModelError, NeveError
from neve.runtime.loader import Module, open_library
from neve.runtime.trees import _CLASSES, Struct, register_class
from tests.handmade import affine, copier, counter, dynamic

X = np.arange(8, dtype=np.float32)
T = torch.arange(8, dtype=torch.float32)


def opened(source: Source, threads: int = 1) -> Module:
    return open_library(build(source).path, source.signature, source.weights, threads)


def test_numpy_in_numpy_out_and_torch_in_torch_out() -> None:
    module = opened(affine())
    for _ in range(3):
        got = module(X)
        assert type(got) is np.ndarray
        np.testing.assert_array_equal(got, 2 * X + 1)
        made = module(T)
        assert type(made) is torch.Tensor
        assert torch.equal(made, 2 * T + 1)
        assert torch.equal(module.forward(x=T), made)


def test_outputs_are_fresh() -> None:
    module = opened(affine())
    first = module(T)
    module(T + 1)
    assert torch.equal(first, 2 * T + 1)


@pytest.mark.parametrize(
    "x",
    [
        torch.arange(16, dtype=torch.float32)[::2],
        torch.arange(8, dtype=torch.float32).reshape(2, 4).T.contiguous().T.reshape(2, 4).flatten(),
        torch.ones(1).expand(8),
        torch.nn.Parameter(torch.ones(8)),
        torch.ones(8, requires_grad=True) * 2,
        torch.conj(torch.arange(8) * (1 + 1j)).imag,
        np.arange(16, dtype=np.float32)[::2],
        np.arange(8, dtype=np.float32)[::-1],
        np.broadcast_to(np.float32(3), (8,)),
        np.frombuffer(b"\0" + np.arange(8, dtype=np.float32).tobytes(), np.uint8)[1:].view(np.float32),
    ],
)
def test_any_strides_are_taken(x: Any) -> None:
    module = opened(affine())
    wanted = 2 * (x.detach() if isinstance(x, torch.Tensor) else x) + 1
    for _ in range(2):
        np.testing.assert_array_equal(np.asarray(module(x)), np.asarray(wanted))


def test_a_changed_argument_does_not_slip_through_the_fast_path() -> None:
    module = opened(affine())
    module(T)
    assert torch.equal(module(torch.arange(16, dtype=torch.float32)[::2]), 4 * T + 1)
    for wrong in (T.double(), T[:7], T[None], T.to(torch.int32)):
        with pytest.raises(InputError):
            module(wrong)
    with pytest.raises(InputError):
        module(T, T)
    with pytest.raises(InputError):
        module()


def test_a_changed_array_does_not_slip_through_the_fast_path() -> None:
    module = opened(affine())
    first = module(X)
    assert module._forward._entry._array_plans
    np.testing.assert_array_equal(module(np.arange(16, dtype=np.float32)[::2]), 4 * X + 1)
    np.testing.assert_array_equal(module(np.asfortranarray(X)), first)
    np.testing.assert_array_equal(first, 2 * X + 1)  # results are the caller's: no later call writes there
    assert isinstance(module(T), torch.Tensor)
    for wrong in (X.astype(np.float64), X[:7], X[None], X.astype(">f4")):
        with pytest.raises(InputError):
            module(wrong)
    with pytest.raises(InputError):
        module(X, X)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(X.astype(np.float64)), r"forward: x: got float64 \[8\], wanted x: float32 \[8\]; .*astype"),
        (lambda m: m(T.double()), r"got float64 \[8\], wanted x: float32 \[8\]; .*\.to\(torch.float32\)"),
        (lambda m: m(X.astype(">f4")), "wanted x: float32"),
        (lambda m: m(X[None]), "its rank is 2, not 1: reshape it"),
        (lambda m: m(X[:7]), r"got float32 \[7\], wanted .*\[8\]; compile with dynamic_shapes"),
        (lambda m: m(T.to_sparse()), "to_dense"),
        (lambda m: m(T.to("meta")), r"it is on meta: move it with .cpu"),
        (lambda m: m([1.0] * 8), "got a list, wanted x: float32"),
        (lambda m: m(None), "x: got None, wanted"),
        (lambda m: m(), "misses the argument 'x'"),
        (lambda m: m(X, X), "takes 1 arguments, got 2"),
        (lambda m: m(X, y=X), "no argument 'y'"),
        (lambda m: m(X, x=X), "'x' twice"),
    ],
)
def test_wrong_arguments_are_explained(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(opened(affine()))


def test_symbolic_sizes_scalars_and_workspace() -> None:
    module = opened(dynamic())
    for rows in (1, 3, 0, 500, 3, 2):
        x = np.random.default_rng(rows).standard_normal((rows, 2 * rows + 1)).astype(np.float32)
        np.testing.assert_allclose(module(x, scale=2.5), 2.5 * x.sum(1, dtype=np.float64), rtol=1e-5, atol=1e-5)
        assert torch.is_tensor(module(torch.from_numpy(x), 2))


@pytest.mark.parametrize(
    ("rows", "columns", "scale", "message"),
    [
        (3, 8, 1.0, r"got float32 \[3, 8\], wanted .*\[s0, 2\*s0 \+ 1\], which is \[3, 7\]"),
        (1001, 2003, 1.0, r"size 0 of x \(s0\) is 1001, wanted 0 to 1000"),
        (4, 9, 1.0, r"must not leave 4 .*s0 = 4"),
        (3, 7, "1", "scale: got the str '1', wanted a Python float"),
        (3, 7, True, "wanted a Python float"),
    ],
)
def test_sizes_out_of_range(rows: int, columns: int, scale: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(dynamic())(np.ones((rows, columns), np.float32), scale)


def test_what_the_model_raises() -> None:
    with pytest.raises(ModelError, match="forward: the model raised: seven rows are refused"):
        opened(dynamic())(np.ones((7, 15), np.float32), 1.0)


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool"]
)
def test_every_dtype_crosses(dtype: str) -> None:
    module = opened(copier(dtype))
    x = torch.tensor([[0, 1, 2], [3, 4, 5]]).to(getattr(torch, dtype))
    for _ in range(2):
        got = module(x)
        assert got.dtype == x.dtype
        assert torch.equal(got, x)
    array = x.view(torch.int16).numpy().view(np.uint16) if dtype == "bfloat16" else x.numpy()
    np.testing.assert_array_equal(module(array), array)
    assert module(x[:0]).shape == (0, 3)
    assert module(array[:0]).shape == (0, 3)


def test_state_is_kept_reset_and_set() -> None:
    module = opened(counter())
    assert int(module.add(np.array(3))) == 8
    assert int(module.methods["add"](torch.tensor(1))) == 9
    assert int(module.state["total"]) == 9
    module.state["total"] = np.array(100)
    assert int(module.peek().total) == 100
    module.state["total"] = torch.tensor(50)
    assert dict(module.state) == {"total": 50}
    module.reset()
    assert int(module.peek().total) == 5
    for wrong in (np.zeros(2, np.int64), np.float32(0)):
        with pytest.raises(InputError, match="wanted int64"):
            module.state["total"] = wrong
    with pytest.raises(KeyError, match="there is total"):
        module.state["nothing"]


def test_objects_are_rebuilt_or_stand_ins() -> None:
    module = opened(counter())
    out = module.peek()
    assert isinstance(out, Struct)
    assert out["total"] is out.total is out[0]
    assert out.pair[1] is None
    assert repr(out).startswith("Up(total=")
    with pytest.raises(AttributeError, match="only total, pair"):
        out.nothing  # noqa: B018
    register_class("made.Up", tuple)
    try:
        assert module.peek() == ("total", "pair")
    finally:
        del _CLASSES["made.Up"]


def test_clones_are_independent() -> None:
    module = opened(counter())
    other = module.clone()
    module.add(np.array(1))
    assert (int(module.state["total"]), int(other.state["total"])) == (6, 5)
    assert np.shares_memory(module._context.weights, other._context.weights)


def test_modules_go_away_without_the_collector() -> None:
    gc.disable()
    try:
        module = opened(affine())
        module(T)
        module(T)
        gone = weakref.ref(module._context)
        del module
        assert gone() is None
    finally:
        gc.enable()


def test_what_does_not_belong_together_is_refused() -> None:
    source = affine()
    path = build(source).path
    with pytest.raises(ArtifactError, match="got 4 bytes of weights, wanted 8"):
        open_library(path, source.signature, source.weights[:4])
    with pytest.raises(ArtifactError, match="wants a context of 8 bytes"):
        open_library(path, source.signature | {"context_size": 16}, source.weights)
    with pytest.raises(ArtifactError, match="not those that the code"):
        open_library(path, source.signature | {"weights_size": 4}, source.weights[:4])
    with pytest.raises(ArtifactError, match="cannot be used"):
        open_library(path, counter().signature, counter().weights)
    with pytest.raises(ArtifactError, match="cannot be used"):
        open_library(Path(__file__), source.signature, source.weights)
    changed = copy.deepcopy(source.signature)
    changed["methods"]["forward"]["symbol"] = "affine_backward"
    with pytest.raises(ArtifactError, match="no function affine_backward"):
        open_library(path, changed, source.weights)


def test_weights_are_used_in_place_if_they_are_aligned() -> None:
    source = affine()
    room = np.zeros(200, np.uint8)
    start = -room.ctypes.data % 64
    for shift in (0, 4):
        weights = room[start + shift : start + shift + 8]
        weights[:] = source.weights
        module = open_library(build(source).path, source.signature, weights)
        np.testing.assert_array_equal(module(X), 2 * X + 1)
        assert np.shares_memory(module._context.weights, weights) == (shift == 0)


def test_a_module_cannot_be_pickled_and_says_how_to_save() -> None:
    for action in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match=r"module\.save"):
            action(opened(affine()))
    with pytest.raises(NeveError, match="without an artifact"):
        opened(affine()).save("x.neve")
    with pytest.raises(AttributeError, match="its methods are forward"):
        opened(affine()).backward  # noqa: B018


def test_calls_from_threads_wait_for_each_other() -> None:
    module = opened(counter())
    workers = [threading.Thread(target=lambda: [module.add(np.array(1)) for _ in range(300)]) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert int(module.state["total"]) == 5 + 4 * 300


def test_neither_torch_nor_sympy_is_imported() -> None:
    code = """
import sys, numpy as np
from neve.build.toolchain import build
from neve.runtime.loader import open_library
import neve.artifact, neve.errors
from tests.handmade import affine
s = affine()
print(open_library(build(s).path, s.signature, s.weights)(np.ones(8, np.float32))[0])
assert not {"torch", "sympy"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
    assert done.stdout == "3.0\n", done.stderr
