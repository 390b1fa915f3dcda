"""A compiled library in this process: its C functions, its memory, and the threads that it is lent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neve.build.toolchain import processors
from neve.errors import ArtifactError, NeveError

Bytes = npt.NDArray[np.uint8]
_ALIGN = 64


class Parallel(ctypes.Structure):
    """neve_parallel of neve.h."""

    _fields_ = (
        ("host", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
        ("run", ctypes.c_void_p),
        ("yield_", ctypes.c_void_p),
    )


class NativeLibrary:
    """A library opened with dlopen, closed again when the last module that uses it is gone."""

    def __init__(self, path: Path | str, name: str) -> None:
        try:
            self._dll = ctypes.CDLL(str(path))
            self.context_size = self._function(f"{name}_context_size", ctypes.c_size_t)
            self.init = self._function(f"{name}_init", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
            self.reset = self._function(f"{name}_reset", None, ctypes.c_void_p)
            self.seed = None
            if hasattr(self._dll, f"{name}_seed"):
                self.seed = self._function(f"{name}_seed", None, ctypes.c_void_p, ctypes.c_uint64)
        except (OSError, AttributeError) as error:
            raise ArtifactError(f"the library {path} cannot be used: {error}") from error
        self.path = path
        self._keep = False

    def method(self, symbol: str) -> Callable[[Any, Any, Any], int]:
        """The C function of a method: (context, io, parallel) as addresses."""
        try:
            function: Callable[[Any, Any, Any], int] = self._function(symbol, ctypes.c_int, *[ctypes.c_void_p] * 3)
            return function
        except AttributeError as error:
            raise ArtifactError(f"the library {self.path} has no function {symbol}") from error

    def new_pool(self, threads: int) -> Parallel | None:
        """What a call is handed to run on this many threads; None if the library was built without a pool."""
        try:
            host = self._function("neve_pool_new", ctypes.c_void_p, ctypes.c_int32)(threads)
            functions = [
                ctypes.cast(self._dll[name], ctypes.c_void_p).value for name in ("neve_pool_run", "neve_pool_yield")
            ]
        except AttributeError:
            return None
        if not host:
            return None
        self._keep = True
        return Parallel(host, threads, *functions)

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        function = self._dll[name]
        function.restype, function.argtypes = result, arguments
        return function

    def __del__(self) -> None:
        if getattr(self, "_keep", True) or os.name != "posix":
            return
        with contextlib.suppress(Exception):
            import _ctypes

            _ctypes.dlclose(self._dll._handle)


_pools: dict[int, Parallel] = {}
_pools_lock = threading.Lock()
os.register_at_fork(after_in_child=_pools_lock._at_fork_reinit) if hasattr(os, "register_at_fork") else None  # type: ignore[attr-defined]


def pool(library: NativeLibrary, threads: int) -> Parallel | None:
    """The process's pool of this many threads, which all modules share; None to work alone."""
    if threads <= 1:
        return None
    with _pools_lock:
        if threads not in _pools:
            made = library.new_pool(threads)
            if made is None:
                return None
            _pools[threads] = made
        return _pools[threads]


def default_threads() -> int:
    """$NEVE_THREADS, else as many as there are processors for this process."""
    asked = os.environ.get("NEVE_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else processors()


def aligned(size: int, what: str) -> Bytes:
    """Memory of this many bytes, at an address that 64 divides; not cleared."""
    try:
        data = np.empty(size + _ALIGN, np.uint8)
    except (MemoryError, ValueError) as error:
        raise NeveError(f"not enough memory for {what}: {size / 2**20:.1f} MB") from error
    start = -address(data) % _ALIGN
    return data[start : start + size]


def address(data: npt.NDArray[Any]) -> int:
    """Where an array's first element is."""
    found: int = data.__array_interface__["data"][0]
    return found
