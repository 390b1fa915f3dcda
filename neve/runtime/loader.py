"""A compiled program as a Python object: torch tensors in, torch tensors out; numpy arrays in, numpy arrays out."""

from __future__ import annotations

import ctypes
import functools
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np

from neve.errors import ArtifactError, InputError, ModelError, NeveError
from neve.runtime.native import Bytes, NativeLibrary, address, aligned, default_threads, pool
from neve.runtime.signature import MethodSignature, Signature, read_signature
from neve.runtime.sizes import Sizes, Solver
from neve.runtime.tensors import NUMPY, allocate, is_torch, prepare, torch_dtype, torch_module
from neve.runtime.trees import builder, flatten

_PLANS = 256  # input shapes remembered per method
_TEMPLATE = 2**17  # elements
_RAISED = 16
_ERRORS: dict[int, tuple[type[NeveError], str]] = {
    1: (InputError, "the sizes are out of range or contradict each other"),
    2: (InputError, "a tensor is not where the code expects it"),
    3: (ArtifactError, "the weights are not those that the code was generated for"),
    4: (NeveError, "the context is not initialised"),
}


class _Plan:
    """A call with certain input shapes, made ready: its io block has all but the pointers."""

    def __init__(self, sizes: Sizes, method: MethodSignature) -> None:
        self.sizes = sizes
        count = len(method.inputs) + len(method.outputs)
        self.io = (ctypes.c_int64 * (count + len(sizes.symbols) + 2))()
        self.io[count : count + len(sizes.symbols)] = list(sizes.symbols)
        self.io[count + len(sizes.symbols) + 1] = sizes.workspace
        self.at = ctypes.addressof(self.io)
        self.new: list[Callable[[], Any]] = []  # makes the outputs, once the fast path of torch is in use

    def prepare_torch(self, torch: Any, method: MethodSignature) -> None:
        """empty_like takes half of the time of empty, but its template takes memory."""
        for shape, tensor in zip(self.sizes.outputs, method.outputs, strict=True):
            make = functools.partial(torch.empty, shape, dtype=torch_dtype(torch, tensor.dtype), device="cpu")
            small = math.prod(shape) <= _TEMPLATE
            self.new.append(functools.partial(torch.empty_like, make()) if small else make)


