"""`python -m tests.models.bytes NAME …`: hashes of all files that models become, twice in one process, as JSON."""

from __future__ import annotations

import gc
import hashlib
import json
import sys

import torch
from torch.export import Dim

from neve.build.target import native
from neve.capture.export import capture
from neve.emit.program import emit
from neve.ir.graph import Program
from neve.ir.text import print_program
from neve.passes.pipeline import optimize
from tests.models import zoo
from tests.models.small import SMALL

ANY_SIZE = ":any"
"""After a name of the zoo: with the sizes that vary in its tests."""


def program_of(name: str) -> Program:
    torch.manual_seed(0)
    if name in SMALL:
        make, draw = SMALL[name]
        return capture(make().eval(), draw())
    entry, varying = zoo.ZOO[name.removesuffix(ANY_SIZE)], name.endswith(ANY_SIZE)
    dims = {size: Dim(size, min=low, max=high) for size, (low, high) in entry.limits.items()} if varying else {}
    args = zoo.draw(name.removesuffix(ANY_SIZE), 1, **dict.fromkeys(dims, 3))
    shapes = dict(enumerate(dims.values()))
    each = tuple([shapes] * len(args))
    model = zoo.build(name.removesuffix(ANY_SIZE))
    if not dims:
        return capture(model, args)
    return capture(torch.export.export(model, args, dynamic_shapes=each if "mlp" in name else [each]))


def files(name: str) -> dict[str, str]:
    """The hash of each file by its name: C, headers, packed weights, signature, graph and log."""
    program, log = optimize(program_of(name))
    source = emit(program, native(), "m").source
    found = {k: v.encode() for k, v in source.files.items()}
    found["weights"] = source.weights.tobytes()
    found["signature"] = json.dumps(source.signature).encode()
    found["graph"] = print_program(program).encode()
    found["log"] = repr(log).encode()
    return {k: hashlib.blake2b(v, digest_size=16).hexdigest() for k, v in found.items()}


if __name__ == "__main__":
    out: dict[str, list[dict[str, str]]] = {}
    for model in sys.argv[1:]:
        out[model] = []
        for _ in range(2):
            out[model].append(files(model))
            gc.collect()
    sys.stdout.write(json.dumps(out))
