"""Sparse activations: a layer's input is masked by what was seen of it.

    mask = mask_fn(reduce_fn(aggregate_fn(…, inputs of every call)), **sparse_config)

The behaviour is that of torch.ao.pruning._experimental.activation_sparsifier (torch 2.13), but that masking neither
writes into the layer's input, which others may read too, nor drops the layer's further arguments.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from neve.sparsity.modules import fqn_to_module, module_to_fqn

Mask: TypeAlias = Tensor | list[Tensor]
Aggregate: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Reduce: TypeAlias = Callable[[Tensor], Tensor]

_FUNCTIONS = ("aggregate_fn", "reduce_fn", "mask_fn")
_NOT_SAVED = ("hook", "layer")
_NOT_SHOWN = ("data", "hook", *_FUNCTIONS)


class ActivationSparsifier:
    """Watches the first input of registered layers of model, computes masks at each step, applies them once squashed.

    aggregate_fn(so_far, input) adds up what passes between two steps, from zeros like the first input; reduce_fn makes
    of it what mask_fn(reduced, **sparse_config) computes a mask from, which must broadcast against the input. With
    features, a list of indices along feature_dim, all this is done for each of them alone, the dim kept with size 1,
    and other features pass unmasked. All are defaults of register_layer.
    """

    def __init__(
        self,
        model: nn.Module,
        aggregate_fn: Aggregate | None = None,
        reduce_fn: Reduce | None = None,
        mask_fn: Callable[..., Tensor] | None = None,
        features: Sequence[int] | None = None,
        feature_dim: int | None = None,
        **sparse_config: Any,
    ) -> None:
        self.model = model
        self.defaults: dict[str, Any] = {
            "sparse_config": sparse_config,
            "aggregate_fn": aggregate_fn,
            "reduce_fn": reduce_fn,
            "mask_fn": mask_fn,
            "features": features,
            "feature_dim": feature_dim,
        }
        self.data_groups: dict[str, dict[str, Any]] = {}
        self.state: dict[str, dict[str, Any]] = {}

    def register_layer(
        self,
        layer: nn.Module,
        aggregate_fn: Aggregate | None = None,
        reduce_fn: Reduce | None = None,
        mask_fn: Callable[..., Tensor] | None = None,
        features: Sequence[int] | None = None,
        feature_dim: int | None = None,
        **sparse_config: Any,
    ) -> None:
        """Watch a layer; what is None is the default. A layer that is watched already starts anew, with a warning.

        Raises AssertionError for a layer that model does not have, features without feature_dim, or a function that is
        missing.
        """
        name = module_to_fqn(self.model, layer)
        if name is None:
            raise AssertionError(f"layer not found in the model: {layer}")
        given = (aggregate_fn, reduce_fn, mask_fn, features, feature_dim)
        keys = (*_FUNCTIONS, "features", "feature_dim")
        args = {**copy.deepcopy(self.defaults), **{k: v for k, v in zip(keys, given, strict=True) if v is not None}}
        args["sparse_config"].update(sparse_config)
        _check(args)
        if name in self.data_groups:
            warnings.warn(
                "layer already attached to the sparsifier, deregistering the layer and registering with new config",
                UserWarning,
                stacklevel=2,
            )
            self.unregister_layer(name)
        self.data_groups[name] = {**args, "layer": layer, "hook_state": "aggregate"}
        self.state[name] = {"mask": None}
        self._hook(name)

    def unregister_layer(self, name: str) -> None:
        """Leave a layer alone. Raises KeyError for a path that is not registered."""
        group = self.data_groups.pop(name)
        if "hook" in group:
            group["hook"].remove()
        del self.state[name]

    def get_mask(self, name: str | None = None, layer: nn.Module | None = None) -> Mask:
        """The mask of a layer, by path or object: a tensor, or with features a list of them.

        Raises AssertionError for neither or a stranger, ValueError for a layer that is not registered or has not run.
        """
        if name is None:
            if layer is None:
                raise AssertionError("Need at least name or layer obj to retrieve mask")
            name = module_to_fqn(self.model, layer)
            if name is None:
                raise AssertionError(f"layer not found in the specified model: {layer}")
        if name not in self.state:
            raise ValueError(f"Error: layer with the given name not found: {name!r}; register_layer() it first")
        mask: Mask | None = self.state[name]["mask"]
        if mask is None:
            raise ValueError(f"Error: shape unknown, call layer() routine at least once to infer mask of {name!r}")
        return mask

    def step(self) -> None:
        """Compute all masks and forget what they were computed from. Raises KeyError for a layer that has not run since
        the last step; then no mask is changed.
        """
        with torch.no_grad():
            gathered = {name: group["data"] for name, group in self.data_groups.items()}
            for name, data in gathered.items():
                self.update_mask(name, data, self.data_groups[name])
                del self.data_groups[name]["data"]

    def update_mask(self, name: str, data: Any, configs: Mapping[str, Any]) -> None:
        """Compute the mask of one layer from what was aggregated: a tensor, or a list of them with features."""
        mask = self.get_mask(name)
        masks, parts = ([mask], [data]) if isinstance(mask, Tensor) else (mask, data)
        for m, part in zip(masks, parts, strict=True):
            m.data = configs["mask_fn"](configs["reduce_fn"](part), **configs["sparse_config"])

    def squash_mask(self, attach_sparsify_hook: bool = True) -> None:
        """Watch no longer, and mask the layers' inputs from now on unless attach_sparsify_hook is False.

        Raises ValueError for a layer that has no mask yet; then nothing is changed.
        """
        if attach_sparsify_hook:
            for name in self.data_groups:
                self.get_mask(name)
        for name, group in self.data_groups.items():
            if "hook" in group:
                group.pop("hook").remove()
            group["hook_state"] = "sparsify" if attach_sparsify_hook else "None"
            self._hook(name)

    # what happens before the layers run

    def _hook(self, name: str) -> None:
        """Attach to a layer, unless it is to be left alone."""
        group = self.data_groups[name]
        if group["hook_state"] != "None":
            group["hook"] = group["layer"].register_forward_pre_hook(_Hook(self, name))

    def _aggregate(self, name: str, x: Tensor) -> None:
        group = self.data_groups[name]
        parts = _parts(x, group)
        whole = group["features"] is None
        data = group.get("data")
        if data is None:
            so_far = [torch.zeros_like(p) for p in parts]
            ones = [torch.ones_like(p) for p in parts]
            self.state[name]["mask"] = ones[0] if whole else ones
        else:
            so_far = [data] if whole else data
        new = [group["aggregate_fn"](a, p) for a, p in zip(so_far, parts, strict=True)]
        group["data"] = new[0] if whole else new

    def _masked(self, name: str, x: Tensor) -> Tensor:
        group, mask = self.data_groups[name], self.get_mask(name)
        if isinstance(mask, Tensor):
            return x * mask
        for i, part, m in zip(group["features"], _parts(x, group), mask, strict=True):
            x = x.index_copy(group["feature_dim"], torch.tensor([i], device=x.device), (part * m).to(x.dtype))
        return x

    # saving

    def state_dict(self) -> dict[str, Any]:
        """`state`: path -> {"mask": sparse COO tensor(s) or None}; `data_groups` without layers and hooks; `defaults`.
        Functions are in it as they are: pickle takes no lambdas.
        """
        groups = {
            name: {k: v for k, v in group.items() if k not in _NOT_SAVED} for name, group in self.data_groups.items()
        }
        state = {name: {"mask": _map(s["mask"], Tensor.to_sparse_coo)} for name, s in self.state.items()}
        return {"state": state, "data_groups": groups, "defaults": self.defaults}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over (copies of) masks and configurations and attach the hooks to this sparsifier's model, in place of
        those that it had. Raises AssertionError for a layer that the model does not have; then nothing is changed.
        """
        layers = {name: fqn_to_module(self.model, name) for name in state_dict["data_groups"]}
        for name, layer in layers.items():
            if not isinstance(layer, nn.Module):
                raise AssertionError(f"layer {name} not found in the model")
        for name in list(self.data_groups):
            self.unregister_layer(name)
        self.defaults = copy.deepcopy(state_dict["defaults"])
        self.state = {
            name: {"mask": _map(s["mask"], lambda m: m.to_dense().clone())} for name, s in state_dict["state"].items()
        }
        for name, group in state_dict["data_groups"].items():
            self.data_groups[name] = {**copy.deepcopy(group), "layer": layers[name]}
            self._hook(name)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for name, group in self.data_groups.items():
            lines += ["\tData Group", f"\t    name: {name}"]
            lines += [f"\t    {key}: {group[key]}" for key in sorted(group) if key not in _NOT_SHOWN]
        return "\n".join(lines) + ")"


