"""Compile a C snippet that includes kernel templates, with each compiler at hand, and call its kernels through ctypes.

    source = '''
    #include "rt.h"
    #include "vec.h"
    #define KN(x) k1_##x
    ...
    #include "gemm/gemm.h"
    '''
    kernel = load(source, "gcc", "k1_run")
    kernel([a, b, c], sizes=(128,), threads=2, scratch=4096)

The snippet is compiled with the flags of generated code and -Wall -Wextra -Werror.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import mmap
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neve.emit import macros
from neve.ir.index import Index, Sym
from neve.kernels.kernel import Macro, Size

KERNELS = Path(__file__).resolve().parents[2] / "neve" / "kernels"
FLAGS = (
    "-std=gnu11",
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-ffreestanding",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Werror",
)
ISA = {
    "generic": (),
    "avx2": ("-mavx2", "-mfma", "-mf16c"),
    "avx512": ("-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl"),
}
ZIG = (sys.executable, "-m", "ziglang", "cc")
COMPILERS = {
    "gcc": ("gcc", "-shared", "-nostdlib", "-fno-tree-loop-if-convert"),
    "zig": (*ZIG, "-target", "x86_64-linux-gnu", "-shared", "-nostdlib", "-fno-sanitize=all"),
}

ENTRY = """
__attribute__((visibility("default"))) void test_{0}(void *const *p, const int64_t *s, neve_thread *th);
void test_{0}(void *const *p, const int64_t *s, neve_thread *th) {{ {0}(p, s, th); }}
__attribute__((visibility("default"))) void bench_{0}(void *const *p, const int64_t *s, neve_thread *th, int64_t reps);
void bench_{0}(void *const *p, const int64_t *s, neve_thread *th, int64_t reps)
{{ for (int64_t i = 0; i < reps; i++) {{ {0}(p, s, th); neve_barrier(th); }} }}
"""


S = tuple(Index.of(Sym(str(k))) for k in range(5))
"""Sizes that a kernel gets at run time, as s[0], s[1], …"""


def symbol(name: str) -> str:
    return f"s[{name}]"


def defines(pairs: Sequence[tuple[str, Macro]]) -> str:
    """The macros of a choice in C."""
    return "".join(f"{line}\n" for line in macros.defines(pairs, symbol))


def in_c(size: Size) -> str:
    """A size in C."""
    return macros.c_size(size, symbol)


class Thread(ctypes.Structure):
    """neve_thread of rt.h."""

    _fields_ = [
        ("tid", ctypes.c_int32),
        ("nt", ctypes.c_int32),
        ("scratch", ctypes.c_void_p),
        ("shared", ctypes.c_void_p),
        ("bar", ctypes.c_void_p),
        ("yield_", ctypes.c_void_p),
        ("host", ctypes.c_void_p),
    ]


def aligned(size: int, dtype: type = np.uint8) -> np.ndarray:
    """An uninitialised array of `size` elements whose first byte is 64-byte aligned."""
    n = size * np.dtype(dtype).itemsize
    raw = np.empty(n + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n].view(dtype)


def guarded(array: np.ndarray) -> np.ndarray:
    """A copy that ends where an unreadable page begins, so that touching anything past it is a crash."""
    page, size = mmap.PAGESIZE, array.nbytes
    span = -(-max(size, 1) // page) * page
    memory = mmap.mmap(-1, span + page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + span), ctypes.c_size_t(page), 0):
        raise OSError("mprotect failed")
    copy = np.frombuffer(memory, array.dtype, array.size, span - size).reshape(array.shape)
    copy[...] = array
    return copy


class Kernel:
    """A compiled kernel: call it with its arrays (operands in the template's order), sizes s[], number of threads."""

    def __init__(self, path: Path, name: str) -> None:
        lib = ctypes.CDLL(str(path))
        self._run = getattr(lib, f"test_{name}")
        self._bench = getattr(lib, f"bench_{name}")
        self.path = path

    def __call__(
        self,
        arrays: Sequence[np.ndarray | None],
        sizes: Sequence[int] = (),
        threads: int = 1,
        scratch: int = 0,
        shared: int = 0,
        reps: int = 0,
    ) -> None:
        """Run once on each of `threads` threads at the same time; with reps, that many times over inside C."""
        p = (ctypes.c_void_p * max(1, len(arrays)))(*[None if a is None else a.ctypes.data for a in arrays])
        s = (ctypes.c_int64 * max(1, len(sizes)))(*sizes)
        common, barrier = aligned(shared + 64), np.zeros(64, np.int32)
        own = [aligned(scratch + 64) for _ in range(threads)]
        for buffer in own:
            buffer[scratch:] = 0xA5
        args = [
            Thread(i, threads, own[i].ctypes.data, common.ctypes.data, barrier.ctypes.data, None, None)
            for i in range(threads)
        ]

        def call(i: int) -> None:
            if reps:
                self._bench(p, s, ctypes.byref(args[i]), ctypes.c_int64(reps))
            else:
                self._run(p, s, ctypes.byref(args[i]))

        others = [threading.Thread(target=call, args=(i,)) for i in range(1, threads)]
        for t in others:
            t.start()
        call(0)
        for t in others:
            t.join()
        assert all((buffer[scratch:] == 0xA5).all() for buffer in own), "the kernel wrote beyond its scratch"


@functools.cache
def compilers() -> tuple[str, ...]:
    """Names of the compilers that work here."""

    def works(command: Sequence[str]) -> bool:
        try:
            return subprocess.run([*command, "--version"], capture_output=True, check=False).returncode == 0
        except OSError:
            return False

    return tuple(n for n, c in COMPILERS.items() if works(["gcc"] if n == "gcc" else c[:4]))


def build(source: str, compiler: str, isa: str = "avx2", flags: Sequence[str] = ()) -> Path:
    """The shared library of a translation unit, from the cache if it, the headers and the flags are unchanged."""
    command = [*COMPILERS[compiler], *FLAGS, *ISA[isa], *flags, "-I", str(KERNELS)]
    digest = hashlib.sha256(
        "\0".join([source, *command, *(h.read_text() for h in sorted(KERNELS.rglob("*.h")))]).encode()
    )
    folder = Path(tempfile.gettempdir()) / f"neve-kernel-tests-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    path = folder / f"{compiler}-{digest.hexdigest()[:24]}.so"
    if not path.exists():
        unit = path.with_suffix(f".{os.getpid()}.c")
        unit.write_text(source)
        part = unit.with_suffix(".so")
        done = subprocess.run([*command, str(unit), "-o", str(part)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} {unit}\n{done.stderr}")
        os.replace(part, path)
        unit.unlink()
    return path


@functools.cache
def load_all(
    source: str, compiler: str, names: tuple[str, ...], isa: str = "avx2", flags: tuple[str, ...] = ()
) -> dict[str, Kernel]:
    """Several kernels of one snippet, compiled together."""
    path = build(source + "".join(ENTRY.format(name) for name in names), compiler, isa, flags)
    return {name: Kernel(path, name) for name in names}


def load(source: str, compiler: str, name: str, isa: str = "avx2", flags: tuple[str, ...] = ()) -> Kernel:
    """The kernel `name` (a static function of the snippet), compiled."""
    return load_all(source, compiler, (name,), isa, flags)[name]
