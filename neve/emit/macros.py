"""Sizes and a kernel's contract macros in C."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from neve.emit.c import c_index
from neve.ir.index import Index
from neve.kernels.kernel import Macro, Offset, Size

Symbol = Callable[[str], str]
"""The C of a size symbol."""


def c_size(size: Size, symbol: Symbol) -> str:
    """A size as an operand of whatever stands around it."""
    const = size if isinstance(size, int) else size.const
    return str(const) if const is not None else f"({c_index(Index.of(size), symbol)})"


def defines(macros: Sequence[tuple[str, Macro]], symbol: Symbol) -> Iterator[str]:
    """A line for each macro."""
    for name, value in macros:
        if isinstance(value, Offset):
            each = value.elements
            text = f"((b) * {each})" if isinstance(each, int) else c_size(each, symbol)
            yield f"#define {name}(b) {text}"
        elif isinstance(value, (int, Index)):
            yield f"#define {name} {c_size(value, symbol)}"
        elif isinstance(value, float):
            text = f"{value:.9g}"
            yield f"#define {name} {text}{'' if '.' in text or 'e' in text else '.0'}f"
        else:
            rows = ", ".join("{" + ", ".join(f"{x!r}f" for x in row) + "}" for row in value)
            yield f"#define {name} {{{rows}}}"
