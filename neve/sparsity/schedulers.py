"""Sparsity levels that change from epoch to epoch.

    scheduler = CubicSL(sparsifier, total_t=100)    # after sparsifier.prepare
    for epoch in ...:
        sparsifier.step()
        scheduler.step()

The behaviour is that of torch.ao.pruning's schedulers (torch 2.13). Levels are shares, 0 to 1, of what the sparsifier
counts (blocks, rows); epochs are counts of scheduler.step().
"""

from __future__ import annotations

import abc
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from neve.sparsity.sparsifier import BaseSparsifier
from neve.sparsity.steps import check_order, count_steps

T = TypeVar("T")


class BaseScheduler(abc.ABC):
    """Subclasses implement get_sl: the levels of the epoch last_epoch, one a group.

    base_sl are the levels that the groups have when the scheduler is made. It then takes its first step: last_epoch is
    0 (for the default -1) and the groups have the levels of epoch 0. So a second scheduler on the same sparsifier takes
    over what the first has set, which may be 0. verbose writes every change to stdout.

    Raises TypeError for a sparsifier that is none, KeyError for a group without sparsity_level.
    """

    def __init__(self, sparsifier: BaseSparsifier, last_epoch: int = -1, verbose: bool = False) -> None:
        if not isinstance(sparsifier, BaseSparsifier):
            raise TypeError(f"{type(sparsifier).__name__} is not an instance of neve.sparsity.BaseSparsifier")
        self.sparsifier = sparsifier
        self.base_sl: list[float] = [group["sparsity_level"] for group in sparsifier.groups]
        self.last_epoch = last_epoch
        self.verbose = verbose
        self._step_count = 0
        self._last_sl: list[float] = []
        count_steps(sparsifier)
        self.step()

    @abc.abstractmethod
    def get_sl(self) -> Sequence[float]:
        """The levels of epoch last_epoch; called by step. `get_last_sl` tells what is set."""

    def get_last_sl(self) -> list[float]:
        """The levels of the groups after the last step."""
        return self._last_sl

    def step(self, epoch: int | None = None) -> None:
        """Go to the next epoch: set the groups' levels and have the sparsifier update its masks at its next step.

        epoch is only reported in what verbose writes. Warns (UserWarning) at the second step if the sparsifier has not
        stepped yet, or if its step was replaced.
        """
        if self._step_count == 1:
            check_order(self.sparsifier, "sparsifier")
        self._step_count += 1
        self.last_epoch += 1
        for i, (group, level) in enumerate(zip(self.sparsifier.groups, self.get_sl(), strict=False)):
            group["sparsity_level"] = level
            if self.verbose:
                prefix = "" if epoch is None else f"Epoch {epoch:5d}: "
                text = f"{prefix}adjusting sparsity level of group {i} to {level:.4e}."
                sys.stdout.write(text[0].upper() + text[1:] + "\n")
        self._last_sl = [group["sparsity_level"] for group in self.sparsifier.groups]
        self.sparsifier.enable_mask_update = True

    def state_dict(self) -> dict[str, Any]:
        """All attributes but the sparsifier. That of a LambdaSL has its functions in it: pickle takes no lambdas."""
        return {key: value for key, value in self.__dict__.items() if key != "sparsifier"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the scheduler that gave state_dict was."""
        self.__dict__.update(state_dict)

    def __repr__(self) -> str:
        return f"{type(self).__name__} (\nSparsifier {self.sparsifier}\n    base_sl: {self.base_sl}\n)"


class LambdaSL(BaseScheduler):
    """level = base level * sl_lambda(epoch), with one function for all groups or a list with one for each.

    Raises ValueError for a list of another length.
    """

    def __init__(
        self,
        sparsifier: BaseSparsifier,
        sl_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        groups = len(getattr(sparsifier, "groups", ()))
        self.sl_lambdas = [sl_lambda] * groups if callable(sl_lambda) else list(sl_lambda)
        if len(self.sl_lambdas) != groups:
            raise ValueError(f"Expected {groups} lr_lambdas, but got {len(self.sl_lambdas)}")
        super().__init__(sparsifier, last_epoch, verbose)

    def get_sl(self) -> list[float]:
        return [base * f(self.last_epoch) for f, base in zip(self.sl_lambdas, self.base_sl, strict=True)]


class CubicSL(BaseScheduler):
    """Levels rise from init_sl to the base level, fast at first: Zhu and Gupta, https://arxiv.org/abs/1710.01878, (1).

    level = base + (init_sl - base) * (1 - (epoch - init_t) / (delta_t * total_t))**3, clamped to init_sl … base. Before
    epoch init_t it is init_sl, or 0 if initially_zero; where init_sl is above the base level it stays at init_sl.

    init_sl: level at first. init_t: epoch at which it begins to rise. delta_t, total_t: epochs between prunings and
    their number; only the product counts. Each is a number or a list with one for each group.

    Raises ValueError for a list of another length, ZeroDivisionError if delta_t * total_t is 0.
    """

    def __init__(
        self,
        sparsifier: BaseSparsifier,
        init_sl: float | Sequence[float] = 0.0,
        init_t: int | Sequence[int] = 0,
        delta_t: int | Sequence[int] = 10,
        total_t: int | Sequence[int] = 100,
        initially_zero: bool | Sequence[bool] = False,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        groups = len(getattr(sparsifier, "groups", ()))
        self.init_sl = _one_each(init_sl, groups)
        self.init_t = _one_each(init_t, groups)
        self.delta_t = _one_each(delta_t, groups)
        self.total_t = _one_each(total_t, groups)
        self.initially_zero = _one_each(initially_zero, groups)
        super().__init__(sparsifier, last_epoch, verbose)

    @staticmethod
    def sparsity_compute_fn(
        s_0: float, s_f: float, t: int, t_0: int, dt: int, n: int, initially_zero: bool = False
    ) -> float:
        """The level at epoch t, from s_0 at epoch t_0 to s_f at t_0 + dt * n."""
        if initially_zero and t < t_0:
            return 0
        level = s_f + (s_0 - s_f) * (1.0 - (t - t_0) / (dt * n)) ** 3
        return max(s_0, min(s_f, level))

    def get_sl(self) -> list[float]:
        columns = (self.init_t, self.delta_t, self.total_t, self.initially_zero)
        return [
            self.sparsity_compute_fn(first, last, self.last_epoch, *rest)
            for first, last, *rest in zip(self.init_sl, self.base_sl, *columns, strict=True)
        ]


def _one_each(value: T | Sequence[T], groups: int) -> list[T]:
    """A list with one value for each group."""
    if not isinstance(value, (list, tuple)):
        return [value] * groups  # type: ignore[list-item]
    if len(value) != groups:
        raise ValueError(f"Expected variable of length {groups}, but got {len(value)}")
    return list(value)
