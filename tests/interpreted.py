"""A captured program as a module of the interpreter's: called and set like a compiled one, with no C built."""

from __future__ import annotations

import threading
from collections.abc import Iterator, MutableMapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from neve.ir import walk
from neve.ir.graph import Program, StateVar
from neve.ir.interpret import interpret
from neve.ir.verify import verify_program
from neve.passes.pipeline import optimize
from neve.runtime.attributes import Attributes
from neve.runtime.signature import State
from neve.runtime.trees import builder

KINDS = {bool: np.bool_, int: np.int64, float: np.float64}


class _InPlace(MutableMapping[StateVar, np.ndarray]):
    """State whose arrays stay where they are."""

    def __init__(self, states: list[StateVar]) -> None:
        self.arrays = {s: np.array(s.init) for s in states}

    def __getitem__(self, s: StateVar) -> np.ndarray:
        return self.arrays[s]

    def __setitem__(self, s: StateVar, value: np.ndarray) -> None:
        self.arrays[s][...] = value

    def __delitem__(self, s: StateVar) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[StateVar]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)


class Interpreted:
    """call("encode", x), attributes, reset(): as `neve.runtime.loader.Module`, after all passes or none."""

    def __init__(self, program: Program, passes: bool = True) -> None:
        program = optimize(program)[0] if passes else program
        verify_program(program)
        self.program, self.lock = program, threading.Lock()
        states = walk.states(program)
        self.values = _InPlace(states)
        self._named = {s.name: s for s in states}
        described = {s.name: State(s.name, s.dtype.value, s.init.shape, 0) for s in states}
        self.signature = SimpleNamespace(state=described, attributes=program.attributes)
        self.attributes = Attributes(self)  # type: ignore[arg-type]

    def state(self, name: str) -> np.ndarray:
        return self.values[self._named[name]].reshape(-1).view(np.uint8)

    def reset(self) -> None:
        for s in self.values:
            self.values[s] = s.init

    def call(self, method: str, *args: Any) -> Any:
        made = self.program.methods[method]
        flat = [x for x in pytree.tree_leaves(args) if isinstance(x, torch.Tensor) or type(x) in KINDS]
        flat = [x.numpy() if isinstance(x, torch.Tensor) else np.asarray(x, KINDS[type(x)]) for x in flat]
        flat = flat[: len(made.graph.inputs)]
        outs = interpret(made.graph, flat, self.values)
        return builder(made.out_tree)([torch.from_numpy(np.array(a)) for a in outs])

    def __call__(self, *args: Any) -> Any:
        return self.call("forward", *args)
