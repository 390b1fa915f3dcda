"""Flat calls of a loaded module's methods: inputs from files, examples or chance; outputs as a list; time taken."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neve.cli.console import UsageError
from neve.runtime.expressions import compile_sizes
from neve.runtime.loader import Method, Module
from neve.runtime.passed import changed
from neve.runtime.signature import MethodSignature
from neve.runtime.tensors import NUMPY, allocate, prepare
from neve.runtime.trees import arguments, outputs_of

Array = npt.NDArray[Any]


def pick_method(module: Module, name: str | None) -> Method:
    """The method of this name, by default forward, or the only one."""
    if name is None:
        name = "forward" if "forward" in module.methods else next(iter(module.methods))
    if name not in module.methods:
        raise UsageError(f"{module.name} has no method {name!r}, only {', '.join(module.methods)}")
    return module.methods[name]


def read_inputs(method: MethodSignature, files: Sequence[Path]) -> list[Array]:
    """The inputs in order, out of .npy files, or one .npz by the inputs' names (or in0, in1, …)."""
    wanted = [t.name for t in method.inputs]
    arrays: list[Array] = []
    for path in files:
        try:
            loaded = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UsageError(f"{path} is no .npy or .npz file of plain arrays: {error}") from error
        if isinstance(loaded, np.ndarray):
            arrays.append(loaded)
            continue
        for i, name in enumerate(wanted):
            key = next((k for k in (name, f"in{i}") if k in loaded), None)
            if key is None:
                raise UsageError(f"{path} has no array {name!r}, only {', '.join(loaded)}; wanted {', '.join(wanted)}")
            arrays.append(loaded[key])
    if len(arrays) != len(wanted):
        raise UsageError(f"{method.name} takes {len(wanted)} inputs ({', '.join(wanted)}), {len(arrays)} were given")
    return arrays


def random_inputs(method: MethodSignature, seed: int, sizes: Mapping[str, int]) -> list[Array]:
    """Normal numbers, integers that are 0 or 1 (right for token ids and masks alike), coins.

    sizes gives symbolic sizes their values; the others are their smallest, but 2 or more where allowed.
    """
    names = [s.name for s in method.symbols]
    if unknown := set(sizes) - set(names):
        raise UsageError(f"--size: {method.name} has no size {', '.join(unknown)}; it has {', '.join(names) or 'none'}")
    values = [sizes.get(s.name, max(s.min, 2) if s.max is None else min(max(s.min, 2), s.max)) for s in method.symbols]
    draw = np.random.default_rng(seed)
    made: list[Array] = []
    for tensor in method.inputs:
        shape = compile_sizes(tensor.shape, names)(*values)
        dtype = NUMPY[tensor.dtype]
        if tensor.symbol:
            made.append(np.asarray(values[names.index(tensor.symbol)], dtype))
        elif tensor.dtype == "bfloat16":
            made.append((draw.standard_normal(shape, np.float32).view(np.uint32) >> 16).astype(np.uint16))
        elif dtype.kind == "f":
            made.append(np.asarray(draw.standard_normal(shape), dtype))
        else:
            made.append(np.asarray(draw.integers(0, 2, shape), dtype))
    return made


def example_inputs(module: Module, method: MethodSignature) -> list[Array] | None:
    """The inputs of the method's first example in the artifact, if it has any."""
    examples = module.artifact.examples.get(method.name)
    return list(examples[0].inputs) if examples else None


def call(method: Method, inputs: Sequence[Array]) -> list[Array]:
    """The flat outputs for flat inputs, arguments that are written in place among them."""
    signature = method.signature
    inputs = [a.copy() for a in inputs] if signature.writes else inputs
    args, kwargs = arguments(signature, inputs)
    outputs = outputs_of(signature.out_tree, method(*args, **kwargs))
    outputs |= changed(signature, args, kwargs, inputs)
    return [np.asarray(outputs[k]) for k in range(len(signature.outputs))]


@dataclass(frozen=True)
class Times:
    """Seconds of one kind of call."""

    threads: int
    calls: int
    median: float
    min: float
    p95: float
    mean: float

    def json(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def time_calls(module: Module, method: Method, inputs: Sequence[Array], seconds: float, warmup: float) -> Times:
    """The C function's time, called for `warmup` seconds, then measured for `seconds`, 10 times or more."""
    entry, signature = method._entry, method.signature
    if signature.capacities:
        call(method, inputs)  # after which there is memory for the lengths that these inputs give
    ready = [prepare(value, t, signature.name) for value, t in zip(inputs, signature.inputs, strict=True)]
    plan = entry._plan(tuple(shape for _, shape, _ in ready), list(inputs))
    outputs, places = allocate(plan.sizes.outputs, signature.outputs, None)
    given = [place for place, _, _ in ready]
    clock, run = time.perf_counter, entry.run
    end = clock() + warmup
    run(plan, given, places)
    while clock() < end:
        run(plan, given, places)
    taken: list[float] = []
    end = clock() + seconds
    while len(taken) < 10 or clock() < end:
        start = clock()
        run(plan, given, places)
        taken.append(clock() - start)
    del outputs
    taken.sort()
    p95 = taken[min(len(taken) - 1, int(0.95 * len(taken)))]
    return Times(module.threads, len(taken), statistics.median(taken), taken[0], p95, statistics.fmean(taken))


def numbers(array: Array, dtype: str) -> Array:
    """The array's values; bfloat16, which numpy does not have, as float32."""
    return (array.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else array
