"""Attributes that are read at run time: named, read, set and reset, against the model with the same settings."""

from __future__ import annotations

import copy
import ctypes
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import neve
from neve.capture.export import capture
from neve.errors import CaptureError, InputError, ModelError
from tests.interpreted import Interpreted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Sub(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.steps, self.flag = 1.5, 2, True
        self.pair: tuple[float, list[float]] = (1.0, [2.0, 3.0])
        self.named = {"a": 0.5, "b": 2.0}
        self.rows = [torch.ones(3), torch.arange(3.0)]
        self.t = torch.full((3,), 0.25)
        self.linear = nn.Linear(3, 3)
        self.register_buffer("shift", torch.randn(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x) * self.scale + self.steps * self.shift + self.t * self.pair[0]
        return y + self.pair[1][1] * x * self.named["b"] + self.rows[1]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sub = Sub()
        self.again = self.sub
        self.offset = 3
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        return self.sub(x) + self.offset + self.calls


X = torch.randn(2, 3)


def archive(model: nn.Module, folder: Path) -> str:
    path = folder / "model.pt"
    torch.jit.script(copy.deepcopy(model).eval()).save(str(path))
    return str(path)


@pytest.fixture(params=["eager", "scripted", "archive"])
def given(request: Any, tmp_path: Path) -> tuple[nn.Module, Any]:
    """A model, and what to capture of it."""
    torch.manual_seed(0)
    model = Model().eval()
    if request.param == "eager":
        return model, model
    return model, torch.jit.script(copy.deepcopy(model)) if request.param == "scripted" else archive(model, tmp_path)


SETTINGS: dict[str, Any] = {
    "sub.scale": -0.75,
    "sub.steps": 7,
    "sub.pair": (0.5, [4.0, -1.0]),
    "sub.named": {"a": 1.0, "b": 0.125},
    "sub.rows": [torch.zeros(3), torch.full((3,), 9.0)],
    "sub.t": torch.randn(3),
    "sub.shift": torch.randn(3),
    "sub.linear.weight": torch.randn(3, 3),
    "offset": -4,
}


def put(model: Any, path: str, value: Any) -> None:
    *folders, last = path.split(".")
    for part in folders:
        model = getattr(model, part)
    with torch.no_grad():
        setattr(model, last, nn.Parameter(value) if isinstance(getattr(model, last), nn.Parameter) else value)


@pytest.mark.parametrize("name", SETTINGS)
def test_one_is_read_at_each_call_and_the_others_are_compiled_in(given: tuple[nn.Module, Any], name: str) -> None:
    model, source = given
    program = capture(source, (X,), preserved_attrs=[name])
    assert [k for k in program.attributes if k != "calls"] == [name]
    module, eager = Interpreted(program), copy.deepcopy(model)
    torch.testing.assert_close(module(X), eager(X))
    module.attributes[name] = SETTINGS[name]
    put(eager, name, SETTINGS[name])
    for _ in range(2):
        torch.testing.assert_close(module(X), eager(X))
    torch.testing.assert_close(module.attributes[name], SETTINGS[name])
    module.reset()
    torch.testing.assert_close(module(X), copy.deepcopy(model)(X))


def test_a_submodule_is_kept_whole_with_what_no_method_uses(given: tuple[nn.Module, Any]) -> None:
    model, source = given
    program = capture(source, (X,), preserved_attrs=["sub"])
    module, eager = Interpreted(program), copy.deepcopy(model)
    names = {"scale", "steps", "flag", "pair", "named", "rows", "t", "shift", "linear.weight", "linear.bias"}
    assert set(module.attributes) == {f"sub.{n}" for n in names} | {"calls"}
    assert module.attributes["sub.flag"] is True
    for name, value in SETTINGS.items():
        if name.startswith("sub."):
            module.attributes[name] = value
            put(eager, name, value)
    torch.testing.assert_close(module(X), eager(X))


def test_the_model_stays_as_it_was() -> None:
    model = Model().eval()
    before = [(m, type(m), dict(m.__dict__), dict(m._buffers)) for m in model.modules()]
    capture(model, (X,), preserved_attrs=["sub", "offset"])
    for m, cls, attributes, buffers in before:
        assert type(m) is cls
        assert m.__dict__ == attributes
        assert m._buffers == buffers


def test_all_unknown_names_are_told_at_once(given: tuple[nn.Module, Any]) -> None:
    names = ["", "sub.nope", "nothing", "sub.linear.weight.x", "sub.scale"]
    with pytest.raises(CaptureError) as caught:
        capture(given[1], (X,), preserved_attrs=names)
    assert caught.value.reasons == [f"Unknown name: {n}" for n in names[:4]]
    with pytest.raises(CaptureError, match="forward is a method"):
        capture(given[1], (X,), preserved_attrs=["forward"])


class Sizes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n, self.kind, self.none = 2, "a", None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(self.n, -1)


@pytest.mark.parametrize("script", [False, True])
def test_what_cannot_vary_is_refused(script: bool) -> None:
    model = torch.jit.script(Sizes()) if script else Sizes()
    for name in ("kind", "none")[: 1 if script else 2]:
        with pytest.raises(CaptureError, match=f"{name} is .*, which is compiled in"):
            capture(model, (X,), preserved_attrs=[name])
    with pytest.raises(CaptureError, match=r"a number that is preserved \(n\) is known at run time only"):
        capture(model, (X,), preserved_attrs=["n"])


class Writes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n, self.entries = 2, [1.0, 2.0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.n += 1
        self.entries[0] += 0.5
        return x * self.n + self.entries[0] * self.entries[1]


@pytest.mark.parametrize("script", [False, True])
def test_a_preserved_number_that_a_method_writes_is_state(script: bool) -> None:
    model = torch.jit.script(Writes()) if script else Writes()
    module = Interpreted(capture(model, (X,), preserved_attrs=["n", "entries"]))
    eager = Writes()
    for set_to in (None, (10, [0.0, 3.0])):
        if set_to:
            eager.n, eager.entries = set_to[0], list(set_to[1])
            module.attributes["n"], module.attributes["entries"] = set_to
        for _ in range(3):
            torch.testing.assert_close(module(X), eager(X))
        assert (module.attributes["n"], module.attributes["entries"]) == (eager.n, eager.entries)


@pytest.mark.parametrize("name", ["n", "entries"])
def test_a_write_to_a_preserved_attribute_is_never_lost(name: str) -> None:
    class Unscriptable(Writes):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            f = super().forward
            return f(x)

    with pytest.raises(CaptureError, match=f"forward (assigns the attribute {name}|changes the list {name})"):
        capture(Unscriptable(), (X,), preserved_attrs=[name])


def test_an_exported_program_has_its_tensors() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    exported = torch.export.export(model, (X,))
    module = Interpreted(capture(exported, preserved_attrs=["0"]))
    module.attributes["0.weight"] = torch.eye(3)
    module.attributes["0.bias"] = torch.zeros(3)
    torch.testing.assert_close(module(X), X.relu())
    with pytest.raises(CaptureError, match="Unknown name: 1"):
        capture(exported, preserved_attrs=["1"])


@pytest.fixture(scope="module")
def kept() -> Interpreted:
    return Interpreted(capture(Model().eval(), (X,), preserved_attrs=["sub"]))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("sub.scale", "1.0"), ("sub.scale", None), ("sub.steps", 2.5), ("sub.steps", True), ("sub.steps", 2**70),
        ("sub.flag", 1), ("sub.pair", (1.0, [2.0])), ("sub.pair", [1.0, [2.0, 3.0]][:1]), ("sub.named", {"a": 1.0}),
        ("sub.t", torch.zeros(4)), ("sub.t", torch.zeros(3, dtype=torch.float64)), ("sub.pair", (1.0, [2.0, "3"])),
    ],
)  # fmt: skip
def test_a_value_of_another_type_or_shape_is_refused_and_changes_nothing(
    kept: Interpreted, name: str, wrong: Any
) -> None:
    module = kept
    before = {k: v.copy() for k, v in module.values.arrays.items()}
    with pytest.raises(InputError):
        module.attributes[name] = wrong
    assert all(np.array_equal(v, before[k]) for k, v in module.values.arrays.items())


def test_compiled_module_file_and_c(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Model().eval()
    made = neve.compile(model, (X,), preserved_attrs=["sub", "offset"], name="kept")
    made.save(tmp_path / "kept.neve")
    module, eager = neve.load(tmp_path / "kept.neve"), copy.deepcopy(model)
    for path, value in SETTINGS.items():
        put(module, path, value)
        put(eager, path, value)
    module.sub.linear.bias[1] = 5  # tensors are the state itself
    with torch.no_grad():
        eager.sub.linear.bias[1] = 5
    torch.testing.assert_close(module(X), eager(X))
    torch.testing.assert_close(module.clone()(X), copy.deepcopy(model)(X))
    assert (module.sub.scale, module.offset) == (-0.75, -4)
    for wrong in ("nothing", "sub.nothing"):
        with pytest.raises(AttributeError, match="nothing"):
            eval(f"module.{wrong}", {"module": module})
    with pytest.raises(AttributeError, match="submodule"):
        module.sub = 3
    with pytest.raises(InputError, match="scale"):
        module.sub.scale = "a"
    module.reset()
    torch.testing.assert_close(module(X), copy.deepcopy(model)(X))
    _c_finds_every_state(module)


def _c_finds_every_state(module: neve.Module) -> None:
    """The header names each in the order of the signature, and NAME_state gives its place."""
    context, header = module._context, module.artifact.sources["kept.h"]
    find = ctypes.CDLL(context.library.path).kept_state
    find.restype, find.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_int]
    for i, state in enumerate(context.signature.state.values()):
        line = next(x for x in header.splitlines() if f" = {i}, " in x)
        assert f"kept_STATE_{state.name.replace('.', '_')} = {i}," in line
        assert f"{state.name}: {state.dtype}[{', '.join(map(str, state.shape))}]" in line
        assert find(context.at, i) == context.at + state.offset
    assert find(context.at, len(context.signature.state)) is None
    assert find(None, 0) is None
    assert find(context.at, -1) is None


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.conv, self.gru = nn.Linear(8, 8), nn.Conv2d(3, 8, 3), nn.GRU(8, 8, batch_first=True)
        self.norm, self.embed = nn.LayerNorm(8), nn.Embedding(5, 8)

    def forward(self, x: torch.Tensor, y: torch.Tensor, i: torch.Tensor) -> tuple[torch.Tensor, ...]:
        z = torch.relu(self.conv(y)).mean(3).transpose(1, 2)
        return self.norm(self.linear(x)) + self.embed(i), self.gru(z)[0], self.linear.weight, self.embed.weight[1]


def test_weights_that_no_method_writes_are_used_where_they_lie() -> None:
    torch.manual_seed(0)
    model = Layers().eval()
    args = (torch.randn(4, 8), torch.randn(2, 3, 9, 9), torch.tensor([1, 2, 3, 0]))
    module = neve.compile(model, args, preserved_attrs=["linear", "conv", "gru", "norm", "embed"])
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.add_(torch.rand_like(p))
            module.attributes[name] = p
        for _ in range(2):
            got = module(*args)
            torch.testing.assert_close(got, model(*args), rtol=1e-5, atol=1e-5)
            got[2].zero_()  # a result is the caller's, never the state
    assert not any(k["label"] == "read_state" for k in module.artifact.extra["calls"]["forward"])


def test_a_str_for_the_names_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="list of names"):
        neve.compile(Model(), (X,), preserved_attrs="sub")  # type: ignore[arg-type]


