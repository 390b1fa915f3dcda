"""The example calls of a model's methods: those that are given, else those that are bundled with the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from neve.capture.export import is_scripted
from neve.capture.objects import tree_map
from neve.errors import CaptureError

ALL = "get_all_bundled_inputs"


@dataclass(frozen=True)
class Call:
    """The arguments of one call."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Examples:
    """Of one method: calls, the first of which is captured, the sizes that may vary (as of torch.export), and the
    model's own name for the method, "" if it is the same.
    """

    calls: tuple[Call, ...]
    dynamic_shapes: Any = None
    method: str = ""

    @property
    def spec(self) -> dict[str, Any]:
        """As `capture` takes it."""
        first = self.calls[0]
        spec = {"args": first.args, "kwargs": first.kwargs, "dynamic_shapes": self.dynamic_shapes}
        return spec | ({"method": self.method} if self.method else {})


def examples_of(
    model: Any,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    dynamic_shapes: Any,
    methods: Mapping[str, Any] | Sequence[str] | None,
) -> dict[str, Examples]:
    """The example calls of every method that is to be compiled.

    args, kwargs: of forward. methods: name → tuple of arguments, or a list of such for several examples, or a dict with
    "args", "kwargs", "dynamic_shapes" and "method" (the model's own name for it), or None for those that are bundled
    with the model; names alone mean the same. Without args, kwargs and methods all methods that have bundled inputs are
    taken, with all of these, or else forward without arguments. CaptureError names the methods that have none.
    """
    if isinstance(methods, str):
        raise TypeError(f"methods: got the str {methods!r}, wanted a dict of example inputs or a list of names")
    given: dict[str, Any] = dict(methods) if isinstance(methods, Mapping) else dict.fromkeys(methods or ())
    found: dict[str, Examples] = {}
    if args is not None or kwargs:
        found["forward"] = Examples((Call(tuple(args or ()), dict(kwargs or {})),), dynamic_shapes)
    bundled = bundled_inputs(model) if (not found and not given) or None in given.values() else {}
    if not found and not given:
        given = dict.fromkeys(bundled, None)
    missing = [name for name, spec in given.items() if spec is None and not bundled.get(name)]
    if missing:
        raise CaptureError([f"the method {name} has no bundled inputs: give example inputs for it" for name in missing])
    for name, spec in given.items():
        found[name] = _examples(spec, bundled.get(name, []))
    if not found:
        found["forward"] = Examples((Call(),), dynamic_shapes)
    if dynamic_shapes is not None and "forward" in found and found["forward"].dynamic_shapes is None:
        found["forward"] = replace(found["forward"], dynamic_shapes=dynamic_shapes)
    return found


def _examples(spec: Any, bundled: Sequence[tuple[Any, ...]]) -> Examples:
    if spec is None:
        return Examples(tuple(Call(tuple(row)) for row in bundled))
    if isinstance(spec, Mapping):
        call = Call(tuple(spec.get("args") or ()), dict(spec.get("kwargs") or {}))
        return Examples((call,), spec.get("dynamic_shapes"), spec.get("method") or "")
    if isinstance(spec, list) and spec and all(isinstance(row, tuple) for row in spec):
        return Examples(tuple(map(Call, spec)))
    return Examples((Call(tuple(spec)),))


def bundled_inputs(model: Any) -> dict[str, list[tuple[Any, ...]]]:
    """Method → the inputs bundled with a model by `neve.bundled_inputs` or by torch, as copies."""
    if is_scripted(model):
        from neve.capture.torchscript.capture import bundled_in_archive

        return bundled_in_archive(model)
    if not isinstance(model, nn.Module):
        return {}
    makers = {name.removeprefix(f"{ALL}_for_"): name for name in dir(model) if name.startswith(f"{ALL}_for_")}
    if hasattr(model, ALL):
        makers.setdefault("forward", ALL)
    rows = {method: list(getattr(model, maker)()) for method, maker in makers.items() if hasattr(model, method)}
    return {method: [tuple(_copied(row)) for row in found] for method, found in rows.items() if found}


def _copied(value: Any) -> Any:
    return tree_map(lambda x: x.detach().clone() if isinstance(x, torch.Tensor) else x, value)
