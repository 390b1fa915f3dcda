"""What differs between the releases of torch that neve takes: nothing else asks which one is installed."""

from __future__ import annotations

import re

import torch

RELEASE = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
_OF_THREAD, _OF_MODULE = "_is_fx_tracing_tls.flag", "_is_fx_tracing_flag"
FX_TRACING = _OF_MODULE if RELEASE < (2, 14) else _OF_THREAD
"""Where torch.fx._symbolic_trace notes that it traces; a thread that never traced has no such attribute."""
EMPTY_GROUPS_RAISE = RELEASE >= (2, 14)
"""Whether group_norm of images without pixels raises; before it gave the empty images."""
HAS_CHOLESKY = RELEASE < (2, 14)
"""Whether there is torch.cholesky."""
HAS_LANCZOS = RELEASE >= (2, 13)
"""Whether ATen resamples with Lanczos' filter."""
