"""Section K: schedules of sparsity levels; torch.ao.pruning is the reference."""

from __future__ import annotations

import gc
import pickle
import warnings
import weakref
from typing import Any

import pytest
from torch import nn
from torch.ao import pruning as reference

from neve import sparsity


def prepared(levels: tuple[float, ...] = (0.5, 0.8), module: Any = sparsity) -> Any:
    """A sparsifier of neve or torch with a group for each level."""
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in levels))
    sparsifier = module.WeightNormSparsifier()
    sparsifier.prepare(model, [{"tensor_fqn": f"{i}.weight", "sparsity_level": s} for i, s in enumerate(levels)])
    sparsifier.test_model = model  # torch's does not hold it
    return sparsifier


def levels(sparsifier: Any) -> list[float]:
    return [g["sparsity_level"] for g in sparsifier.groups]


def sequence(module: Any, name: str, epochs: int, **arguments: Any) -> list[list[float]]:
    """The levels at every epoch."""
    sparsifier = prepared(module=module)
    scheduler = getattr(module, name)(sparsifier, **arguments)
    found = [levels(sparsifier)]
    for _ in range(epochs):
        sparsifier.step()
        scheduler.step()
        assert scheduler.get_last_sl() == levels(sparsifier)
        found.append(levels(sparsifier))
    return found


class Halves(sparsity.BaseScheduler):
    def get_sl(self) -> list[float]:
        return [s * 0.5**self.last_epoch for s in self.base_sl]


def test_k1_the_base() -> None:
    with pytest.raises(TypeError, match=r"Linear is not an instance of neve\.sparsity\.BaseSparsifier"):
        Halves(nn.Linear(1, 1))  # type: ignore[arg-type]
    without = sparsity.NearlyDiagonalSparsifier()
    without.prepare(nn.Sequential(nn.Linear(2, 2)), None)
    with pytest.raises(KeyError, match="sparsity_level"):
        Halves(without)
    sparsifier = prepared()
    scheduler = Halves(sparsifier)
    assert (scheduler.last_epoch, scheduler._step_count, scheduler.base_sl) == (0, 1, [0.5, 0.8])
    sparsifier.step()
    assert sparsifier.step.count == 1 and sparsifier.state["0.weight"]["mask"].sum() == 8
    scheduler.step()
    assert levels(sparsifier) == [0.25, 0.4] and Halves(prepared(), last_epoch=1).last_epoch == 2
    freed = weakref.ref(sparsifier)
    del sparsifier, scheduler
    gc.disable()
    try:
        assert freed() is None  # counting makes no cycle
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"init_sl": 0.2, "init_t": 2, "delta_t": 1, "total_t": 4},
        {"init_sl": 0.2, "init_t": 2, "delta_t": 2, "total_t": 2, "initially_zero": True},
        {
            "init_sl": [0.1, 0.3],
            "init_t": [0, 3],
            "delta_t": [1, 2],
            "total_t": (3, 2),
            "initially_zero": [False, True],
        },
        {"init_sl": 0.7, "delta_t": 1, "total_t": 5},  # above the base level of the first group
    ],
)
def test_k2_cubic(arguments: dict[str, Any]) -> None:
    ours = sequence(sparsity, "CubicSL", 8, **arguments)
    assert ours == sequence(reference, "CubicSL", 8, **arguments)
    assert len({tuple(s) for s in ours}) > 2


def test_k2_values_and_errors() -> None:
    found = [s for s, _ in sequence(sparsity, "CubicSL", 5, init_sl=0.1, init_t=1, delta_t=2, total_t=2)]
    assert found == pytest.approx([0.1, 0.1, 0.5 - 0.4 * 0.75**3, 0.45, 0.5 - 0.4 * 0.25**3, 0.5])
    assert {s for s, _ in sequence(sparsity, "CubicSL", 3, init_sl=0.7)} == {0.7}
    assert sparsity.CubicSL.sparsity_compute_fn(0.1, 0.5, 0, 2, 1, 1, initially_zero=True) == 0
    for key in ("init_sl", "init_t", "delta_t", "total_t", "initially_zero"):
        with pytest.raises(ValueError, match="Expected variable of length 2, but got 1"):
            sparsity.CubicSL(prepared(), **{key: [1]})
    with pytest.raises(ZeroDivisionError):
        sparsity.CubicSL(prepared(), total_t=0)


