"""From the shapes of a call's arguments to its symbols, output shapes and workspace, with every mismatch explained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from neve.build.source import DTYPES
from neve.errors import ArtifactError, InputError, NeveError
from neve.runtime.expressions import Tree, compile_sizes, linear, show
from neve.runtime.signature import MethodSignature

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Sizes:
    """What a call with certain input shapes amounts to; workspace is in bytes. Where data decide sizes of outputs,
    outputs has for each the number of its elements that there is memory for.
    """

    symbols: tuple[int, ...]
    outputs: tuple[Shape, ...]
    workspace: int


@dataclass(frozen=True)
class _Step:
    """symbol = (the dim - rest(symbols so far)) / factor; dim None: the value of a scalar input."""

    symbol: str
    input: int
    dim: int | None
    factor: int
    rest: Callable[..., tuple[int, ...]]


class Solver:
    """The sizes of one method's calls. ArtifactError at once if some symbol cannot be found from the inputs."""

    def __init__(self, method: MethodSignature) -> None:
        self.method = method
        self.names = [s.name for s in method.symbols]
        self.steps = self._plan()
        self.inputs = compile_sizes([d for t in method.inputs for d in t.shape], self.names)
        shapes = [d for t in method.outputs for d in t.shape]
        self.outputs = compile_sizes(list(method.elements) if method.measured else shapes, self.names)
        self.found = compile_sizes(shapes, [*self.names, *method.measured])
        self.guards = compile_sizes([relation for relation, _ in method.guards], self.names)
        self.workspace = compile_sizes([method.workspace], self.names)

    def solve(self, shapes: Sequence[Shape], scalars: Sequence[Any], capacities: Sequence[int] = ()) -> Sizes:
        """The sizes for these input shapes (ranks already fit) and scalar arguments; InputError if they do not fit.

        capacities: for how many of each size there is to be memory that nothing bounds, 0 by default.
        """
        values = self._symbols(shapes, scalars, capacities)
        self._check_inputs(shapes, values)
        for symbol, value in zip(self.method.symbols, values, strict=True):
            if value < symbol.min or (symbol.max is not None and value > symbol.max):
                limits = f"{symbol.min} or more" if symbol.max is None else f"{symbol.min} to {symbol.max}"
                raise InputError(
                    f"{self._where(symbol.name)} is {value}, wanted {limits}: the sizes it was compiled for"
                )
        try:
            for (relation, message), holds in zip(self.method.guards, self.guards(*values), strict=True):
                if not holds:
                    got = ", ".join(f"{n} = {v}" for n, v in zip(self.names, values, strict=True))
                    wanted = show(relation)
                    raise InputError(f"{self.method.name}: {message or wanted} ({got}, wanted {wanted})")
            flat = iter(self.outputs(*values))
            (workspace,) = self.workspace(*values)
        except (ArithmeticError, ValueError) as error:
            if isinstance(error, NeveError):
                raise
            raise InputError(f"{self.method.name}: these sizes are impossible for the model: {error}") from error
        each = [(None,) if self.method.measured else t.shape for t in self.method.outputs]
        outputs = tuple(tuple(next(flat) for _ in shape) for shape in each)
        for tensor, shape in zip(self.method.outputs, outputs, strict=True):
            if min(shape, default=0) < 0 or math.prod(shape) * DTYPES[tensor.dtype] >= 2**62:
                raise InputError(
                    f"{self.method.name}: with these inputs the output {tensor} would have the shape {list(shape)}"
                )
        return Sizes(values, outputs, max(0, int(workspace)))

    def shapes(self, symbols: Sequence[int], measured: Sequence[int]) -> list[Shape]:
        """The shapes of outputs after a call that found out these sizes."""
        flat = iter(self.found(*symbols, *measured))
        return [tuple(next(flat) for _ in t.shape) for t in self.method.outputs]

    def _plan(self) -> list[_Step]:
        equations = []
        for i, tensor in enumerate(self.method.inputs):
            dims: list[tuple[int | None, Tree]] = list(enumerate(tensor.shape))
            if tensor.symbol:
                dims = [(None, tensor.symbol)]
            for at, dim in dims:
                form = linear(dim, self.names)
                if form is not None and any(form[0].values()):
                    equations.append((i, at, {n: f for n, f in form[0].items() if f}, form[1]))
        # plain symbols first, so that a contradiction is blamed on the derived dim
        equations.sort(key=lambda e: (len(e[2]), e[2] != {next(iter(e[2])): 1} or e[3] != 0))
        known = list(self.method.capacities)
        steps: list[_Step] = []
        while len(known) < len(self.names):
            for i, at, factors, constant in equations:
                unknown = [n for n in factors if n not in known]
                if len(unknown) == 1:
                    rest = ["+", constant, 0, *(["*", f, n] for n, f in factors.items() if n in known)]
                    steps.append(_Step(unknown[0], i, at, factors[unknown[0]], compile_sizes([rest], list(known))))
                    known.append(unknown[0])
                    break
            else:
                missing = sorted(set(self.names) - set(known))
                raise ArtifactError(
                    f"{self.method.name}: no input tells the size {', '.join(missing)}; wanted {self.method}"
                )
        return steps

    def _symbols(self, shapes: Sequence[Shape], scalars: Sequence[Any], capacities: Sequence[int]) -> tuple[int, ...]:
        limits = self.method.capacities
        values = dict(zip(limits, capacities or [0] * len(limits), strict=True))
        for step in self.steps:
            got = int(scalars[step.input]) if step.dim is None else shapes[step.input][step.dim]
            (rest,) = step.rest(*values.values())
            value, left = divmod(got - rest, step.factor)
            if left:
                raise self._mismatch(step.input, shapes)
            values[step.symbol] = value
        return tuple(values[name] for name in self.names)

    def _check_inputs(self, shapes: Sequence[Shape], values: tuple[int, ...]) -> None:
        try:
            wanted = iter(self.inputs(*values))
        except (ArithmeticError, ValueError):
            wanted = iter(())
        for i, (tensor, shape) in enumerate(zip(self.method.inputs, shapes, strict=True)):
            expected = tuple(next(wanted, None) for _ in tensor.shape)
            if expected != tuple(shape):
                known = dict(zip(self.names, values, strict=True))
                raise self._mismatch(i, shapes, expected if known else None)

    def _mismatch(self, i: int, shapes: Sequence[Shape], expected: tuple[Any, ...] | None = None) -> InputError:
        tensor = self.method.inputs[i]
        text = f"{self.method.name}: {tensor.name}: got {tensor.dtype} {list(shapes[i])}, wanted {tensor}"
        if expected and None not in expected:
            text += f", which is {list(expected)} beside the other sizes"
        if not any(not isinstance(d, int) for d in tensor.shape):
            text += "; compile with dynamic_shapes for other sizes"
        return InputError(text)

    def _where(self, symbol: str) -> str:
        for tensor in self.method.inputs:
            if tensor.symbol == symbol:
                return f"{self.method.name}: {tensor.name}"
            if symbol in tensor.shape:
                return f"{self.method.name}: size {tensor.shape.index(symbol)} of {tensor.name} ({symbol})"
        return f"{self.method.name}: the size {symbol}"
