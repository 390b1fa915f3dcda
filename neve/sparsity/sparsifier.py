"""The base of the sparsifiers: which tensors of a model get a mask, when masks are computed, how they are saved, and
how they become permanent zeros.

    sparsifier = WeightNormSparsifier(sparsity_level=0.8)
    sparsifier.prepare(model, None)     # masks of ones on the weight of every nn.Linear, in place
    for epoch in ...:                   # train: forward uses mask * weight
        sparsifier.step()               # new masks
    sparsifier.squash_mask()            # plain weights again, with zeros

The behaviour is that of `torch.ao.pruning.BaseSparsifier` (torch 2.13) but for its defects: a layer that two modules
hold is prepared once, preparing again stacks no second mask, loading changes neither the given dict nor shares its
tensors, and copies work. prepare, squash_mask and load_state_dict either do all they should or raise and change
nothing.
"""

from __future__ import annotations

import abc
import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrize import type_before_parametrizations

from neve.sparsity.masks import FakeSparsity, find_mask, set_mask
from neve.sparsity.modules import (
    get_arg_info_from_tensor_fqn,
    module_contains_param,
    module_to_fqn,
    parametrizations,
    swap_module,
)

Group: TypeAlias = dict[str, Any]
"""The configuration of one tensor: the sparsifier's defaults, the entry given to prepare, and module_fqn, module,
tensor_name, tensor_fqn."""

Mapped: TypeAlias = Mapping[type[nn.Module], type[nn.Module]]

_NOT_SAVED = ("module", "module_fqn", "tensor_name")