def test_k3_lambda() -> None:
    for f in (lambda epoch: 0.9**epoch, [lambda epoch: epoch / 10, lambda epoch: 1 - epoch / 10]):
        ours = sequence(sparsity, "LambdaSL", 4, sl_lambda=f)
        assert ours == sequence(reference, "LambdaSL", 4, sl_lambda=f)
    assert ours[4] == pytest.approx([0.5 * 0.4, 0.8 * 0.6])
    with pytest.raises(ValueError, match="Expected 2 lr_lambdas, but got 1"):
        sparsity.LambdaSL(prepared(), [lambda epoch: 1.0])


def test_k4_order_of_steps() -> None:
    sparsifier = prepared()
    scheduler = Halves(sparsifier)
    with pytest.warns(
        UserWarning, match=r"Detected call of `scheduler\.step\(\)` before `sparsifier\.step\(\)`"
    ) as caught:
        scheduler.step()
    assert len(caught) == 1 and caught[0].filename == __file__
    sparsifier = prepared()
    scheduler = Halves(sparsifier)
    sparsifier.step = lambda: None
    with pytest.warns(UserWarning, match=r"`sparsifier\.step\(\)` has been overridden"):
        scheduler.step()
    sparsifier = prepared()
    scheduler = Halves(sparsifier)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sparsifier.step()
        scheduler.step()
        scheduler.step()
        Halves(sparsifier)
    scheduler = Halves(sparsifier)  # a new scheduler counts anew
    with pytest.warns(UserWarning, match="Detected call"):
        scheduler.step()


def test_k5_saving() -> None:
    sparsifier = prepared()
    scheduler = sparsity.CubicSL(sparsifier, delta_t=1, total_t=6)
    expected = sequence(sparsity, "CubicSL", 6, delta_t=1, total_t=6)
    for epoch in range(3):
        assert levels(sparsifier) == expected[epoch]
        sparsifier.step()
        scheduler.step()
    state = pickle.loads(pickle.dumps(scheduler.state_dict()))
    assert set(state) == set(vars(scheduler)) - {"sparsifier"} and state["last_epoch"] == 3
    other = prepared((0.1, 0.1))
    resumed = sparsity.CubicSL(other, delta_t=9)
    resumed.load_state_dict(state)
    assert resumed.get_last_sl() == expected[3]
    other.step()
    for epoch in range(4, 7):
        resumed.step()
        assert levels(other) == expected[epoch]
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(sparsity.LambdaSL(prepared(), lambda epoch: 1.0).state_dict())
    fresh = prepared()
    sparsity.CubicSL(fresh)  # its levels are 0 now
    assert sparsity.CubicSL(fresh).base_sl == levels(fresh) == [0.0, 0.0]


def test_k6_step_enables_masks() -> None:
    sparsifier = prepared()
    sparsifier.enable_mask_update = False
    scheduler = Halves(sparsifier)
    assert sparsifier.enable_mask_update
    sparsifier.enable_mask_update = False
    sparsifier.step()
    assert sparsifier.state["0.weight"]["mask"].all()
    scheduler.step()
    sparsifier.step()
    assert sparsifier.state["0.weight"]["mask"].sum() == 12


def test_verbose_and_repr(capsys: pytest.CaptureFixture[str]) -> None:
    scheduler = Halves(prepared((0.5,)), verbose=True)
    with pytest.warns(UserWarning, match="Detected"):
        scheduler.step(epoch=7)
    assert capsys.readouterr().out == (
        "Adjusting sparsity level of group 0 to 5.0000e-01.\n"
        "Epoch     7: adjusting sparsity level of group 0 to 2.5000e-01.\n"
    )
    assert repr(scheduler).startswith("Halves (\nSparsifier WeightNormSparsifier (") and "base_sl: [0.5]" in repr(
        scheduler
    )
