"""Bundled inputs of an nn.Module: methods of the one object, copied and pickled with it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neve.bundled_inputs.recipes import ALL, DEFLATED, FUNCTIONS, GENERATE, Bundle, BundledInputsError, Recipe


@dataclass(frozen=True)
class _Method:
    """A method that one object has, and not its class; it is copied and pickled with the object."""

    model: Any
    name: str
    rows: list[list[Recipe]] | None = None

    def __call__(self) -> Any:
        if self.rows is None:
            return getattr(self.model, self.name)()
        return [tuple(r.inflate(self.model) for r in row) for row in self.rows]


@dataclass(frozen=True)
class _All(_Method):
    def __call__(self) -> list[tuple[Any, ...]]:
        return [tuple(entry) for entry in getattr(self.model, self.name)()]


@dataclass(frozen=True)
class _Count(_Method):
    def __call__(self) -> int:
        return len(getattr(self.model, self.name)())


@dataclass(frozen=True)
class _About:
    reported: dict[str, dict[str, list[str]]]

    def __call__(self) -> dict[str, dict[str, list[str]]]:
        return copy.deepcopy(self.reported)


def augment_plain(model: Any, bundles: Sequence[Bundle]) -> None:
    for b in bundles:
        for args in b.deflated:
            _check_signature(model, b.name, args)
    for b in bundles:
        setattr(model, f"{DEFLATED}{b.name}", b.deflated)
        if b.rows is not None:
            setattr(model, f"{GENERATE}{b.name}", _Method(model, b.name, b.rows))
        setattr(model, f"{ALL}{b.name}", _All(model, f"{GENERATE}{b.name}"))
        if b.name == "forward":
            model.get_all_bundled_inputs = _All(model, f"{ALL}forward")
            model.get_num_bundled_inputs = _Count(model, f"{ALL}forward")
    about = {b.name: {"info": b.info, "get_inputs_function_name": [f"{ALL}{b.name}"]} for b in bundles}
    setattr(model, FUNCTIONS, _About(about))


def _check_signature(model: Any, name: str, args: tuple[Any, ...]) -> None:
    """BundledInputsError unless the arguments fit the method's parameters and their plain annotations."""
    signature = inspect.signature(getattr(model, name), eval_str=False)
    attribute = f"{DEFLATED}{name}"
    try:
        bound = signature.bind(*args)
    except TypeError as error:
        raise BundledInputsError(
            f"Could not cast attribute '{attribute}' to the arguments of {name}{signature}: {error}"
        ) from error
    plain = {"Tensor": _tensor_type(), "int": int, "float": float, "bool": bool, "str": str}
    plain |= {"torch.Tensor": plain["Tensor"]}
    for parameter, value in bound.arguments.items():
        annotation = signature.parameters[parameter].annotation
        wanted = annotation if isinstance(annotation, type) else plain.get(str(annotation))
        if wanted in plain.values() and not _is_a(value, wanted) and signature.parameters[parameter].kind not in (
            inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD,
        ):  # fmt: skip
            raise BundledInputsError(
                f"Could not cast attribute '{attribute}' to the arguments of {name}{signature}: {parameter} is a "
                f"{type(value).__name__}"
            )


def _tensor_type() -> type:
    import torch

    return torch.Tensor


def _is_a(value: Any, wanted: Any) -> bool:
    """Whether the value is of the type, where an int is a float but a bool is no number, as in TorchScript."""
    if wanted in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if wanted is float else wanted)
