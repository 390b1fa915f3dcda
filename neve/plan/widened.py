"""Small constants of half types are also kept as float32, for the expressions that widen them.

A bias that a kernel's store adds is read for every row of a tile: widening it each time costs as much as adding it.
"""

from __future__ import annotations

import math

import numpy as np

from neve.ir.graph import ConstTensor
from neve.ir.index import Substitution
from neve.ir.loops import Call, Expr, Guard, Load, Tensor
from neve.ir.types import DType
from neve.plan.stages import Compute

MOST_ELEMENTS = 4096


class Widened:
    """The float32 forms of a method's constants.

    constants maps the program's to their tensors, and gets what is added; views has the views of them.
    """

    def __init__(self, constants: dict[ConstTensor, Tensor]) -> None:
        self.constants = constants
        self.views: dict[Tensor, Compute] = {}
        self._contents: dict[Tensor, ConstTensor] = {}
        self._forms: dict[Tensor, Tensor] = {}

    def add(self, constant: ConstTensor, t: Tensor) -> None:
        """t is that constant."""
        self._contents[t] = constant

    def expression(self, e: Expr) -> Expr:
        """e, reading float32 where it widens what there is such a form of."""
        if isinstance(e, Call):
            args = tuple(self.expression(a) for a in e.args)
            if e.fn == "cast" and e.dtype is DType.float32 and isinstance(args[0], Load):
                return self._read(args[0]) or e
            return e if args == e.args else Call(e.fn, args, e.dtype)
        if isinstance(e, Guard):
            return Guard(e.conditions, self.expression(e.then), self.expression(e.other))
        return e

    def _read(self, load: Load) -> Load | None:
        while (view := self.views.get(load.tensor)) is not None and isinstance(view.expr, Load):
            values: Substitution = dict(zip(view.vars, load.index, strict=True))
            source = view.expr.subs(values)
            assert isinstance(source, Load)
            load = source
        constant = self._contents.get(load.tensor)
        if constant is None or constant.dtype not in (DType.float16, DType.bfloat16):
            return None
        if math.prod(constant.array.shape) > MOST_ELEMENTS:
            return None
        if load.tensor not in self._forms:
            form = ConstTensor(constant.name, np.asarray(constant.array, np.float32), DType.float32)
            self._forms[load.tensor] = self.constants[form] = Tensor(form.type, constant.name)
        return Load(self._forms[load.tensor], load.index)