class Method:
    """One entry point of a Module; call it like the model's own method.

    Arguments are torch tensors or numpy arrays of the dtypes in `signature` (any strides; detached from autograd), and Python
    numbers where the model took them. If any argument is a torch tensor, or there are none and torch is imported, the outputs
    are torch tensors; bfloat16 is uint16 in numpy. InputError tells which argument is wrong; ModelError: the model raised.
    """

    def __init__(self, module: Module, signature: MethodSignature) -> None:
        self.signature = signature
        self.__name__ = signature.name
        self._module = module
        self._function = module._library.method(signature.symbol)
        self._solver = Solver(signature)
        self._build = builder(signature.out_tree)
        self._plans: dict[tuple[Any, ...], _Plan] = {}
        self._fast_plans: dict[Any, _Plan] = {}
        self._symbolic = [i for i, t in enumerate(signature.inputs) if t.symbol]
        self.fast: Callable[..., Any] = self._call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fast(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<method {self.signature}>"

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        """Any call; makes the fast path ready where one is possible."""
        method = self.signature
        leaves = flatten(method, args, kwargs)
        ready = [prepare(value, t, method.name) for value, t in zip(leaves, method.inputs, strict=True)]
        key = (*(shape for _, shape, _ in ready), *(int(leaves[i]) for i in self._symbolic))
        plan = self._plans.get(key)
        if plan is None:
            plan = _Plan(self._solver.solve([shape for _, shape, _ in ready], leaves), method)
            if len(self._plans) >= _PLANS:
                self._plans.clear()
                self._fast_plans.clear()
            self._plans[key] = plan
        torch = torch_module()
        tensors = [v for v, t in zip(leaves, method.inputs, strict=True) if not t.scalar]
        if torch is None or (tensors and not any(is_torch(v) for v in tensors)):
            torch = None
        elif _flat(method) and not kwargs:
            if self.fast == self._call:
                self.fast = _fast_path(self, torch)
            if not plan.new:
                plan.prepare_torch(torch, method)
            self._fast_plans[key if len(key) > 1 else key[0]] = plan
        outputs, pointers = allocate(plan.sizes.outputs, method.outputs, torch)
        self.run(plan, [pointer for pointer, _, _ in ready], pointers)
        return self._build(outputs)

    def run(self, plan: _Plan, inputs: list[int], outputs: list[int]) -> None:
        """One call of the C function, with the addresses of the tensors."""
        module = self._module
        with module._lock:
            io = plan.io
            for i, pointer in enumerate(inputs + outputs):
                io[i] = pointer or plan.at
            if plan.sizes.workspace:
                io[len(io) - 2] = module._workspace(plan.sizes.workspace)
            code = self._function(module._at, plan.at, module._parallel)
        if code:
            self.fail(code)

    def fail(self, code: int) -> None:
        """Raises what an error code of the C function stands for."""
        name, raises = self.signature.name, self.signature.raises
        if code >= _RAISED:
            index = code - _RAISED
            text = raises[index] if index < len(raises) else "an assert or raise in the model was reached"
            raise ModelError(f"{name}: the model raised: {text}")
        kind, text = _ERRORS.get(code, (NeveError, f"the C function returned the unknown code {code}"))
        raise kind(f"{name}: {text}; wanted {self.signature}")


def _flat(method: MethodSignature) -> bool:
    """Whether the arguments are the inputs, one by one, all tensors and at least one."""
    plain = [{"leaf": i} for i in range(len(method.inputs))]
    return bool(plain) and list(method.args) == plain and not any(t.scalar for t in method.inputs)


def _fast_path(method: Method, torch: Any) -> Callable[..., Any]:
    """The call for plain contiguous torch tensors of shapes seen before; everything else is left to Method._call."""
    signature, module, slow, plans, run = method.signature, method._module, method._call, method._fast_plans, method.run
    tensor, build, count = torch.Tensor, method._build, len(method.signature.inputs)
    dtypes = tuple(torch_dtype(torch, t.dtype) for t in signature.inputs)

    def many(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != count:
            return slow(*args, **kwargs)
        for x, dtype in zip(args, dtypes):  # noqa: B905 - lengths were just compared
            if type(x) is not tensor or x.dtype is not dtype or not x.is_cpu or not x.is_contiguous() or x.is_neg():
                return slow(*args)
        plan = plans.get(tuple([x.shape for x in args]) if count > 1 else args[0].shape)
        if plan is None:
            return slow(*args)
        outputs = [new() for new in plan.new]
        run(plan, [x.data_ptr() for x in args], [y.data_ptr() for y in outputs])
        return build(outputs)

    if count != 1 or signature.out_tree != {"leaf": 0} or len(signature.outputs) != 1 or signature.workspace != 0:
        return many
    (dtype,), lock, function, find = dtypes, module._lock, method._function, plans.get

    def one(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != 1:
            return slow(*args, **kwargs)
        (x,) = args
        if type(x) is not tensor or x.dtype is not dtype or not x.is_cpu or not x.is_contiguous() or x.is_neg():
            return slow(x)
        plan = find(x.shape)
        if plan is None:
            return slow(x)
        y = plan.new[0]()
        io = plan.io
        with lock:
            io[0] = x.data_ptr() or plan.at
            io[1] = y.data_ptr() or plan.at
            code = function(module._at, plan.at, module._parallel)
        if code:
            method.fail(code)
        return y

    return one


class StateView(MutableMapping[str, Any]):
    """A module's state by name: reading gives a numpy copy, assigning takes an array or tensor of the same dtype and shape."""

    def __init__(self, module: Module) -> None:
        self._module = module

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        with self._module._lock:
            return self._view(name).copy()

    def __setitem__(self, name: str, value: Any) -> None:
        view = self._view(name)
        if is_torch(value):
            if str(value.dtype) == "torch.bfloat16":
                value = value.detach().view(torch_module().int16).numpy().view(np.uint16)
            else:
                value = value.detach().cpu().numpy()
        value = np.asarray(value)
        if value.dtype != view.dtype or value.shape != view.shape:
            raise InputError(
                f"state {name!r}: got {value.dtype} {list(value.shape)}, wanted {view.dtype} {list(view.shape)}"
            )
        with self._module._lock:
            view[...] = value

    def __delitem__(self, name: str) -> None:
        raise NeveError("state cannot be removed; module.reset() restores its initial content")

    def __iter__(self) -> Iterator[str]:
        return iter(self._module.signature.state)

    def __len__(self) -> int:
        return len(self._module.signature.state)

    def __repr__(self) -> str:
        return repr({name: self[name] for name in self})

    def _view(self, name: str) -> np.ndarray[Any, Any]:
        states = self._module.signature.state
        if name not in states:
            raise KeyError(f"no state {name!r}; there is {', '.join(states) or 'none'}")
        state = states[name]
        dtype = NUMPY[state.dtype]
        size = int(np.prod(state.shape, dtype=np.int64)) * dtype.itemsize
        return self._module._context[state.offset : state.offset + size].view(dtype).reshape(state.shape)


class Module:
    """A compiled program: call it, or its other methods by name; `reset()` and `state` for models that remember.

    One module runs one call at a time: calls from several Python threads wait for each other. `clone()` gives another module
    on the same weights whose calls run beside this one's.
    """

    artifact: Any = None

    def __init__(
        self, library: NativeLibrary, signature: Signature, weights: Bytes, threads: int | None = None
    ) -> None:
        self.signature = signature
        self.name = signature.name
        self._library, self._lock, self._spare = library, threading.Lock(), aligned(0, "")
        if weights.nbytes != signature.weights_size:
            raise ArtifactError(f"{self.name}: got {weights.nbytes} bytes of weights, wanted {signature.weights_size}")
        size = library.context_size()
        if size != signature.context_size:
            raise ArtifactError(
                f"{self.name}: the library wants a context of {size} bytes, its signature says {signature.context_size}"
            )
        self._weights = _aligned_weights(weights)
        self._context = aligned(size, f"the context of {self.name}")
        self._at = address(self._context)
        code = library.init(self._at, address(self._weights), self._weights.nbytes)
        if code:
            kind, text = _ERRORS.get(code, (NeveError, f"initialisation returned the code {code}"))
            raise kind(f"{self.name}: {text}")
        self.threads = default_threads() if threads is None else threads
        self.methods = {name: Method(self, m) for name, m in signature.methods.items()}
        self.state = StateView(self)
        self._forward = self.methods.get("forward") or next(iter(self.methods.values()))
        for name, method in self.methods.items():
            if not hasattr(self, name):
                setattr(self, name, method)
        _modules.add(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._forward.fast(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        methods = self.__dict__.get("methods", {})
        raise AttributeError(f"this module has no method or attribute {name!r}; its methods are {', '.join(methods)}")

    def __repr__(self) -> str:
        return "\n".join([f"<neve module {self.name}>", *(f"  {m.signature}" for m in self.methods.values())])

    def __reduce__(self) -> Any:
        raise TypeError(
            "a compiled module cannot be pickled or copied: use module.save(path) and neve.load(path), or module.clone()"
        )

    @property
    def threads(self) -> int:
        """On how many threads a call runs; the results are the same bits for any number."""
        return self._threads

    @threads.setter
    def threads(self, count: int) -> None:
        if type(count) is not int or count < 1:
            raise InputError(f"threads: got {count!r}, wanted 1 or more")
        self._parallel_block = pool(self._library, count)
        self._threads = count if self._parallel_block else 1
        self._parallel = ctypes.addressof(self._parallel_block) if self._parallel_block else None

    def reset(self) -> None:
        """All state back to its initial content."""
        with self._lock:
            self._library.reset(self._at)

    def clone(self) -> Module:
        """Another module on the same weights and code, with a state of its own that starts at its initial content."""
        made = Module(self._library, self.signature, self._weights, self.threads)
        made.artifact = self.artifact
        return made

    def save(self, path: str | Path) -> None:
        """Writes the `.neve` file; the state in it is the initial one."""
        if self.artifact is None:
            raise NeveError(f"{self.name} was opened without an artifact, so there is nothing to save")
        self.artifact.save(path)

    @property
    def graph(self) -> str:
        """The optimized graph as text, "" if it was opened without one."""
        return self.artifact.graph if self.artifact else ""

    @property
    def example_inputs(self) -> tuple[Any, ...]:
        """The arguments of the first example that came with the module, as numpy arrays; () if none did."""
        method = self._forward.signature
        examples = self.artifact.examples.get(method.name) if self.artifact else None
        return tuple(builder(tree)(examples[0].inputs) for tree in method.args) if examples else ()

    def _workspace(self, size: int) -> int:
        if self._spare.nbytes < size:
            self._spare = aligned(size, f"a call of {self.name}")
        return address(self._spare)


def open_library(path: Path | str, signature: dict[str, Any], weights: Bytes, threads: int | None = None) -> Module:
    """The module of a built library; signature is the JSON form of `neve.runtime.signature`, weights are used in place.

    ArtifactError if library, signature and weights do not belong together.
    """
    made = read_signature(signature)
    return Module(NativeLibrary(path, made.name), made, weights, threads)


def _aligned_weights(weights: Bytes) -> Bytes:
    flat = weights.reshape(-1).view(np.uint8)
    if address(flat) % 64 == 0:
        return flat
    copy = aligned(flat.nbytes, "the weights")
    copy[:] = flat
    return copy


_modules: weakref.WeakSet[Module] = weakref.WeakSet()


def _after_fork() -> None:
    """A lock that another thread held at the fork would stay locked in the child for ever."""
    for module in list(_modules):
        module._lock = threading.Lock()
        for method in module.methods.values():
            method.fast = method._call


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
