"""`torch.jit.freeze` and its like under their old names: a snapshot of a model, compiled, that takes any shapes."""

from __future__ import annotations

from neve.frozen.calls import freeze, optimize_for_inference, run_frozen_optimizations
from neve.frozen.explain import Explanation, Fate, explain_state
from neve.frozen.module import FrozenModule

__all__ = [
    "Explanation",
    "Fate",
    "FrozenModule",
    "explain_state",
    "freeze",
    "optimize_for_inference",
    "run_frozen_optimizations",
]