class BaseSparsifier(abc.ABC):
    """Subclasses implement update_mask.

    defaults: configuration that an entry given to prepare may override.
    groups: one a prepared tensor, in the order of the configuration; state[tensor_fqn]["mask"] is its mask, the very
    buffer that its parametrization applies.
    enable_mask_update: step does nothing while it is False; schedulers set it.
    """

    SUPPORTED_MODULES: ClassVar[frozenset[type[nn.Module]]] = frozenset({nn.Linear})
    """Exact types of the layers that are prepared if no configuration is given."""

    parametrization: ClassVar[type[nn.Module]] = FakeSparsity
    """What applies the masks, if the configuration names nothing else."""

    def __init__(self, defaults: dict[str, Any] | None = None) -> None:
        self.defaults: dict[str, Any] = defaults or {}
        self.state: dict[str, dict[str, Any]] = {}
        self.groups: list[Group] = []
        self.enable_mask_update = True
        self.model: nn.Module | None = None
        self.config: list[dict[str, Any]] = []

    @abc.abstractmethod
    def update_mask(self, module: nn.Module, tensor_name: str, **config: Any) -> None:
        """Compute the mask of one tensor; called by step with the tensor's group as arguments, without gradients."""

    def step(self) -> None:
        """Compute all masks anew. Raises AttributeError for a tensor whose mask was squashed."""
        if not self.enable_mask_update:
            return
        with torch.no_grad():
            for group in self.groups:
                self.update_mask(**group)

    # preparing

    def prepare(self, model: nn.Module, config: list[dict[str, Any]] | None) -> None:
        """Give tensors of model masks of ones, in place.

        config has a dict for each tensor, with tensor_fqn (its dotted path) and whatever overrides the defaults; `mask`
        (of the tensor's shape) and `parametrization` (a module class that takes the mask) are possible too. Without a
        config the weights of all layers of SUPPORTED_MODULES below model are taken. A tensor that this sparsifier has
        prepared already gets its new configuration and keeps its mask.

        Raises AssertionError for an entry that is no dict, lacks tensor_fqn, contradicts it, or has a mask of another
        shape; AttributeError for a tensor that model does not have.
        """
        if config is None:
            self.make_config_from_model(model)
            config = self.config
        groups = [self._group(model, entry) for entry in config]
        self.model, self.config = model, config
        for group in groups:
            self._prepare_group(group)

    def make_config_from_model(self, model: nn.Module, SUPPORTED_MODULES: Iterable[type[nn.Module]] = ()) -> None:  # noqa: N803
        """Set config to the tensors of all modules below model (not model itself) whose exact type is supported, each
        module once: level by level, the last child's layers before those of its elder siblings.
        """
        supported = set(SUPPORTED_MODULES) or self.SUPPORTED_MODULES
        self.config = []
        seen: set[nn.Module] = set()
        stack = [model]
        while stack:
            for child in stack.pop().children():
                if child in seen:
                    continue
                seen.add(child)
                if type_before_parametrizations(child) in supported:
                    fqn = module_to_fqn(model, child)
                    self.config += [{"tensor_fqn": f"{fqn}.{name}"} for name in self._tensor_names(child)]
                else:
                    stack.append(child)

    def _tensor_names(self, module: nn.Module) -> Sequence[str]:
        """The tensors of a supported module that get masks."""
        return ("weight",)

    def _group(self, model: nn.Module, entry: dict[str, Any]) -> Group:
        """The group of a configuration entry, checked."""
        if not isinstance(entry, dict):
            raise AssertionError(
                "config elements should be dicts not modules i.e.:"
                f"[{{`tensor_fqn`: `foo.bar.weight`}}, {{`tensor_fqn`: ... }}, ...], got a {type(entry).__name__}"
            )
        group = {**copy.deepcopy(self.defaults), **entry}
        if group.get("tensor_fqn") is None:
            raise AssertionError(
                "tensor_fqn is a required argument in the sparsity config which replaces previous `module` and "
                f"[module]`fqn` arguments; got only {sorted(group)}"
            )
        info = get_arg_info_from_tensor_fqn(model, group["tensor_fqn"])
        for key, value in info.items():
            if key in group and group[key] is not value and group[key] != value:
                raise AssertionError(
                    f"Given both `{key}` and `tensor_fqn` in the config, it is expected them to agree! "
                    f"tensor_fqn {group['tensor_fqn']!r} means {value!r}, got {group[key]!r}"
                )
        group.update(info)
        self._check_tensor(model, group)
        return group

    def _check_tensor(self, model: nn.Module, group: Group) -> None:
        tensor = getattr(group["module"], group["tensor_name"], None)
        if not isinstance(tensor, Tensor):
            known = [name for name, _ in model.named_parameters()]
            raise AttributeError(
                f"the model has no tensor {group['tensor_fqn']!r}; its parameters are {', '.join(known[:20])}"
                + (", …" if len(known) > 20 else "")
            )
        mask = group.get("mask")
        wanted = self._ones(tensor, group["module"]).shape
        if isinstance(mask, Tensor) and mask.shape != wanted:
            raise AssertionError(
                f"the mask of {group['tensor_fqn']!r} has the shape {list(mask.shape)}, wanted {list(wanted)}"
            )

    def _ones(self, tensor: Tensor, module: nn.Module) -> Tensor:
        """A mask that keeps all of a module's tensor."""
        return torch.ones_like(tensor.detach())

    def _prepare_group(self, group: Group) -> None:
        """Enter a group; give its tensor a mask unless it has this sparsifier's already."""
        mask, applied = self._enter(group)
        given = group.get("mask")
        if mask is None:
            module = group["module"]
            mask = self._ones(getattr(module, group["tensor_name"]), module) if given is None else given
        elif given is not None:
            set_mask(mask, given.clone())
        self.state[group["tensor_fqn"]] = {"mask": mask}
        if not applied:
            self._attach(group, mask)

    def _enter(self, group: Group) -> tuple[Tensor | None, bool]:
        """Add a group, or put it in place of the one that its tensor has. Returns the mask that the tensor keeps, and
        whether it is applied: it is not if the sparsifier was unpickled, without a model. A squashed mask is gone.
        """
        module, name, fqn = group["module"], group["tensor_name"], group["tensor_fqn"]
        for i, old in enumerate(self.groups):
            if old["tensor_fqn"] == fqn and old["module"] is None:
                self.groups[i] = group
                return self.state[fqn]["mask"], False
            if old["module"] is module and old["tensor_name"] == name:
                self.groups[i] = group
                mask = self.state.pop(old["tensor_fqn"])["mask"]
                applied = any(p.mask is mask for p in parametrizations(module).get(name, ()))
                return (mask, True) if applied else (None, False)
        self.groups.append(group)
        return None, False

    def _attach(self, group: Group, mask: Tensor) -> None:
        """Have the mask applied to the group's tensor."""
        parametrization = group.get("parametrization", self.parametrization)
        parametrize.register_parametrization(group["module"], group["tensor_name"], parametrization(mask))

    def mask(self, module: nn.Module, tensor_name: str) -> Tensor:
        """The mask of a prepared tensor, as it is applied. Raises AttributeError if there is none."""
        for group in self.groups:
            if group["module"] is module and group["tensor_name"] == tensor_name:
                return find_mask(module, tensor_name, self.state[group["tensor_fqn"]]["mask"])
        return find_mask(module, tensor_name)

    # making masks permanent

    def squash_mask(
        self,
        params_to_keep: tuple[str, ...] | None = None,
        params_to_keep_per_layer: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Replace every masked tensor by a parameter `mask * tensor` without parametrization.

        params_to_keep names configuration keys that are kept in the dict module.sparse_params; params_to_keep_per_layer
        names more of them for the layers with these paths (unknown paths are ignored). Raises KeyError for an unknown
        key and ValueError if masks were squashed already.
        """
        kept = []
        for group in self.groups:
            if not parametrizations(group["module"]).get(group["tensor_name"]):
                raise ValueError(
                    f"{group['tensor_fqn']!r} has no parametrization: its mask was squashed already, or removed"
                )
            keys = (*(params_to_keep or ()), *(params_to_keep_per_layer or {}).get(group["module_fqn"], ()))
            kept.append({key: group[key] for key in keys})
        for group, params in zip(self.groups, kept, strict=True):
            self._squash(group)
            if params:
                group["module"].sparse_params = {**getattr(group["module"], "sparse_params", {}), **params}

    def _squash(self, group: Group) -> None:
        parametrize.remove_parametrizations(group["module"], group["tensor_name"], leave_parametrized=True)

    def convert(
        self,
        module: nn.Module,
        mapping: Mapped | None = None,
        inplace: bool = False,
        parameterization: type[nn.Module] = FakeSparsity,
    ) -> nn.Module:
        """module (a copy, unless inplace) with every child that has the parametrization and a type of the mapping
        replaced by `mapping[type].from_dense(child)`, which reads masked weights.

        Children at any depth are; what replaces one has no children of its own that were. A child held in two places
        is replaced by one. Raises NotImplementedError without a mapping.
        """
        if mapping is None:
            raise NotImplementedError(
                "Need to auto generate mapping : neve cannot, so give one, such as "
                "get_static_sparse_quantized_mapping()"
            )
        module = module if inplace else copy.deepcopy(module)
        _convert(module, mapping, parameterization, {})
        return module

    # saving

    def state_dict(self) -> dict[str, Any]:
        """`state`: tensor_fqn -> {"mask": the mask itself, not a copy}; `groups`: without what belongs to one model."""
        groups = [{k: v for k, v in group.items() if k not in _NOT_SAVED} for group in self.groups]
        return {"state": {fqn: dict(s) for fqn, s in self.state.items()}, "groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Take over groups and the values of masks. The sparsifier must have prepared a model with the same tensors;
        those that it gave no mask get one. The given dict stays as it is, and nothing is shared with it.

        Raises AttributeError before prepare; for a path that the model lacks RuntimeError, or AttributeError if not
        strict.
        """
        model = self.model
        if model is None:
            raise AttributeError("there is no model to load masks into; call prepare(model, config) first")
        saved = {group["tensor_fqn"]: group for group in state_dict["groups"]}
        groups = []
        for fqn in state_dict["state"]:
            info = get_arg_info_from_tensor_fqn(model, fqn)
            if not isinstance(getattr(info["module"], info["tensor_name"], None), Tensor):
                error = RuntimeError if strict else AttributeError
                raise error(f"Error loading {fqn} into the model: it has no such tensor")
            groups.append({**copy.deepcopy(saved.get(fqn, {})), **info})
        for group in groups:
            mask = state_dict["state"][group["tensor_fqn"]].get("mask")
            mask = mask if mask is None else mask.detach().clone()
            self._prepare_group({**group, "mask": mask})
            current = next(g for g in self.groups if g["tensor_fqn"] == group["tensor_fqn"])
            if group.get("mask") is None:
                del current["mask"]
        self.groups = [g for g in self.groups if g["tensor_fqn"] in state_dict["state"]]
        self.state = {g["tensor_fqn"]: self.state[g["tensor_fqn"]] for g in self.groups}

    def __getstate__(self) -> dict[str, Any]:
        """All but the model and its modules: after unpickling, prepare(model, config) applies the saved masks to it."""
        state = {k: v for k, v in self.__dict__.items() if k not in ("model", "step")}
        return {**state, "model": None, "groups": [{**group, "module": None} for group in self.groups]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __deepcopy__(self, memo: dict[int, Any]) -> BaseSparsifier:
        """A copy with a copy of the model, masks in place."""
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__dict__.update({k: copy.deepcopy(v, memo) for k, v in self.__dict__.items() if k != "step"})
        return new

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.groups):
            lines += [f"\tGroup {i}", f"\t    module: {group['module']}"]
            lines += [f"\t    {key}: {group[key]}" for key in sorted(group) if key != "module"]
        return "\n".join(lines) + ")"


def _convert(
    module: nn.Module, mapping: Mapped, parametrization: type[nn.Module], done: dict[nn.Module, nn.Module]
) -> None:
    for name, child in module._modules.items():
        if child is None:
            continue
        if child not in done:
            if module_contains_param(child, parametrization) and type_before_parametrizations(child) in mapping:
                done[child] = swap_module(child, mapping)
            else:
                done[child] = child
                _convert(child, mapping, parametrization, done)
        module._modules[name] = done[child]
