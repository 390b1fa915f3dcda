"""What a model asks of its surroundings (is this traced, compiled, exported) is answered during capture as in eager.

torch.export raises its flags while it runs a model's code, and code may have bound the functions that read them before
(`from torch.compiler import is_compiling`). So these functions get other code for a while, which answers by who asks:
torch's own code what torch.export says, a model's what eager says.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import CodeType
from typing import Any

from neve.capture.hidden import is_users
from neve.capture.releases import FX_TRACING
from neve.internals import missing

READ = {
    "torch.compiler.is_compiling": ("torch.compiler", "_is_compiling_flag"),
    "torch._utils.is_compiling": ("torch.compiler", "_is_compiling_flag"),
    "torch._dynamo.external_utils.is_compiling": ("torch.compiler", "_is_compiling_flag"),
    "torch.compiler.is_exporting": ("torch.compiler", "_is_exporting_flag"),
    "torch.fx._symbolic_trace.is_fx_tracing": ("torch.fx._symbolic_trace", FX_TRACING),
}
"""The functions whose answer torch.export changes, with the variable of torch that each reads."""
FALSE_IN_EAGER = (
    *READ,
    "torch.compiler.is_dynamo_compiling",
    "torch.jit.is_scripting",
    "torch.jit.is_tracing",
    "torch.onnx.is_in_onnx_export",
)
"""What asks whether code is traced or compiled, and hears no in eager."""
_PACKAGES = "-packages"
_LOCK = threading.RLock()
_now: list[Answers] = []


@dataclass
class Answers:
    """Of one method. as_traced: whether code of installed packages hears what torch.export says; asked: whether such
    code has asked at all.
    """

    as_traced: bool = False
    asked: bool = False

    def of(self, file: str, flag: bool) -> bool:
        """What code in that file hears, for what torch.export says."""
        if not is_users(file) and not file.startswith("<"):
            return flag
        if _PACKAGES not in file:
            return False
        self.asked = True
        return flag and self.as_traced


@contextmanager
def as_in_eager(answers: Answers) -> Iterator[None]:
    """While a model's own code runs in this thread under torch.export."""
    with _LOCK, ExitStack() as stack:
        for name in () if _now else (name for name in READ if not missing(name)):
            function: Any = pkgutil.resolve_name(name)
            stack.callback(setattr, function, "__code__", function.__code__)
            function.__code__ = _code(*READ[name])
        _now.append(answers)
        stack.callback(_now.pop)
        yield


def answer(module: str, flag: str) -> bool:
    """For code that `_code` makes: what its caller hears who asks for a flag of torch."""
    said: Any = importlib.import_module(module)
    for name in flag.split("."):
        said = getattr(said, name, False)
    return _now[-1].of(sys._getframe(2).f_code.co_filename, bool(said)) if _now else bool(said)


def false_in_eager() -> list[Any]:
    """The functions of FALSE_IN_EAGER that this torch has."""
    return [pkgutil.resolve_name(name) for name in FALSE_IN_EAGER if not missing(name)]


def _code(module: str, flag: str) -> CodeType:
    """Code for a function of torch, so without names of this module."""
    made: Any = eval(f"lambda: __import__({__name__!r}, fromlist=['answer']).answer({module!r}, {flag!r})")
    code: CodeType = made.__code__
    return code
