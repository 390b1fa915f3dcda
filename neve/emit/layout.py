"""Memory of a context: where state, scratch and the arena are, and the workspace where sizes have no bound."""

from __future__ import annotations

from collections.abc import Mapping

from neve.emit.unit import Unit
from neve.ir.bounds import bounds
from neve.ir.graph import StateVar
from neve.ir.index import Index
from neve.ir.types import Range, to_bytes

HEADER_BYTES = 192
"""Context header: magic, weights pointer, barrier."""
VAST = 1 << 22
"""A size that may be as large is given its memory call by call, as one without an upper bound."""


def bounded(size: Index, ranges: Mapping[str, Range]) -> int | Index:
    """Bytes that are enough for every size if every symbol in it has an upper bound, else the formula."""
    given = {s: ranges[str(s)] for s in size.symbols}
    if any(r.max is None or r.max >= VAST for r in given.values()):
        return size
    found = bounds(size, given)
    return size if found is None else int(found[1])


class Layout:
    """Byte offsets inside the context, and the workspace of methods whose sizes have no bound."""

    def __init__(
        self,
        states: list[StateVar],
        needs: Mapping[str, tuple[int | Index, int | Index, int | Index]],
        unit: Unit,
        threads: int,
    ) -> None:
        at = HEADER_BYTES
        self.states: dict[StateVar, int] = {}
        for s in states:
            self.states[s] = at
            at += -(-max(s.init.size * s.dtype.size, 1) // 64) * 64
        self.initial = {s: unit.weights.add(to_bytes(s.init, s.dtype)) for s in states}
        self.threads = threads
        self.outside = {
            k: tuple(Index.of(n) for n in v) for k, v in needs.items() if any(isinstance(n, Index) for n in v)
        }
        inside = [tuple(int(n) for n in v if isinstance(n, int)) for k, v in needs.items() if k not in self.outside]
        arena, scratch, shared = (max((-(-v[i] // 64) * 64 for v in inside), default=0) for i in range(3))
        self.shared, self.scratch_at, self.scratch = at, at + shared, scratch
        self.arena = self.scratch_at + threads * scratch
        self.size = self.arena + arena
        self.workspaces = {
            k: arena + shared + scratch * threads for k, (arena, scratch, shared) in self.outside.items()
        }

    def places(self, method: str, unit: Unit) -> tuple[str, str, str, str]:
        """C of a method's arena, of its scratch, of the bytes of that a thread, and of its shared scratch."""
        if method not in self.outside:
            return (
                f"(char *)ctx + {self.arena}",
                f"ctx + {self.scratch_at}",
                f"INT64_C({self.scratch})",
                f"ctx + {self.shared}",
            )
        arena, scratch, shared = self.outside[method]
        return (
            "(char *)io->workspace",
            f"a + {unit.size(arena + shared)}",
            str(unit.size(scratch)),
            f"a + {unit.size(arena)}",
        )
