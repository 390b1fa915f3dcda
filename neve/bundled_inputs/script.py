"""Bundled inputs of a ScriptModule: stored as attributes and TorchScript methods, as torch stores them."""

from __future__ import annotations

import pkgutil
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from neve.bundled_inputs.recipes import ALL, DEFLATED, FUNCTIONS, GENERATE, Bundle, BundledInputsError
from neve.internals import require

CLONE, WRAP = "torch._C._hack_do_not_use_clone_module_with_class", "torch.jit._recursive.wrap_cpp_module"
TYPES = "torch._C.ListType", "torch._C.TupleType"


def augment_script(model: Any, bundles: Sequence[Bundle]) -> None:
    """Attributes and methods on a copy with a class of its own, which the module becomes when all has gone well."""
    import torch  # noqa: F401 - TorchScript looks names up in the frame that calls define

    made = copy_without(model, [], [])
    list_type, tuple_type = map(pkgutil.resolve_name, TYPES)
    for b in bundles:
        arguments = model._c._get_method(b.name).schema.arguments[1:]
        attribute = f"{DEFLATED}{b.name}"
        made._c._register_attribute(attribute, list_type(tuple_type([a.type for a in arguments])), [])
        if b.rows is None:
            continue
        foreign = [r.helper for row in b.rows for r in row if callable(r.helper)]
        if foreign:
            raise BundledInputsError(
                f"inputs for {b.name}: got the callable {foreign[0]!r} as fmt_fn, wanted its text: a ScriptModule "
                "stores what TorchScript compiles"
            )
        try:
            setattr(made, attribute, b.deflated)
        except RuntimeError as error:
            names = ", ".join(f"{a.name}: {a.type}" for a in arguments)
            raise BundledInputsError(f"{_first_line(error)} ({b.name} takes {names or 'no arguments'})") from error
    try:
        for text in _methods(bundles):
            made.define(text)
    except RuntimeError as error:
        raise BundledInputsError(f"TorchScript does not compile the code of an InflatableArg: {error}") from error
    _become(model, made._c)


def _methods(bundles: Sequence[Bundle]) -> list[str]:
    """The TorchScript text of every method to add, each after those that it calls."""
    texts = []
    for b in bundles:
        if b.rows is not None:
            texts += [textwrap.dedent(text) + "\n" for text in b.helpers().values()]
            entries = textwrap.indent(b.expression(), " " * 8)
            texts.append(
                f"def {GENERATE}{b.name}(self):\n"
                f"    deflated = self.{DEFLATED}{b.name}\n"
                f"    return [\n{entries}\n    ]\n"
            )
        texts.append(f"def {ALL}{b.name}(self):\n    return self.{GENERATE}{b.name}()\n")
        if b.name == "forward":
            texts.append(f"def get_all_bundled_inputs(self):\n    return self.{ALL}forward()\n")
            texts.append(f"def get_num_bundled_inputs(self):\n    return len(self.{ALL}forward())\n")
    lines = [f"def {FUNCTIONS}(self):", "    reported: Dict[str, Dict[str, List[str]]] = {}"]
    for i, b in enumerate(bundles):
        lines += [
            f"    info_{i}: List[str] = [{', '.join(map(_literal, b.info))}]",
            f"    reported['{b.name}'] = {{'info': info_{i}, 'get_inputs_function_name': ['{ALL}{b.name}']}}",
        ]
    return [*texts, "\n".join([*lines, "    return reported", ""])]


def _literal(text: str) -> str:
    """A string as TorchScript reads it: control characters in octal, as its reader knows no hexadecimal escapes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\{ord(m[0]):03o}", escaped) + '"'


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _become(model: Any, made: Any) -> None:
    """Rebuild a ScriptModule, and the Python objects of its children, around a copy; the tensors stay the same ones."""
    for tensors in (model.named_parameters(recurse=False), model.named_buffers(recurse=False)):
        for name, tensor in tensors:
            made.setattr(name, tensor)
    children = dict(model._modules.items())
    model._reconstruct(made)
    for name, child in children.items():
        _become(child, model._modules[name]._c)
        model._modules._python_modules[name] = child


def copy_without(model: Any, methods: Sequence[str], attributes: Sequence[str]) -> Any:
    """A copy with a class of its own that lacks these methods and attributes of the root; tensors are copied."""
    require("changing a ScriptModule's bundled inputs", CLONE, WRAP, *TYPES, error=BundledInputsError)
    return pkgutil.resolve_name(WRAP)(pkgutil.resolve_name(CLONE)(model._c, list(methods), list(attributes)))


def helper_methods(model: Any, names: Sequence[str]) -> list[str]:
    """The methods that inflate single arguments of these methods."""
    if not names:
        return []
    wanted = re.compile(rf"_inflate_helper_for_({'|'.join(map(re.escape, names))})_input_\d+_arg_\d+")
    return [m for m in model._c._method_names() if wanted.fullmatch(m)]
