"""A call of one method, from Python arguments to the C function and back."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from neve.errors import NeveError
from neve.runtime.context import Context, error
from neve.runtime.native import address
from neve.runtime.passed import put_back, refuse_fixed
from neve.runtime.signature import MethodSignature
from neve.runtime.sizes import Sizes, Solver
from neve.runtime.tensors import (
    NUMPY,
    allocate,
    cut,
    is_torch,
    misaligned,
    overwrite,
    prepare,
    refuse_shared,
    torch_dtype,
    torch_module,
)
from neve.runtime.trees import builder, flatten

_PLANS = 256  # input shapes remembered per method
_TEMPLATE = 2**17  # elements
_CAPACITY = 64  # for how many of a size that nothing bounds a first call has memory
TOO_LONG = 5
"""The error code of a call that needs more."""


class _Plan:
    """A call with certain input shapes, made ready: its io block has all but the pointers."""

    def __init__(self, sizes: Sizes, method: MethodSignature) -> None:
        self.sizes = sizes
        count, symbols = len(method.inputs) + len(method.outputs), len(sizes.symbols)
        self.io = (ctypes.c_int64 * (count + symbols + 2 + bool(method.measured)))()
        self.io[count : count + symbols] = list(sizes.symbols)
        self.io[count + symbols + 1] = sizes.workspace
        self.at = ctypes.addressof(self.io)
        self.place = count + symbols  # of the workspace's address
        self.measured = (ctypes.c_int64 * len(method.measured))()
        if method.measured:
            self.io[count + symbols + 2] = ctypes.addressof(self.measured)
        self.new: list[Callable[[], Any]] = []  # makes the outputs, once the fast path of torch is in use

    def prepare_torch(self, torch: Any, method: MethodSignature) -> None:
        """empty_like takes half of the time of empty, but its template takes memory."""
        for shape, tensor in zip(self.sizes.outputs, method.outputs, strict=True):
            make = functools.partial(torch.empty, shape, dtype=torch_dtype(torch, tensor.dtype), device="cpu")
            small = math.prod(shape) <= _TEMPLATE
            self.new.append(functools.partial(torch.empty_like, make()) if small else make)


class Entry:
    """A method bound to a context.

    `slow` makes any call. Once `fast_plans` has something, `fast_path` makes the calls with plain contiguous torch
    tensors of shapes that were seen before in a few microseconds.
    """

    def __init__(self, context: Context, method: MethodSignature) -> None:
        self.context, self.method = context, method
        self.function = context.library.method(method.symbol)
        self.build = builder(method.out_tree)
        self.fast_plans: dict[Any, _Plan] = {}
        self._plans: dict[tuple[Any, ...], _Plan] = {}
        self._array_plans: dict[Any, _Plan] = {}
        self._array_dtypes = [NUMPY[t.dtype] for t in method.inputs]
        self._solver = Solver(method)
        self._flat = not method.kwargs and list(method.args) == [{"leaf": i} for i in range(len(method.inputs))]
        self._capacities = (_CAPACITY,) * len(method.capacities)
        self._lazy = any(t.dtype.startswith("complex") for t in method.inputs)  # arguments may be conjugates
        self._valued = [i for i, t in enumerate(method.inputs) if t.symbol]

    def slow(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Any call, with every argument checked."""
        if self._array_plans and not kwargs and (results := self._arrays(args)) is not None:
            return self.build(results)
        method = self.method
        simple = self._flat and not kwargs and len(args) == len(method.inputs)
        again = simple and not method.writes and not method.measured  # whether later calls may take a faster path
        leaves = list(args) if simple else flatten(method, args, kwargs)
        ready = [prepare(value, t, method.name) for value, t in zip(leaves, method.inputs, strict=True)]
        given = tuple([shape for _, shape, _ in ready])
        plan = self._plan(given, leaves)
        refuse_shared(method, leaves)
        refuse_fixed(method, args, kwargs)
        torch = torch_module()
        tensors = [value for value, t in zip(leaves, method.inputs, strict=True) if not t.scalar]
        if torch is not None and tensors and not any(is_torch(value) for value in tensors):
            torch = None
        if torch is not None and again and len(tensors) == len(leaves) > 0 and not self._lazy:
            if not plan.new:
                plan.prepare_torch(torch, method)
            self.fast_plans[given if len(given) > 1 else given[0]] = plan
        if torch is None and again and len(tensors) == len(leaves) > 0:
            self._array_plans[given] = plan
        outputs, measured = self._run_in(plan, ready, torch)
        while self._grown(measured):
            plan = self._plan(given, leaves)
            outputs, measured = self._run_in(plan, ready, torch)
        if measured:
            shapes = self._solver.shapes(plan.sizes.symbols, measured)
            outputs = [cut(y, shape) for y, shape in zip(outputs, shapes, strict=True)]
        for i, k in method.writes:
            overwrite(leaves[i], outputs[k])
        put_back(method, args, kwargs, leaves, outputs)
        return self.build(outputs)

    def _run_in(self, plan: _Plan, ready: Sequence[Any], torch: Any) -> tuple[list[Any], list[int]]:
        """Outputs of a call, and the sizes that it has found out."""
        outputs, pointers = allocate(plan.sizes.outputs, self.method.outputs, torch)
        return outputs, self.run(plan, [pointer for pointer, _, _ in ready], pointers)

    def _grown(self, measured: Sequence[int]) -> bool:
        """Whether a size took more memory than there was: the next call is given enough."""
        needs = [measured[k] for k in self.method.capacities.values()]
        if all(n <= most for n, most in zip(needs, self._capacities, strict=True)):
            return False
        self._capacities = tuple(
            max(most, 1 << max(n - 1, 0).bit_length()) for n, most in zip(needs, self._capacities, strict=True)
        )
        return True

    def _arrays(self, args: tuple[Any, ...]) -> list[np.ndarray[Any, Any]] | None:
        """The results for plain contiguous numpy arrays of shapes that were seen before; None for all other calls."""
        if len(args) != len(self._array_dtypes):
            return None
        for x, dtype in zip(args, self._array_dtypes):  # noqa: B905 - lengths were just compared
            if type(x) is not np.ndarray or x.dtype is not dtype or not (x.flags.c_contiguous and x.flags.aligned):
                return None
        plan = self._array_plans.get(tuple([x.shape for x in args]))
        if plan is None:
            return None
        outputs, pointers = allocate(plan.sizes.outputs, self.method.outputs, None)
        self.run(plan, [address(x) for x in args], pointers)
        return outputs

    def run(self, plan: _Plan, inputs: list[int], outputs: list[int]) -> list[int]:
        """One call of the C function, with the addresses of the tensors; gives the sizes that it finds out. If one is
        more than there was memory for, no other result is there.
        """
        context, io = self.context, plan.io
        with context.lock:
            for i, pointer in enumerate(inputs + outputs):
                io[i] = pointer or plan.at
            if plan.sizes.workspace:
                io[plan.place] = context.workspace(plan.sizes.workspace)
            code = context.call(self.function, plan.at)
            measured = list(plan.measured) if len(plan.measured) else []
        if code and (code != TOO_LONG or not self.method.capacities):
            raise error(self.method, code)
        return measured

    def _plan(self, shapes: tuple[tuple[int, ...], ...], leaves: list[Any]) -> _Plan:
        key = (shapes, self._capacities, *(int(leaves[i]) for i in self._valued))
        plan = self._plans.get(key)
        if plan is None:
            plan = _Plan(self._solver.solve(shapes, leaves, self._capacities), self.method)
            if len(self._plans) >= _PLANS:
                self._plans.clear()
                self.fast_plans.clear()
                self._array_plans.clear()
            self._plans[key] = plan
        return plan


