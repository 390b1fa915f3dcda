"""TorchScript without torch.jit: archives are read, their source interpreted, the result handed to torch.export.

`archive`, `pickles` and `source` read; `machine` interprets, with `branch`, `unroll` and `loop` for its control flow,
`grown` and `entries` for lengths that the inputs decide, `numbers`, `containers`, `tensors`, `attention`, `prepacked`
and `builtins` for what the code calls, on `values`; `tape` records, `memory` tells where tensors lie; `entry` finds
what is state; `replay` plays a recording under torch.export; `capture` is the way in.
"""

from __future__ import annotations

from neve.internals import require

require(
    "reading TorchScript",
    "torch._C._get_custom_class_python_wrapper",
    "torch._dynamo.source.ConstantSource",
)
