"""What calls leave in attributes, containers and globals: caches and scratch are dropped, state is refused or kept."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import einops
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils import _pytree as pytree

import neve
from neve.capture.diagnose import NotTraceable
from neve.capture.export import capture, export_methods
from neve.capture.fingerprints import Fingerprints
from neve.capture.repeated import one_of_many
from neve.ir.interpret import interpret

MASKS: dict[int, Tensor] = {}
SAVED: dict[str, Tensor] = {}
LOG: list[int] = []


@functools.lru_cache
def positions(n: int) -> Tensor:
    return torch.arange(n) * 0.5


class Model(nn.Module):
    """A function of the module and its input, and what the module holds."""

    kind: Any = None

    def __init__(self, f: Callable[..., Any], **held: Any) -> None:
        super().__init__()
        self.f, self.layer = f, nn.Linear(4, 4)
        self.register_buffer("late", None)
        self.register_buffer("state", torch.zeros(4))
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Any:
        return self.f(self, x)


def anchors(m: Any, x: Tensor) -> Any:
    if m.shape != x.shape:
        m.anchors, m.strides = (t.float() for t in (torch.arange(x.shape[0]), torch.full((x.shape[0],), 2)))
        m.shape = x.shape
    return x + m.anchors[:, None] * m.strides[:, None]


def lazy_attribute(m: Any, x: Tensor) -> Any:
    if not hasattr(m, "mask"):
        m.mask = torch.ones(4, 4).tril()
    return x @ m.mask


def lazy_buffer(m: Any, x: Tensor) -> Any:
    if m.late is None:
        m.late = torch.ones(4).cumsum(0)
        m.register_buffer("more", m.late * 2, persistent=False)
    return x * m.late + m.more


def by_size(m: Any, x: Tensor) -> Any:
    for table in (m.tables, MASKS):
        if x.shape[0] not in table:
            table[x.shape[0]] = torch.eye(x.shape[0])
    return m.tables[x.shape[0]] @ x @ torch.eye(4) + MASKS[x.shape[0]].sum()


def cached_function(m: Any, x: Tensor) -> Any:
    return x + positions(4) + positions(x.shape[0])[:, None]


def class_attribute(m: Any, x: Tensor) -> Any:
    type(m).kind = "relu"
    return getattr(torch, Model.kind)(x)


def saved_by_hooks(m: Any, x: Tensor) -> Any:
    handle = m.layer.register_forward_hook(lambda module, args, result: SAVED.update(a=result))
    y = m.layer(x)
    handle.remove()
    return y * SAVED["a"]


def collected(m: Any, x: Tensor) -> Any:
    m.tables.clear()
    m.features = []
    for k in range(3):
        x = m.layer(x)
        m.features.append(x)
        setattr(m, f"feature_{k}", x)
        m.tables[k] = {"mean": x.mean(), "rows": x.shape[0]}
    del m.feature_0
    return torch.stack(m.features).sum(0) + m.feature_1 * m.tables[2]["mean"] * m.tables[2]["rows"]


def rearranged(m: Any, x: Tensor) -> Any:
    y = einops.rearrange(m.layer(x), "b (h d) -> h b d", h=2)
    return einops.reduce(y, "h b d -> b d", "max"), einops.repeat(x, "b d -> (k b) d", k=2)


def beside_state(m: Any, x: Tensor) -> Any:
    m.state = m.state * 0.5 + x.mean(0)
    m.state[0] += 1
    m.scratch = m.state * 2
    return m.scratch + lazy_attribute(m, x)


def drawn(m: Any, x: Tensor) -> Any:
    m.noise = torch.rand(4)
    return x + m.noise * torch.rand(4)


CACHES = [
    *(anchors, lazy_attribute, lazy_buffer, by_size, cached_function, class_attribute, saved_by_hooks, collected),
    *(rearranged, beside_state, drawn),
]


def growing(m: Any, x: Tensor) -> Any:
    LOG.append(1)
    return x * (2 if len(LOG) > 3 else 1)


def delayed(m: Any, x: Tensor) -> Any:
    y = x + m.first
    m.first, m.second = m.second, x
    return y


def kept_input(m: Any, x: Tensor) -> Any:
    if not hasattr(m, "kept"):
        m.kept = x * 1
    return x - m.kept


def kept_draw(m: Any, x: Tensor) -> Any:
    if not hasattr(m, "kept"):
        m.kept = torch.rand(4)
    return x + m.kept


def kept_state(m: Any, x: Tensor) -> Any:
    m.state.add_(x[0])
    if not hasattr(m, "kept"):
        m.kept = m.state * 2
    return m.kept + m.state


def written_once(m: Any, x: Tensor) -> Any:
    if not m.ready:
        m.first.add_(1)
        m.ready = True
    return x + m.first


def alias_of_state(m: Any, x: Tensor) -> Any:
    if hasattr(m, "alias"):
        m.alias.add_(1)
    m.state = m.state + x[0]
    m.alias = m.state
    return m.state * 1


def alias_of_input(m: Any, x: Tensor) -> Any:
    if hasattr(m, "alias"):
        m.alias.add_(1)
    m.alias = x
    return x * 2


STATE = [growing, delayed, kept_input, kept_draw, kept_state, written_once, alias_of_state, alias_of_input]


def made(f: Callable[..., Any]) -> Model:
    torch.manual_seed(0)
    held = {"shape": None, "tables": {}, "top": 0, "ready": False, "first": torch.zeros(1), "second": torch.zeros(1)}
    return Model(f, **held).eval()


def contents(model: nn.Module) -> str:
    return repr([m.__dict__ for m in model.modules()] + [MASKS, SAVED, LOG, Model.kind])


def agrees(program: Any, model: nn.Module, calls: list[Tensor]) -> None:
    eager, state = copy.deepcopy(model), {}
    for x in calls:
        got = interpret(program.methods["forward"].graph, [x.numpy()], state)
        with torch.no_grad():
            for w, g in zip(pytree.tree_leaves(eager(x)), got, strict=True):
                np.testing.assert_allclose(g, w.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("f", CACHES, ids=lambda f: f.__name__)
def test_dropped(f: Callable[..., Any]) -> None:
    model = made(f)
    before = contents(model)
    program = capture(model, (torch.randn(2, 4),))
    assert contents(model) == before
    assert type(positions(4)) is Tensor
    if f is not drawn:
        agrees(program, model, [torch.randn(2, 4) for _ in range(3)])
    assert len(program.state) == {beside_state: 1}.get(f, 0)
    Model.kind = None
    MASKS.clear()
    SAVED.clear()


def test_dropped_where_a_module_has_two_names() -> None:
    """torch.export gives a model with a shared module as proxies, whose tables of submodules are made anew."""
    model = made(lazy_attribute)
    model.pair = nn.ModuleList([model.layer, model.layer])
    program = capture(model, (torch.randn(2, 4),))
    agrees(program, model, [torch.randn(2, 4)])
    assert not program.state


@pytest.mark.parametrize("f", STATE, ids=lambda f: f.__name__)
def test_never_dropped(f: Callable[..., Any]) -> None:
    model = made(f)
    before = contents(model)
    with pytest.raises(NotTraceable, match="would be lost"):
        export_methods(model, (torch.randn(2, 4),), None, None, None)
    assert contents(model) == before


def test_model_is_left_as_it_was_by_verification() -> None:
    model = made(by_size)
    neve.compile(model, (torch.randn(2, 4),))
    assert not model.tables and not MASKS


class Coder(nn.Module):
    """What encode leaves behind is scratch; decode reads it, or only writes its own."""

    def __init__(self, reads: bool) -> None:
        super().__init__()
        self.reads, self.code = reads, None

    def encode(self, x: Tensor) -> Tensor:
        self.code = x * 2
        return self.code + 1

    def decode(self, x: Tensor) -> Tensor:
        if self.reads and self.code is not None:
            return x + self.code
        self.other = x * 3
        return self.other


class Third(nn.Module):
    """Only after a, then b, is c another."""

    first = second = False

    def a(self, x: Tensor) -> Tensor:
        self.first = True
        return x * 1

    def b(self, x: Tensor) -> Tensor:
        self.second = self.first
        return x * 2

    def c(self, x: Tensor) -> Tensor:
        return x * 5 if self.second else x * 1


@pytest.mark.parametrize(
    ("model", "names", "wanted"),
    [(Coder(False), ("encode", "decode"), True), (Coder(True), ("encode", "decode"), False), (Third(), "abc", False)],
)
def test_methods_after_each_other(model: nn.Module, names: tuple[str, ...], wanted: bool) -> None:
    methods = {name: (torch.randn(2, 4),) for name in names}
    if wanted:
        assert len(capture(model, methods=methods).methods) == 2
    else:
        with pytest.raises(NotTraceable, match="would be lost"):
            export_methods(model, None, None, None, methods)


def rebuilt(m: Any, x: Tensor) -> Any:
    if m.shape != x.shape:
        m.anchors, m.shape = torch.arange(x.shape[0]) * 0.5, x.shape
    return x + m.anchors[:, None]


def as_features(m: Any, x: Tensor) -> Any:
    m.tables["a"] = m.layer(x)
    m.rows = x.shape[0]
    return m.tables["a"] * m.rows


def in_patterns(m: Any, x: Tensor) -> Any:
    return einops.rearrange(x, "t (h d) -> (t h) d", h=2)


@pytest.mark.parametrize("f", [rebuilt, as_features, in_patterns], ids=lambda f: f.__name__)
def test_every_size(f: Callable[..., Any]) -> None:
    model = made(f)
    program = capture(model, (torch.randn(3, 4),), dynamic_shapes=[{0: Dim("t", min=1, max=9)}])
    agrees(program, model, [torch.randn(n, 4) for n in (1, 9, 9, 4, 5, 4)])


def of_first_size(m: Any, x: Tensor) -> Any:
    if not hasattr(m, "mask"):
        m.mask = torch.ones(x.shape[0]).sum()
    return x * m.mask


def of_greatest_size(m: Any, x: Tensor) -> Any:
    m.top = max(m.top, x.shape[0])
    return x * m.top


def of_size_before(m: Any, x: Tensor) -> Any:
    y = x * 2 if m.shape is None or m.shape[0] > 3 else x
    m.shape = x.shape
    return y


@pytest.mark.parametrize("f", [of_first_size, of_greatest_size, of_size_before], ids=lambda f: f.__name__)
def test_sizes_of_earlier_calls_matter(f: Callable[..., Any]) -> None:
    with pytest.raises(NotTraceable, match="would be lost"):
        export_methods(made(f), (torch.randn(5, 4),), None, [{0: Dim("t", min=1, max=9)}], None)


def test_frozen_code_for_another_form_may_read_what_is_left() -> None:
    model, x = made(of_size_before), torch.randn(5, 4)
    export_methods(model, (x,), None, None, None)
    with one_of_many(), pytest.raises(NotTraceable, match="would be lost"):
        export_methods(model, (x,), None, None, None)


def test_masked_arrays_are_looked_into_and_left_alone() -> None:
    """numpy's own constant raises where anything is set on it; a mask is a part of the value."""
    masked = np.ma.masked
    fill = vars(masked).get("_fill_value")
    vars(masked)["_fill_value"] = None
    try:
        Fingerprints(set())(masked)
        assert vars(masked)["_fill_value"] is None
    finally:
        vars(masked)["_fill_value"] = fill
    held = np.ma.MaskedArray([1.0, 2.0], [False, False])
    before = Fingerprints(set())(held)
    held[1] = masked
    assert Fingerprints(set())(held) != before
