"""Source ranges of an archive (`.debug_pkl`): from a place in its code to the file and line that the user wrote.

The format is that of torch/csrc/jit/serialization/source_range_serialization.cpp: records (byte offset in the code,
((text, file, first line), start, end), …) in order, with text and file as indices into a table of strings, or, before
torch 1.12, as strings. Whatever is not of this form counts as unknown: an archive is as good without it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Any

from neve.capture.torchscript.pickles import Reader
from neve.errors import CaptureError

TABLE = "FORMAT_WITH_STRING_TABLE"
MAX_LINE = 10**7
MAX_NAME = 4096
MAX_SOURCE = 2**24
MAX_TEXT = 200
TRACED = re.compile(rb"(.+)\((\d{1,7})\): .+")
"""A line of what tracing notes in place of source: the Python stack."""
TORCH = re.compile(r"(^code/__torch__|/(site|dist)-packages)/torch/")


def is_torch(file: str) -> bool:
    """Whether a file, of the archive or of the machine that wrote it, is part of torch."""
    return TORCH.search(file.replace("\\", "/")) is not None


class Lines:
    """The source ranges of one file of an archive. text: its code; debug: its `.debug_pkl`, or nothing."""

    def __init__(self, text: str, debug: bytes | None) -> None:
        self._starts = [0]
        for line in text.encode("utf-8", "surrogatepass").split(b"\n"):
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._table, self._records = _read(debug) if debug else ((), [])
        self._offsets = [record[0] for record in self._records]
        self._texts: dict[tuple[int, ...], bytes] = {}

    def find(self, line: int, column: int) -> tuple[str, int, str] | None:
        """The user's file, line and its text for a place in the code (line from 1, column in bytes); None if unknown.

        The text is the archive's own: the file that it names may be any, and is not opened.
        """
        if not 0 < line < len(self._starts):
            return None
        k = bisect_right(self._offsets, self._starts[line - 1] + column) - 1
        if k < 0:
            return None
        (text, file, first), start, _ = self._records[k][1]
        source = self._text(text)
        traced = _traced(source)
        name, found = traced or (self._string(file), first + source[:start].count(b"\n"))
        if not 0 < len(name) <= MAX_NAME or not name.isprintable() or not 0 < found < MAX_LINE:
            return None
        return name, found, "" if traced else _line_at(source, start)

    def _string(self, index: Any) -> str:
        if isinstance(index, str):
            return index
        known = isinstance(index, int) and 0 <= index < len(self._table)
        return self._table[index] if known else ""

    def _text(self, pieces: Any) -> bytes:
        if isinstance(pieces, str):
            return pieces.encode("utf-8", "surrogatepass")
        key = tuple(pieces)
        if key not in self._texts:
            parts = [self._string(i) for i in key]
            text = "".join(parts) if sum(map(len, parts)) <= MAX_SOURCE else ""
            self._texts[key] = text.encode("utf-8", "surrogatepass")
        return self._texts[key]


def _traced(source: bytes) -> tuple[str, int] | None:
    """The innermost call outside of torch, if tracing has noted the Python stack in place of source."""
    calls = [TRACED.fullmatch(call) for call in source.splitlines()]
    places = [(m[1].decode(errors="replace"), int(m[2])) for m in calls if m]
    if not places or len(places) != len(calls):
        return None
    return next((p for p in places if not is_torch(p[0])), places[0])


def _line_at(source: bytes, start: int) -> str:
    line = source[source.rfind(b"\n", 0, start) + 1 :].partition(b"\n")[0]
    text = line[:MAX_TEXT].decode(errors="replace").strip()
    return text if text.isprintable() else ""


def _read(debug: bytes) -> tuple[tuple[str, ...], list[Any]]:
    """The table of strings and the records; nothing if any of it is not what it should be."""
    try:
        value = Reader("source ranges", _no_storage).read(debug)
    except CaptureError:
        return (), []
    table: Any = ()
    if isinstance(value, tuple) and len(value) == 3 and value[0] == TABLE:
        _, table, value = value
    whole = isinstance(table, tuple) and all(isinstance(s, str) for s in table) and isinstance(value, (tuple, list))
    if not whole or not all(map(_is_record, value)):
        return (), []
    offsets = [record[0] for record in value]
    return (table, list(value)) if offsets == sorted(offsets) else ((), [])


def _no_storage(key: str) -> Any:
    raise CaptureError("source ranges hold no tensors")


def _is_record(record: Any) -> bool:
    match record:
        case int(), (((str() | list() | tuple()) as text, int() | str() | None, int()), int() as start, int()), *_:
            return start >= 0 and (isinstance(text, str) or all(isinstance(i, int) for i in text))
    return False
