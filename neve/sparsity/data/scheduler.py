"""Configuration of data that changes from epoch to epoch.

The behaviour is that of torch.ao.pruning._experimental.data_scheduler (torch 2.13).
"""

from __future__ import annotations

import abc
import sys
from collections.abc import Mapping
from typing import Any

from neve.sparsity.data.sparsifier import BaseDataSparsifier
from neve.sparsity.steps import check_order, count_steps


class BaseDataScheduler(abc.ABC):
    """Subclasses implement get_schedule_param: the values of the epoch last_epoch, by name of the data.

    schedule_param is the key of the configuration that changes; base_param are its values when the scheduler is made
    (None where it is missing). The scheduler then takes its first step. verbose writes every change to stdout.

    Raises TypeError for a sparsifier that is none.
    """

    def __init__(
        self, data_sparsifier: BaseDataSparsifier, schedule_param: str, last_epoch: int = -1, verbose: bool = False
    ) -> None:
        if not isinstance(data_sparsifier, BaseDataSparsifier):
            raise TypeError(f"{type(data_sparsifier).__name__} is not an instance of neve.sparsity.BaseDataSparsifier")
        self.data_sparsifier = data_sparsifier
        self.schedule_param = schedule_param
        self.base_param = self._current()
        self.last_epoch = last_epoch
        self.verbose = verbose
        self._step_count = 0
        self._last_param: dict[str, Any] = {}
        count_steps(data_sparsifier)
        self.step()

    @abc.abstractmethod
    def get_schedule_param(self) -> Mapping[str, Any]:
        """Name -> value in epoch last_epoch; names left out keep theirs. Called by step."""

    def get_last_param(self) -> dict[str, Any]:
        """The values after the last step, by name."""
        return self._last_param

    def step(self) -> None:
        """Go to the next epoch: set the values and have the sparsifier update its masks at its next step.

        Warns (UserWarning) at the second step if the sparsifier has not stepped yet, or if its step was replaced.
        """
        if self._step_count == 1:
            check_order(self.data_sparsifier, "data_sparsifier")
        self._step_count += 1
        self.last_epoch += 1
        for name, value in self.get_schedule_param().items():
            self.data_sparsifier.data_groups[name][self.schedule_param] = value
            if self.verbose:
                sys.stdout.write(f"Adjusting {self.schedule_param} for group {name} to {value}\n")
        self._last_param = self._current()
        self.data_sparsifier.enable_mask_update = True

    def _current(self) -> dict[str, Any]:
        return {name: config.get(self.schedule_param) for name, config in self.data_sparsifier.data_groups.items()}

    def state_dict(self) -> dict[str, Any]:
        """All attributes but the sparsifier, whose state is to be saved and restored beside it."""
        return {key: value for key, value in self.__dict__.items() if key != "data_sparsifier"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the scheduler that gave state_dict was."""
        self.__dict__.update(state_dict)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__} (\nData Sparsifier {self.data_sparsifier}\n"
            f"    {self.schedule_param}: {self.base_param}\n)"
        )
