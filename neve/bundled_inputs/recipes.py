"""Inputs as they are stored: each argument a value and a recipe that inflates it, checked and deflated."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from neve.errors import NeveError

if TYPE_CHECKING:
    import torch

MAX_ELEMENTS = 16
"""Tensors with a storage of at most so many elements are bundled as they are."""

Inputs = Sequence[Sequence[Any]]
"""One entry a call; an entry holds the call's positional arguments."""

FUNCTIONS = "get_bundled_inputs_functions_and_info"
DEFLATED, GENERATE, ALL = "_bundled_inputs_deflated_", "_generate_bundled_inputs_for_", "get_all_bundled_inputs_for_"
FORWARD_ONLY = ("get_all_bundled_inputs", "get_num_bundled_inputs")


class BundledInputsError(NeveError, RuntimeError):
    """Inputs cannot be bundled with this model; nothing was changed."""


class InflatableArg(NamedTuple):
    """An argument stored as `value`, and how the argument is made of it.

    fmt: an expression in which {} stands for the value, as in "torch.randn_like({})".
    fmt_fn: instead of fmt, the text of a method named {}, as in "def {}(self, value: Tensor): return value * 2"; for an
    nn.Module also a callable that takes the value.
    Only an argument itself may be one, not an entry of a list or dict.
    """

    value: Any
    fmt: str = "{}"
    fmt_fn: str | Callable[[Any], Any] = ""


@dataclass(frozen=True)
class Named:
    """Stands for a method by its name, where the method itself may not have one."""

    name: str


@dataclass(frozen=True)
class Recipe:
    """A stored value, the expression of the argument that it stands for, and the helper that the expression calls."""

    value: Any
    text: str = "{}"
    helper: str | Callable[[Any], Any] = ""

    def inflate(self, model: Any) -> Any:
        """The argument, by Python; the texts are those of whoever made the model, and run as its code does."""
        if callable(self.helper):
            return self.helper(self.value)
        if not self.helper and self.text == "{}":
            return self.value
        names = _names()
        if self.helper:
            exec(textwrap.dedent(self.helper.format("inflate")), names)
            return names["inflate"](model, self.value)
        return eval(self.text.format("value"), names, {"value": self.value})


def _names() -> dict[str, Any]:
    """What the code of a recipe may name, as in TorchScript."""
    import torch

    return {"torch": torch, "Tensor": torch.Tensor, "List": list, "Dict": dict, "Tuple": tuple}


@dataclass(frozen=True)
class Bundle:
    """A method's inputs, deflated; rows None: the model makes them itself."""

    name: str
    rows: list[list[Recipe]] | None
    info: list[str]

    @property
    def deflated(self) -> list[tuple[Any, ...]]:
        return [tuple(r.value for r in row) for row in self.rows or []]

    def helpers(self) -> dict[str, str]:
        """The helper methods' names and texts."""
        return {
            self.helper_name(i, j): r.helper.format(self.helper_name(i, j))
            for i, row in enumerate(self.rows or [])
            for j, r in enumerate(row)
            if isinstance(r.helper, str) and r.helper
        }

    def helper_name(self, i: int, j: int) -> str:
        return f"_inflate_helper_for_{self.name}_input_{i}_arg_{j}"

    def expression(self) -> str:
        """The inflated inputs, as the entries of a list."""
        lines = []
        for i, row in enumerate(self.rows or []):
            refs = [f"deflated[{i}][{j}]" for j in range(len(row))]
            calls = [
                f"self.{self.helper_name(i, j)}({ref})" if r.helper else r.text.format(ref)
                for j, (r, ref) in enumerate(zip(row, refs, strict=True))
            ]
            lines += ["(", *(f"    {call}," for call in calls), "),"]
        return "\n".join([*lines, ""])


def bundle(model: Any, name: str, given: Any, info: list[str], skip_size_check: bool) -> Bundle:
    """The inputs given for a method, checked and deflated."""
    if given is not None and not isinstance(given, Sequence):
        raise TypeError(
            f"Error inputs for function {name} is not a Sequence: got {type(given).__name__}, wanted a list of tuples"
        )
    own = f"{GENERATE}{name}"
    if not callable(getattr(model, name, None)):
        raise BundledInputsError(f"the model has no method {name!r} to bundle inputs for")
    if hasattr(model, own):
        if given is not None:
            raise BundledInputsError(f"inputs[{name}] is not None, but {own} is already defined: give None, or drop it")
        return Bundle(name, None, info)
    if not given:
        raise BundledInputsError(f"inputs for {name} must be specified if {own} is not already defined")
    for i, args in enumerate(given):
        if not isinstance(args, (tuple, list)):
            raise TypeError(
                f"Error bundled input for function {name} idx: {i} is not a Tuple or a List: got "
                f"{type(args).__name__}, wanted the tuple of a call's arguments, such as (x,)"
            )
    rows = [
        [_deflate(arg, f"deflated[{i}][{j}]", skip_size_check) for j, arg in enumerate(args)]
        for i, args in enumerate(given)
    ]
    return Bundle(name, rows, info)


def _deflate(arg: Any, where: str, skip_size_check: bool) -> Recipe:
    import torch

    if isinstance(arg, InflatableArg):
        if arg.fmt_fn and arg.fmt not in ("{}", ""):
            raise BundledInputsError(
                f"Bundled input argument at position '{where}' has both arg.fmt_fn => \n{arg.fmt_fn}\n and arg.fmt => "
                f"{arg.fmt}: give fmt for an expression, fmt_fn for a function"
            )
        return Recipe(arg.value, "{}" if arg.fmt_fn else arg.fmt, arg.fmt_fn)
    if not isinstance(arg, torch.Tensor) or skip_size_check:
        return Recipe(arg)
    size = arg._typed_storage()._size()  # type: ignore[no-untyped-call]
    if size <= MAX_ELEMENTS:
        return Recipe(arg)
    if arg.is_contiguous() and arg.numel() <= MAX_ELEMENTS:
        return Recipe(arg.detach().clone().requires_grad_(arg.requires_grad))
    for layout in (torch.contiguous_format, torch.channels_last):
        if arg.is_contiguous(memory_format=layout) and _is_one_number(arg):
            one = arg.detach().flatten()[0].clone().expand(arg.size()).requires_grad_(arg.requires_grad)
            return Recipe(one, f"{{}}.contiguous(memory_format={layout})")
    raise BundledInputsError(
        f"Bundled input argument at position '{where}' is a tensor with storage size {size}. "
        f"You probably don't want to bundle this as an input. Up to {MAX_ELEMENTS} elements are stored as they are, "
        "and one number in every place as one element: use bundle_randn for noise, bundle_large_tensor to store all"
    )


def _is_one_number(t: torch.Tensor) -> bool:
    """Whether all elements are one number, zeros of one sign; NaN is not equal to itself, here as in torch."""
    import torch

    first = t.flatten()[0]
    signs = not t.is_floating_point() or bool((torch.signbit(t) == torch.signbit(first)).all())
    return signs and bool((t == first).all())


def name_of(function: Any) -> str:
    name = getattr(function, "__name__", None) or getattr(function, "name", None)
    if not isinstance(name, str):
        raise BundledInputsError(
            f"At least one of your functions has no attribute name: got {type(function).__name__}, wanted a method of "
            'the model; m.foo.name = "foo" gives it one'
        )
    return name


def check_model(model: Any) -> None:
    from torch import nn

    if not isinstance(model, nn.Module):
        raise BundledInputsError(f"Only ScriptModule is supported, or an nn.Module; got a {type(model).__name__}")