class _Hook:
    """A forward pre-hook; an object, not a closure, so that a copy of model and sparsifier is hooked to itself."""

    def __init__(self, sparsifier: ActivationSparsifier, name: str) -> None:
        self.sparsifier, self.name = sparsifier, name

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if self.sparsifier.data_groups[self.name]["hook_state"] == "sparsify":
            return (self.sparsifier._masked(self.name, args[0]), *args[1:])
        self.sparsifier._aggregate(self.name, args[0])
        return None


def _check(args: Mapping[str, Any]) -> None:
    if args["features"] is not None and args["feature_dim"] is None:
        raise AssertionError("need feature dim to select features: pass feature_dim")
    for key in _FUNCTIONS:
        if not callable(args[key]):
            raise AssertionError(f"{key} must be callable, got {args[key]!r}")


def _parts(x: Tensor, group: Mapping[str, Any]) -> list[Tensor]:
    """The input, or each of its features with the dim kept."""
    if group["features"] is None:
        return [x]
    return [x.index_select(group["feature_dim"], torch.tensor([i], device=x.device)) for i in group["features"]]


def _map(mask: Mask | None, f: Callable[[Tensor], Tensor]) -> Mask | None:
    if mask is None:
        return None
    return [f(m) for m in mask] if isinstance(mask, list) else f(mask)