def fast_path(entry: Entry) -> Callable[..., Any]:
    """A function for the calls that are in entry.fast_plans, which leaves all others to entry.slow."""
    torch, method, slow, plans, run, build = (
        torch_module(), entry.method, entry.slow, entry.fast_plans, entry.run, entry.build,
    )  # fmt: skip
    tensor, count = torch.Tensor, len(method.inputs)
    dtypes = tuple(torch_dtype(torch, t.dtype) for t in method.inputs)
    draws = entry.context.generator is not None

    def many(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != count:
            return slow(args, kwargs)
        for x, dtype in zip(args, dtypes):  # noqa: B905 - lengths were just compared
            if type(x) is not tensor or x.dtype is not dtype or not x.is_cpu or not x.is_contiguous() or x.is_neg():
                return slow(args, kwargs)
        plan = plans.get(tuple([x.shape for x in args]) if count > 1 else args[0].shape)
        if plan is None:
            return slow(args, kwargs)
        outputs = [new() for new in plan.new]
        try:
            run(plan, [x.data_ptr() for x in args], [y.data_ptr() for y in outputs])
        except NeveError:
            if any(map(misaligned, args)):
                return slow(args, kwargs)
            raise
        return build(outputs)

    if count != 1 or method.out_tree != {"leaf": 0} or len(method.outputs) != 1 or method.workspace != 0 or draws:
        return many
    (dtype,), context, lock, function, find = dtypes, entry.context, entry.context.lock, entry.function, plans.get
    at = context.at

    def one(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != 1:
            return slow(args, kwargs)
        (x,) = args
        if type(x) is not tensor or x.dtype is not dtype or not x.is_cpu or not x.is_contiguous() or x.is_neg():
            return slow(args, kwargs)
        plan = find(x.shape)
        if plan is None:
            return slow(args, kwargs)
        y = plan.new[0]()
        io, plan_at = plan.io, plan.at
        with lock:
            io[0] = x.data_ptr() or plan_at
            io[1] = y.data_ptr() or plan_at
            code = function(at, plan_at, context.parallel)
        if code:
            if misaligned(x):
                return slow(args, kwargs)
            raise error(method, code)
        return y

    return one
