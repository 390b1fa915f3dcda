"""What `neve lint` finds: the kinds, and one finding."""

from __future__ import annotations

from dataclasses import asdict, dataclass

ERRORS = {
    "unsupported-op": "an operator that neve does not compile",
    "data-dependent-control-flow": "Python's if, while, int() or the like on the values of a tensor",
    "data-dependent-shape": "a result whose size depends on the values of a tensor",
    "cannot-capture": "torch.export cannot follow the model, for another reason",
    "train-mode": "dropout or batch statistics that eval() does not turn off, or a module left in training mode",
}
WARNINGS = {
    "unused-weight": "a parameter or buffer that no result depends on",
    "dead-submodule": "a submodule that is never called, or whose result is never used",
    "constant-output": "an output that depends on no input",
    "huge-intermediate": "a tensor of the computation that takes more memory than a limit",
    "unbounded-dim": "a varying size without a maximum: memory cannot be fixed in advance",
    "float64-leak": "double precision in a model whose inputs are not",
    "plain-loops": "a product, convolution, attention or recurrent layer that no kernel takes as it is",
    "blocked-fusion": "an activation, or a second use, that keeps two layers from becoming one",
}
CODES = ERRORS | WARNINGS
HUGE = 64 << 20
"""Bytes from which an intermediate tensor is worth a warning."""


@dataclass(frozen=True)
class Finding:
    """One thing to fix. module is a dotted path ("" for the model itself), source is file:line where known."""

    code: str
    what: str
    fix: str
    module: str = ""
    source: str = ""
    method: str = "forward"

    @property
    def level(self) -> str:
        return "error" if self.code in ERRORS else "warning"

    def json(self) -> dict[str, str]:
        return {"level": self.level, **asdict(self)}

    def __str__(self) -> str:
        place = ", ".join(x for x in (self.source, f"in {self.module}" if self.module else "") if x)
        return f"{place or self.method}: {self.level}: {self.what}: {self.fix} [{self.code}]"
