"""What calls do to their arguments, and results of classes."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import neve
from tests.frozen.models import close


class Writes(nn.Module):
    def forward(self, x: torch.Tensor, parts: dict[str, torch.Tensor]) -> torch.Tensor:
        x.add_(1)
        parts["a"][0] = 7.0
        return x * 2 + parts["a"]


class Rearranges(nn.Module):
    def forward(self, x: torch.Tensor, parts: list[torch.Tensor]) -> torch.Tensor:
        parts[0] = x + 1
        return x


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


class Prints(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print("called")  # noqa: T201
        return x + 1


class Named(nn.Module):
    def forward(self, x: torch.Tensor) -> Pair:
        return Pair(x + 1, x * 2)


@pytest.mark.parametrize("scripted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_writes_reach_the_caller(scripted: bool, dtype: torch.dtype) -> None:
    model = Writes().eval()
    frozen = neve.freeze(torch.jit.script(model) if scripted else model)
    for _ in range(2):
        memory = torch.randn(3, 4).to(dtype)
        ours, theirs = (
            (memory.clone().mT[1], {"a": memory[0, :3].clone()}),
            (memory.mT[1], {"a": memory[0, :3].clone()}),
        )
        close(frozen(*ours), model(*theirs))
        close(ours, theirs)
    with pytest.raises(neve.InputError, match="shares memory with parts_a"):
        frozen(memory[0, :3], {"a": memory[0, 1:]})


def test_writes_of_a_loaded_module_go_into_arrays_too(tmp_path: Path) -> None:
    given = torch.zeros(3), {"a": torch.ones(3)}
    module = neve.compile(Writes(), given)
    assert not given[0].any()
    module.save(tmp_path / "m.neve")
    loaded = neve.load(tmp_path / "m.neve")
    whole = np.ones(6, np.float32)
    x, parts = np.zeros(3, np.float32), {"a": whole[::-2]}
    np.testing.assert_array_equal(loaded(x, parts), [9, 3, 3])
    assert x.tolist() == [1, 1, 1] and whole.tolist() == [1, 1, 1, 1, 1, 7]
    with pytest.raises(neve.InputError, match="shares memory"):
        loaded(whole[:3], {"a": whole[::-2]})
    example = loaded.artifact.examples["forward"][0]
    assert [a.tolist() for a in example.outputs] == [[9, 3, 3], [1, 1, 1], [7, 1, 1]]


def test_other_entries_of_a_list_are_refused_in_an_archive() -> None:
    with pytest.raises(neve.CaptureError, match="which entries a list or dict among its arguments has"):
        neve.freeze(torch.jit.script(Rearranges().eval()))(torch.ones(2), [torch.ones(2)])


def test_other_entries_of_a_list_are_the_caller_s() -> None:
    frozen, lists = neve.freeze(Rearranges().eval()), ([torch.ones(2)], [torch.ones(2)])
    close(frozen(torch.ones(2), lists[0]), Rearranges()(torch.ones(2), lists[1]))
    close(*lists)


@pytest.mark.parametrize("scripted", [False, True])
def test_prints_are_dropped_with_a_warning(scripted: bool, capsys: pytest.CaptureFixture[str]) -> None:
    frozen = neve.freeze(torch.jit.script(Prints().eval()) if scripted else Prints().eval())
    with pytest.warns(UserWarning, match=r"the model prints.*test_arguments\.py:\d+"):
        frozen(torch.ones(2))
    capsys.readouterr()
    frozen(torch.ones(2))
    assert not capsys.readouterr().out


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.bool])
def test_structure_dtypes_and_defaults(dtype: torch.dtype) -> None:
    class Model(nn.Module):
        def forward(self, x: torch.Tensor, y: Any = None, *, scale: float = 1.0, opts: str | None = None) -> Any:
            z = x * scale if y is None else x * scale + y[0] + y[1]["k"]
            return collections.OrderedDict(a=z, b=(z, None, "s", [3, 2.5, True]))

    model = Model().eval()
    frozen, x = neve.freeze(model), torch.randint(0, 2, (2, 3)).to(dtype)
    close(frozen(x), model(x))
    close(frozen(x.t(), scale=2.0), model(x.t(), scale=2.0))
    close(frozen(x, (x, {"k": 1.5}), opts="a"), model(x, (x, {"k": 1.5})))
    close(frozen(x=x[:0], y=[x[:1], {"k": x[:, :1].t()[:, :1]}]), model(x[:0], [x[:1], {"k": x[:, :1].t()[:, :1]}]))
    assert type(frozen(x)) is collections.OrderedDict


def test_arguments_elsewhere() -> None:
    with pytest.raises(neve.InputError, match="on meta, wanted tensors in memory"):
        neve.freeze(nn.ReLU().eval())(torch.ones(2, device="meta"))


def test_named_tuples_of_scripts() -> None:
    frozen, x = neve.freeze(torch.jit.script(Named().eval())), torch.randn(3)
    assert frozen(x)._fields == Pair._fields
    close(tuple(frozen(x)), tuple(Named()(x)))


def test_classes_of_results_are_the_models_even_if_another_has_the_name() -> None:
    first, x = neve.freeze(Named().eval()), torch.randn(3)
    assert type(first(x)) is Pair

    class Other(NamedTuple):
        only: torch.Tensor

    Other.__qualname__, Other.__module__ = Pair.__qualname__, Pair.__module__

    class Single(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return Other(x)

    second = neve.freeze(Single().eval())
    assert type(second(x)) is Other and type(first(x)) is Pair
    close(first(x), Named()(x))
