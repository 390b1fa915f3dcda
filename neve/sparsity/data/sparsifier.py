"""The base of the sparsifiers of data: tensors and embeddings that are given by name instead of found in a model.

The behaviour is that of torch.ao.pruning._experimental.data_sparsifier (torch 2.13), but that copies and pickles are
whole, a loaded entry takes the place of one with its name, and squashed data can be replaced.
"""

from __future__ import annotations

import abc
import copy
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neve.sparsity.sparsifier import BaseSparsifier

Data: TypeAlias = Tensor | nn.Embedding | nn.EmbeddingBag

_SUPPORTED = (Tensor, nn.Parameter, nn.Embedding, nn.EmbeddingBag)


class _Container(nn.Module):
    """Holds the data as buffers, so that they can be parametrized."""


class BaseDataSparsifier(BaseSparsifier):
    """Subclasses implement update_mask(name, data, **config), where data is the tensor without its mask.

    data_list has (name, data) pairs, which get the defaults as their configuration. data_groups[name] is the
    configuration of each, state[name]["mask"] its mask. The data themselves are held, not copied: squash_mask writes
    their zeros into the caller's tensor.
    """

    def __init__(self, data_list: Iterable[tuple[str, Data]] | None = None, **defaults: Any) -> None:
        super().__init__(defaults)
        self._container = _Container()
        self.data_groups: dict[str, dict[str, Any]] = {}
        for name, data in data_list or ():
            self.add_data(name, data, **self.defaults)

    def prepare(self, model: nn.Module, config: list[dict[str, Any]] | None) -> None:
        raise NotImplementedError("this function is undefined for this class: name the data with add_data()")

    def add_data(self, name: str, data: Data, reuse_mask: bool = True, **config: Any) -> Tensor:
        """Add data under a name, an identifier, and return it with its mask applied. config overrides the defaults; it
        may have a `mask` of the data's shape and a `parametrization`.

        A name that is taken gets new data, with a warning: it keeps its configuration, but for what config says, and
        its mask unless reuse_mask is False. Raises AssertionError for data of another type than a tensor, Parameter,
        Embedding or EmbeddingBag (exactly), and if a mask that is kept has another shape.
        """
        if type(data) not in _SUPPORTED:
            raise AssertionError(
                f"specified data type:{type(data)} not supported at the moment; wanted Tensor, Parameter, Embedding or "
                "EmbeddingBag"
            )
        weight = data if isinstance(data, Tensor) else data.weight
        args = {**copy.deepcopy(self.data_groups.get(name, self.defaults)), **config}
        mask = args.get("mask")
        if name in self.state:
            warnings.warn(
                "Replacing existing data of the same name. - Did you mean a different name?", UserWarning, stacklevel=2
            )
            mask = self.get_mask(name) if reuse_mask else config.get("mask")
            if mask is not None and mask.shape != weight.shape:
                raise AssertionError(
                    "to retain the old mask, the shape of the new data must be the same as the previous one: got "
                    f"{list(weight.shape)}, wanted {list(mask.shape)}; or pass reuse_mask=False"
                )
            self._delete_data(name)
        mask = torch.ones_like(weight.detach()) if mask is None else mask
        self._hold(name, weight, mask, args)
        self.data_groups[name] = args
        found: Tensor = getattr(self._container, name)
        return found

    def _hold(self, name: str, weight: Tensor, mask: Tensor | None, args: Mapping[str, Any]) -> None:
        """Hold a tensor under a name, with its mask unless it was squashed (None)."""
        self._container.register_buffer(name, weight)
        if mask is not None:
            parametrization = args.get("parametrization", self.parametrization)
            parametrize.register_parametrization(self._container, name, parametrization(mask))
            self.state[name] = {"mask": mask}

    def _delete_data(self, name: str) -> None:
        """Let go of the data and mask of a name; its configuration stays."""
        if parametrize.is_parametrized(self._container, name):
            parametrize.remove_parametrizations(self._container, name, leave_parametrized=False)
        delattr(self._container, name)
        del self.state[name]

    def get_data(self, name: str, return_original: bool = True) -> Tensor:
        """The data without its mask, or with it. Raises ValueError for an unknown name, and for the original of data
        whose mask was squashed.
        """
        if name not in self.data_groups:
            raise ValueError(f"data with specified name does not exist: {name!r}, have {sorted(self.data_groups)}")
        if not return_original:
            with_mask: Tensor = getattr(self._container, name)
            return with_mask
        if not parametrize.is_parametrized(self._container, name):
            raise ValueError(f"mask squashed - original mask value does not exist: {name!r}; use return_original=False")
        original: Tensor = self._container.parametrizations[name].original  # type: ignore[index, union-attr]
        return original

    def get_mask(self, name: str) -> Tensor:
        """The mask of a name. Raises ValueError if it is unknown."""
        if name not in self.state:
            raise ValueError(f"data with specified name does not exist: {name!r}, have {sorted(self.state)}")
        mask: Tensor = self.state[name]["mask"]
        return mask

    def step(self) -> None:
        """Compute all masks anew. Raises ValueError for data whose mask was squashed."""
        if not self.enable_mask_update:
            return
        with torch.no_grad():
            for name, config in self.data_groups.items():
                self.update_mask(name, self.get_data(name), **config)

    @abc.abstractmethod
    def update_mask(self, name: str, data: Tensor, **config: Any) -> None:  # type: ignore[override] # no module here
        """Compute the mask of one entry; called by step with its configuration, without gradients."""

    def squash_mask(  # type: ignore[override] # by name of the data, nothing to keep in a module
        self, names: Iterable[str] | None = None, *, leave_parametrized: bool = True
    ) -> None:
        """Write zeros into the data (of all names, if none are given), or with leave_parametrized=False leave them as
        they were before masks. Raises ValueError for a name whose mask was squashed.
        """
        for name in list(self.data_groups) if names is None else names:
            parametrize.remove_parametrizations(self._container, name, leave_parametrized=leave_parametrized)

    def state_dict(self) -> dict[str, Any]:
        """`state`: name -> {"mask": sparse COO tensor}; `data_groups`; `_container`: the data, as a module's state."""
        return {
            "state": {name: {**s, "mask": s["mask"].to_sparse_coo()} for name, s in self.state.items()},
            "data_groups": {name: dict(config) for name, config in self.data_groups.items()},
            "_container": self._container.state_dict(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Take over (copies of) data, masks and configurations: all others are dropped if strict, else kept.

        Raises RuntimeError for a name without configuration or data; then nothing is changed.
        """
        entries = [_Entry(name, state_dict) for name in state_dict["state"]]
        if strict:
            self._container = _Container()
            self.state, self.data_groups = {}, {}
        for entry in entries:
            if entry.name in self.data_groups:
                self._delete_data(entry.name)
            self._restore(entry)

    def _restore(self, entry: _Entry) -> None:
        self.data_groups[entry.name] = entry.config
        self._hold(entry.name, entry.data, None if entry.squashed else entry.mask, entry.config)
        self.state[entry.name] = {"mask": entry.mask}

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), **self.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._container = _Container()
        self.state, self.data_groups = {}, {}
        for name in state["state"]:
            self._restore(_Entry(name, state))

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for name, config in self.data_groups.items():
            lines += ["\tData Group", f"\t    name: {name}"]
            lines += [f"\t    {key}: {config[key]}" for key in sorted(config)]
        return "\n".join(lines) + ")"


class _Entry:
    """One name of a state dict: its configuration, data and dense mask, all copied."""

    def __init__(self, name: str, state_dict: Mapping[str, Any]) -> None:
        container, original = state_dict["_container"], f"parametrizations.{name}.original"
        self.name, self.squashed = name, name in container
        key = name if self.squashed else original
        if name not in state_dict["data_groups"] or key not in container:
            lacking = "data" if name in state_dict["data_groups"] else "configuration"
            raise RuntimeError(f"Error loading {name}: the state dict has no {lacking} for it")
        self.config: dict[str, Any] = copy.deepcopy(state_dict["data_groups"][name])
        self.data: Tensor = container[key].detach().clone()
        mask: Tensor = state_dict["state"][name]["mask"]
        self.mask = mask.to_dense().clone()
