"""A context: the memory in which one instance of a compiled program lives, with its weights, threads and lock."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable

from neve.build.source import DTYPES
from neve.errors import ArtifactError, InputError, NeveError, raised
from neve.runtime.native import Bytes, NativeLibrary, address, aligned, pool
from neve.runtime.signature import MethodSignature, Signature
from neve.runtime.tensors import torch_module

GENERATOR = "torch.default_generator"
"""The state of this name has the form of `torch.get_rng_state()`; first it is seeded with DEFAULT_SEED."""
DEFAULT_SEED = 67280421310721
RAISED = 16
ERRORS: dict[int, tuple[type[NeveError], str]] = {
    1: (InputError, "the sizes are out of range or contradict each other"),
    2: (InputError, "a tensor is not where the code expects it"),
    5: (InputError, "a length that data decide is more than there is memory for"),
    3: (ArtifactError, "the weights are not those that the code was generated for"),
    4: (NeveError, "the context is not initialised"),
}


class Context:
    """One initialised context. `lock` is held during a call; the rest is for whoever holds it.

    ArtifactError if library, signature and weights do not belong together.
    """

    def __init__(self, library: NativeLibrary, signature: Signature, weights: Bytes, threads: int) -> None:
        self.library, self.signature, self.lock = library, signature, threading.Lock()
        name, size = signature.name, library.context_size()
        if weights.nbytes != signature.weights_size:
            raise ArtifactError(f"{name}: got {weights.nbytes} bytes of weights, wanted {signature.weights_size}")
        if size != signature.context_size:
            raise ArtifactError(
                f"{name}: the library wants a context of {size} bytes, its signature says {signature.context_size}"
            )
        self.weights = _aligned_weights(weights)
        self.memory = aligned(size, f"the context of {name}")
        self.at = address(self.memory)
        code = library.init(self.at, address(self.weights), self.weights.nbytes)
        if code:
            kind, text = ERRORS.get(code, (NeveError, f"initialisation returned the code {code}"))
            raise kind(f"{name}: {text}")
        self._spare = aligned(0, "")
        self.generator = self.state(GENERATOR) if GENERATOR in signature.state else None
        self.own_numbers = False
        self.use_threads(threads)
        _contexts.add(self)

    def use_threads(self, count: int) -> None:
        """Lets calls run on this many threads, or as many as the model can use; on one if the library has no pool."""
        if type(count) is not int or count < 1:
            raise InputError(f"threads: got {count!r}, wanted 1 or more")
        count = min(count, self.signature.threads)
        block = pool(self.library, count)
        with self.lock:
            self.threads = count if block else 1
            self._block = block
            self.parallel = ctypes.addressof(block) if block else None

    def reset(self) -> None:
        """All state back to its initial content."""
        with self.lock:
            self.library.reset(self.at)
            self.own_numbers = False

    def seed(self, seed: int | None) -> None:
        """Seeds the random numbers, which from here on are the context's own; None: they are torch's again, if there is
        torch. NeveError if it draws none.
        """
        if self.generator is None or self.library.seed is None:
            raise NeveError(f"{self.signature.name} draws no random numbers, so there is nothing to seed")
        if seed is None:
            self.own_numbers = False
            return
        if type(seed) is not int or not -(2**63) <= seed < 2**64:
            raise InputError(f"manual_seed: got {seed!r}, wanted an int of 64 bits")
        with self.lock:
            self.library.seed(self.at, seed % 2**64)
            self.own_numbers = True

    def call(self, function: Callable[..., int], plan: int) -> int:
        """Calls a method's C function; the lock is held. Random numbers are those of torch's generator, if this process
        has imported torch and the context was not seeded, and that goes on as if eager code had drawn them.
        """
        torch = None if self.generator is None or self.own_numbers else torch_module()
        if torch is None or self.generator is None:
            return function(self.at, plan, self.parallel)
        shared = torch.default_generator
        self.generator[:] = shared.get_state().numpy()
        try:
            return function(self.at, plan, self.parallel)
        finally:
            shared.set_state(torch.from_numpy(self.generator))

    def workspace(self, size: int) -> int:
        """The address of a workspace of at least this many bytes, the same one for all calls."""
        if self._spare.nbytes < size:
            self._spare = aligned(size, f"a call of {self.signature.name}")
        return address(self._spare)

    def state(self, name: str) -> Bytes:
        """The bytes of a state tensor, in place; KeyError if there is no such state."""
        state = self.signature.state[name]
        size = DTYPES[state.dtype]
        for dim in state.shape:
            size *= dim
        return self.memory[state.offset : state.offset + size]


def error(method: MethodSignature, code: int) -> NeveError:
    """What an error code of a method's C function stands for."""
    if code >= RAISED:
        index = code - RAISED
        text = "an assert or raise in the model was reached"
        if index < len(method.raises):
            text = method.raises[index]
        return raised(text, method.name)
    kind, text = ERRORS.get(code, (NeveError, f"the C function returned the unknown code {code}"))
    return kind(f"{method.name}: {text}; wanted {method}")


def _aligned_weights(weights: Bytes) -> Bytes:
    flat = weights.reshape(-1)
    if address(flat) % 64 == 0:
        return flat
    copy = aligned(flat.nbytes, "the weights")
    copy[:] = flat
    return copy


_contexts: weakref.WeakSet[Context] = weakref.WeakSet()


def _after_fork() -> None:
    """A lock that another thread held at the fork would stay locked in the child for ever."""
    for context in list(_contexts):
        context.lock._at_fork_reinit()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