class Numbers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.n, self.f, self.b = 4, -2.5, True
        self.several, self.named = (1, 2.5, False), {"a": 1, "b": [0.5]}

    def forward(self, x: torch.Tensor) -> Any:
        n, f = self.n, self.f
        sums = (n + 1, n - f, 2 * n, n * f, -n, -f, abs(f), n**2, n / 4, n + x.shape[0])
        divided = (n // 3, n % 3, -n // 3, -n % 3, f // 2, f % 2, 10 // n, 10 / f)
        tests = n > 3, f == n, n <= f, n != 4
        whole = round(f), math.floor(f), math.ceil(f)
        return x * n, n, f, self.b, self.several, self.named, sums, divided, tests, whole

    @torch.jit.export
    def number(self, x: torch.Tensor) -> int:
        return self.n


@pytest.mark.parametrize("script", [False, True])
def test_numbers_are_returned_with_their_types(script: bool) -> None:
    model = Numbers().eval()
    if script:
        model.several = (1, 2.5, False)
        model.named = {"a": 1, "b": 2}
    source: Any = torch.jit.script(model) if script else model
    names = ["n", "f", "b", "several", "named"]
    module = Interpreted(capture(source, (X,), methods={"number": (X,)}, preserved_attrs=names))
    for n, f, b in ((4, -2.5, True), (7, 3.0, False), (-5, 0.75, True)):
        for changed in (model, source):
            changed.n, changed.f, changed.b = n, f, b
        module.attributes["n"], module.attributes["f"], module.attributes["b"] = n, f, b
        want, got = source(X), module(X)
        torch.testing.assert_close(got[0], want[0])
        assert repr(got[1:]) == repr(want[1:])
        assert module.call("number", X) == n
    module.attributes["n"] = 0
    with pytest.raises(ModelError, match="division by zero"):
        module(X)
