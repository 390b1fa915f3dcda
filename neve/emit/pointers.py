"""The operand pointers of one kernel function: what they point to at the call, and their declarations inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from neve.emit.expressions import Emitter
from neve.emit.statements import LetOperand, LetScratch, Local, Statement, names
from neve.ir.buffers import Buffer
from neve.ir.loops import Tensor


class Pointers:
    """texts has C of each pointer at the call; base gives that of a root buffer."""

    def __init__(self, buffers: Mapping[Tensor, Buffer], base: Callable[[Buffer], str], lanes: int) -> None:
        self.buffers, self.base, self.lanes = buffers, base, lanes
        self.texts: list[str] = []
        self.places: dict[Buffer, int] = {}
        self.rows: list[Buffer] = []

    def fixed(self, text: str) -> None:
        """An operand that the kernel addresses by its position."""
        self.texts.append(text)

    def emitter(self) -> Emitter:
        return Emitter(self.buffers, self.pointer, self.lanes)

    def pointer(self, buffer: Buffer) -> Local:
        root = buffer.root
        if root.place == "row":
            if root not in self.rows:
                self.rows.append(root)
            return Local(f"row{self.rows.index(root)}")
        if root not in self.places:
            self.places[root] = len(self.texts)
            self.texts.append(self.base(root))
        return Local(f"b{self.places[root]}")

    def declarations(self, written: set[Tensor], body: Sequence[Statement]) -> list[Statement]:
        """The pointers that a body uses; written has the tensors that it writes."""
        roots, used = {self.buffers[t].root for t in written}, set(names(body))
        out: list[Statement] = [LetOperand(f"b{k}", k, b.dtype, b in roots) for b, k in self.places.items()]
        out += [LetScratch(f"row{k}", b.slot, b.dtype) for k, b in enumerate(self.rows)]
        return [d for d in out if isinstance(d, (LetOperand, LetScratch)) and d.name in used]
