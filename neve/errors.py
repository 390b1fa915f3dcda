"""What neve raises. Every message says what was wrong, where, and what to do about it."""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from functools import cache


class NeveError(Exception):
    """The base of all errors that neve raises on purpose."""


REPORTED = 5


class CaptureError(NeveError):
    """A model cannot be captured. all_reasons has why, each with its source line where known, those first that the user
    can act on; reasons has the first five, which the message has.
    """

    def __init__(self, reasons: Iterable[str] | str) -> None:
        self.all_reasons: list[str] = [reasons] if isinstance(reasons, str) else list(reasons)
        more = len(self.reasons) < len(self.all_reasons)
        super().__init__(self.message(self.reasons) + ("\n  and others: see all_reasons of this error" if more else ""))

    @property
    def reasons(self) -> list[str]:
        return self.all_reasons[:REPORTED]

    def message(self, reasons: list[str]) -> str:
        """The message with these of the reasons."""
        head, count = "the model cannot be captured", len(self.all_reasons)
        if count == 1:
            return f"{head}: {reasons[0]}"
        return f"{head}, for {count} reasons:" + "".join(f"\n  - {r}" for r in reasons)

    def __reduce__(self) -> tuple[type[CaptureError], tuple[list[str]]]:
        return CaptureError, (self.all_reasons,)


class ArtifactError(NeveError):
    """A file is not the artifact that it should be: truncated, altered, too new, for another machine."""


class InputError(NeveError, ValueError):
    """The arguments of a call do not fit the method's signature."""


class ModelError(NeveError, RuntimeError):
    """The model raised with these inputs: an assert or a raise was reached, an index is out of range, an integer is
    divided by zero. Also the built-in error that eager raises (`IndexError`).
    """


@cache
def model_error(kind: str) -> type[ModelError]:
    """ModelError, which is also the built-in exception of that name, if there is one ("ValueError")."""
    found = getattr(builtins, kind, None)
    if not isinstance(found, type) or not issubclass(found, Exception) or issubclass(ModelError, found):
        return ModelError
    if found.__name__ == "ExceptionGroup":  # wants more than a message
        return ModelError
    return type("ModelError", (ModelError, found), {"__module__": __name__, "__str__": Exception.__str__})


def raised(message: str, method: str = "") -> ModelError | InputError:
    """The error that a message of a `raise` in a graph stands for, "IndexError: what was wrong" also being an
    IndexError, and "InputError: …" what compiled code does not take though the model does; method: the name of what was
    called.
    """
    kind, colon, text = message.partition(": ")
    if kind == InputError.__name__:
        return InputError(f"{method}: {text}" if method else text)
    error = model_error(kind) if colon else ModelError
    return error(f"{method}: the model raised: {message}" if method else message)


class FreezeError(NeveError, RuntimeError):
    """A model cannot be frozen as it was asked: it is in training mode, or has nothing of a name."""


class BuildError(NeveError):
    """A compiler is missing or failed; the message has the command, its first errors and the fix."""


class CacheError(NeveError, OSError):
    """The cache cannot be written: no permission, or the disk is full."""


class VerifyError(NeveError):
    """A compiled module does not give what the original gives.

    inputs is the .npz file that has the inputs of the call that shows it ("" if they could not be saved), step where
    the difference begins, as text ("" if that is not known).
    """

    inputs: str = ""
    step: str = ""


class PruneError(NeveError, RuntimeError):
    """Layers cannot be shrunk: where channels go in the model is not known."""
