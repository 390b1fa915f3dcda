"""NAME_prepare: the weights file computed from the constants in PyTorch's own layout, for hosts that keep only these.

The bytes are those of the file that is made here: the loops are the same, and no compiler joins their operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from neve.emit.unit import Folded, MethodWriter, Unit
from neve.emit.weights import WEIGHTS_HEADER, Weights
from neve.ir.buffers import Buffer, row_major
from neve.ir.graph import Origin
from neve.ir.index import Index
from neve.ir.loops import Load, Tensor
from neve.ir.types import to_bytes
from neve.kernels.kernel import Pack
from neve.plan.memory import Arena
from neve.plan.packing import pack_stages
from neve.plan.schedule import Schedule, viewed
from neve.plan.steps import Member, Nest


class Preparation:
    """How each array of a unit's weights file is made from `raw`, the file of constants.

    What values decide (`PackByValue`) is kept there as it is packed. states are the offsets of initial contents of
    state in the weights file, and their arrays.
    """

    def __init__(self, unit: Unit, states: Mapping[int, np.ndarray]) -> None:
        self.unit, self.raw, self.scratch = unit, Weights(), 0
        self.lines: list[str] = []
        for offset, array in states.items():
            if offset not in unit.folded:
                self._copy(offset, array)
        for offset, folded in unit.folded.items():
            t, pack = folded.constant, folded.pack
            if isinstance(pack, Pack):
                self._pack(offset, folded, pack)
                continue
            values = folded.schedule.array(t)
            assert values is not None
            self._copy(offset, to_bytes(values, t.dtype) if pack is None else pack.array(values, t.dtype))

    def _copy(self, offset: int, array: np.ndarray) -> None:
        if array.nbytes:
            self.lines.append(f"memcpy(to + {offset}, from + {self.raw.add(array)}, {array.nbytes});")

    def _pack(self, offset: int, folded: Folded, pack: Pack) -> None:
        plan, t = folded.schedule, folded.constant
        view = None if t in plan.constants else plan.views[t]
        source = t if view is None or not isinstance(view.expr, Load) else view.expr.tensor
        at = self.raw.add(to_bytes(plan.constants[source].array, source.dtype))
        packing = pack(t)
        buffers = {x: Buffer(x, "constant", row_major(x.shape), Index.of(0)) for x in (source, packing.array)}
        writer = _Writer(self.unit, buffers, {source: f"from + {at}", packing.array: f"to + {offset}"})
        for stage in pack_stages(packing, buffers, viewed(t, view), Origin())[0]:
            kernel, pointers, *_ = writer.nest(stage if isinstance(stage, Nest) else Nest((), [Member(stage, ())]))
            args = ", ".join(f"(void *)({p})" for p in pointers)
            self.lines.append(f"{{ void *const p[] = {{{args}}}; @K{kernel}@(p, 0, th); }}")
        self.scratch = max(self.scratch, writer.scratch.const or 0)

    def function(self, name: str) -> Iterator[str]:
        """C of NAME_prepare."""
        yield from (
            f"int {name}_prepare(const void *raw, size_t raw_size, void *weights, size_t size)",
            "{",
            "    if (NEVE_MISPLACED(raw, 64) || NEVE_MISPLACED(weights, 64)) return NEVE_BAD_POINTER;",
            f"    if (raw_size != {self.raw.size} || size != {self.unit.weights.size}) return NEVE_BAD_WEIGHTS;",
        )
        if self.unit.weights.size:
            yield from (
                f"    const uint64_t identity = UINT64_C(0x{self.unit.weights.identity:016x});",
                "    const char *const from = raw;",
                "    char *const to = weights;",
                "    uint64_t found;",
                "    memcpy(&found, from, 8);",
                f"    if (found != UINT64_C(0x{self.raw.identity:016x})) return NEVE_BAD_WEIGHTS;",
                f"    _Alignas(64) char scratch[{max(self.scratch, WEIGHTS_HEADER)}];",
                "    neve_thread alone = {0, 1, scratch, 0, 0, 0, 0}, *const th = &alone;",
                "    (void)th;",
                "    memset(to, 0, size);",
                *(f"    {line}" for line in self.lines),
                "    memcpy(to, &identity, 8);",
            )
        yield from ("    return NEVE_OK;", "}", "")


class _Writer(MethodWriter):
    """Writes loops between two files in memory."""

    def __init__(self, unit: Unit, buffers: dict[Tensor, Buffer], places: Mapping[Tensor, str]) -> None:
        super().__init__(unit, Schedule([], buffers, {}, (), (), {}, {}, {}), Arena({}, Index.of(0)))
        self.places = places

    def base(self, buffer: Buffer) -> str:
        return self.places[buffer.root.tensor]
