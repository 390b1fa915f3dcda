"""x.data under torch.export, which loses track of it; without gradients it is x.detach()."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

ASSIGNED = "x.data = … gives a tensor other memory"
DATA: Any = torch.Tensor.data
READ, ASSIGN = DATA.__get__, DATA.__set__


class DataAsDetached(TorchFunctionMode):
    """Reads of x.data as x.detach(); assignments to it raise RuntimeError(ASSIGNED)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == READ:
            return args[0].detach()
        if func == ASSIGN:
            raise RuntimeError(ASSIGNED)
        return func(*args, **(kwargs or {}))
