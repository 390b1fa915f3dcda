"""neve: PyTorch models frozen, packed and compiled to small freestanding C libraries that need no torch.

`neve.compile(model, (x,))` gives a module to call; `module.save("m.neve")` and `neve.load("m.neve")` move it to where
only numpy is.
"""

import importlib
from types import ModuleType

from neve import bundled_inputs
from neve.api import build_artifact, compile, convert, load, register_op
from neve.errors import (
    ArtifactError,
    BuildError,
    CacheError,
    CaptureError,
    FreezeError,
    InputError,
    ModelError,
    NeveError,
    VerifyError,
)
from neve.frozen import FrozenModule, explain_state, freeze, optimize_for_inference, run_frozen_optimizations
from neve.mobile import LintCode, MobileOptimizerType, generate_mobile_module_lints, optimize_for_mobile
from neve.runtime.loader import Module

__version__ = "0.1.0"

__all__ = [
    "ArtifactError",
    "BuildError",
    "CacheError",
    "CaptureError",
    "FreezeError",
    "FrozenModule",
    "InputError",
    "LintCode",
    "MobileOptimizerType",
    "ModelError",
    "Module",
    "NeveError",
    "VerifyError",
    "build_artifact",
    "bundled_inputs",
    "compile",
    "convert",
    "explain_state",
    "freeze",
    "generate_mobile_module_lints",
    "load",
    "optimize_for_inference",
    "optimize_for_mobile",
    "register_op",
    "run_frozen_optimizations",
    "sparsity",
]


def __getattr__(name: str) -> ModuleType:
    """neve.sparsity, which imports torch, when it is asked for."""
    if name == "sparsity":
        return importlib.import_module("neve.sparsity")
    raise AttributeError(f"module 'neve' has no attribute {name!r}")
