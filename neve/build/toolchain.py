"""Compilers: which there are, their flags, and a Source built to a shared library.

The compiler is $NEVE_CC, else the first that is found in the order of NATIVE (targets of this machine) or CROSS
(others): clang and gcc on PATH, "zig" being `zig cc` of the ziglang wheel. Libraries come from the cache when nothing
has changed.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from neve.build.cache import Cache, default_cache, digest, refused
from neve.build.elf import machine, missing_symbols
from neve.build.source import Source
from neve.build.target import Target, native, runs_here
from neve.errors import BuildError

NATIVE = ("clang", "gcc", "zig")  # preferred first; measured, see benchmarks/
CROSS = ("zig",)
HEADER = Path(__file__).parent.parent / "runtime" / "neve.h"
THREADS = HEADER.with_name("threads.c")

# NaN and Inf are to behave as in eager: nothing here may assume that they do not occur
FLAGS = (
    "-std=gnu11",
    "-O3",
    "-ffp-contract=off",  # eager rounds once an op; what may be fused says so (vfma)
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffreestanding",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-U_FORTIFY_SOURCE",
)
STRICT = ("-Wall", "-Wextra", "-Werror")
ISA_FLAGS = {
    "avx2": ("-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2"),
    "avx512": (
        *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2"),
        "-mprefer-vector-width=512",
    ),
    "wasm": ("-msimd128",),
}
TRIPLES = {
    "linux": "linux-gnu",
    "android": "linux-android",
    "macos": "macos",
    "ios": "ios",
    "windows": "windows-gnu",
    "none": "freestanding",
}
SUFFIXES = {"linux": ".so", "android": ".so", "macos": ".dylib", "ios": ".dylib", "windows": ".dll", "none": ".wasm"}
FORMATS = {"linux": "elf", "android": "elf", "macos": "macho", "ios": "macho", "windows": "coff", "none": "wasm"}
_POOL = "host/threads.c"
POLL = 0.5
"""Seconds between two looks at what a compilation is at."""

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Compiler:
    """kind is "gcc", "clang" or "zig"; command starts a compilation; version tells one release from another."""

    kind: str
    command: tuple[str, ...]
    version: str

    def __str__(self) -> str:
        return f"{self.kind} {self.version}"


@dataclass(frozen=True)
class Library:
    """A built shared library: where it is, for which target, by which compiler, in how many seconds (0 from the
    cache).
    """

    path: Path
    target: Target
    compiler: str
    seconds: float

    @property
    def cached(self) -> bool:
        return self.seconds == 0


def find_compiler(target: Target, wanted: str | None = None) -> Compiler:
    """The compiler for a target: wanted ("gcc", "clang", "zig" or a command line), else $NEVE_CC, else the best one
    found.
    """
    asked = wanted or os.environ.get("NEVE_CC")
    if asked:
        found = _probe(asked)
        if found is None:
            origin = "" if wanted else " (from NEVE_CC)"
            raise BuildError(
                f"the compiler {asked!r}{origin} does not run: wanted gcc >= 10, clang or zig, or a path to one"
            )
        return found
    order = NATIVE if not runs_here(target) or _same_family(target) else CROSS
    for kind in order:
        found = _probe(kind)
        if found is not None:
            return found
    raise BuildError(
        f"no C compiler for {target.name} was found (looked for {', '.join(order)}): pip install ziglang, "
        "or install gcc or clang, or set NEVE_CC to a compiler"
    )


def compile_flags(compiler: Compiler, target: Target) -> list[str]:
    """What every compilation for a target is given, before the files."""
    flags = [*FLAGS, *ISA_FLAGS.get(target.isa, ())]
    if compiler.kind == "gcc":
        # else a loop of vectors may be rewritten as a call of memset inside the definition of memset itself
        flags += ["-fno-tree-loop-distribute-patterns"]
        # gcc 12 makes loops with conditional loads into vectors that read the wrong elements, depending on what is
        # inlined around them (conv.h's copy of a padded row gave wrong results at -O3)
        flags += ["-fno-tree-loop-if-convert"]
        if target.isa == "neon":
            # before it allocates registers it moves loads away from their use: tiles that fill 31 of them spill
            flags += ["-fno-schedule-insns"]
    if compiler.kind == "zig":
        flags += ["-target", f"{target.arch}-{TRIPLES[target.os]}", "-mcpu=baseline", "-fno-sanitize=all"]
        flags = [f for f in flags if f != "-fPIC" or target.os != "windows"]
    elif compiler.kind == "clang" and not _same_family(target):
        flags += [f"--target={target.arch}-{TRIPLES[target.os]}"]
    return flags


def build(
    source: Source,
    target: Target | None = None,
    *,
    compiler: Compiler | None = None,
    units: int | None = None,
    extra: Sequence[str] = (),
    progress: Progress | None = None,
    cache: Cache | None = None,
) -> Library:
    """Compiles a source to a shared library, in parallel where its C allows it, or takes it from the cache.

    units is into how many parts the C is split if it mentions NEVE_UNITS (default: two a processor), extra are
    further flags, progress is called with (steps done, steps in all, what). BuildError if the C does not compile or
    needs anything from outside itself; CacheError if the result cannot be written.
    """
    target = target or native()
    compiler = compiler or find_compiler(target)
    cache = cache or default_cache()
    flags = [*compile_flags(compiler, target), *extra]
    files = {"neve.h": HEADER.read_text(encoding="utf-8"), **source.files}
    if f"{source.name}.c" not in files:
        raise BuildError(f"the source of {source.name} has no {source.name}.c, only {', '.join(sorted(files))}")
    parts = (units or 2 * processors()) if "NEVE_UNITS" in files[f"{source.name}.c"] else 1
    if _has_threads(target, compiler):
        files[_POOL] = THREADS.read_text(encoding="utf-8")
    text = [part for name in sorted(files) for part in (name, files[name])]
    key = digest("library 1", str(compiler), *compiler.command, target.name, str(parts), *flags, *text)
    name = source.name + SUFFIXES[target.os]
    with cache.lock(key):
        found = cache.get(key, name)
        if found is not None:
            return Library(found, target, str(compiler), 0)
        start = time.perf_counter()
        with _folder(files) as folder:
            made = _Build(compiler, target, flags, folder, cache, progress).library(source.name, parts, name)
            kind = machine(made.read_bytes())
            if kind != (FORMATS[target.os], target.arch):
                raise BuildError(f"{compiler} built for {' '.join(kind)}, wanted {target.name}: set NEVE_CC to another")
            path = cache.put(key, name, made)
    return Library(path, target, str(compiler), time.perf_counter() - start)


def compile_object(source: Source, target: Target, compiler: Compiler, out: Path, extra: Sequence[str] = ()) -> Path:
    """Compiles a source to one object file, for programs that link it themselves and for tests."""
    with _folder({"neve.h": HEADER.read_text(encoding="utf-8"), **source.files}) as folder:
        job = _Build(compiler, target, [*compile_flags(compiler, target), *extra], folder, None, None)
        shutil.copyfile(job.compile(f"{source.name}.c", "model.o", []), out)
    return out


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Build:
    """One build in a folder of its own."""

    def __init__(
        self,
        compiler: Compiler,
        target: Target,
        flags: Sequence[str],
        folder: Path,
        cache: Cache | None,
        progress: Progress | None,
    ) -> None:
        self.compiler, self.target, self.flags, self.folder = compiler, target, flags, folder
        self.progress = progress or (lambda done, total, what: None)
        self.children: set[subprocess.Popen[str]] = set()
        self.stopped = False
        self.environment = {**os.environ, "LC_ALL": "C"}
        if compiler.kind == "zig":
            place = str((cache.root if cache else folder) / "zig")
            self.environment |= {"ZIG_GLOBAL_CACHE_DIR": place, "ZIG_LOCAL_CACHE_DIR": place}

    def library(self, name: str, units: int, out: str) -> Path:
        jobs = [(f"{name}.c", f"unit{i}.o", [f"-DNEVE_UNIT={i}", f"-DNEVE_UNITS={units}"]) for i in range(units)]
        if units == 1:
            jobs = [(f"{name}.c", "unit0.o", [])]
        threads = [(_POOL, "threads.o", ["-I.", "-pthread"])] if _has_threads(self.target, self.compiler) else []
        total = len(jobs) + len(threads) + 1
        objects: list[Path] = []
        with ThreadPoolExecutor(max_workers=processors()) as pool, _interruptions() as interrupted:
            try:
                running = [pool.submit(self.compile, *job) for job in [*jobs, *threads]]
                for done, job in enumerate(running):
                    self.progress(done, total, f"compiling {name} with {self.compiler}")
                    while not wait([job], POLL).done:
                        if interrupted.is_set():
                            raise KeyboardInterrupt
                    objects.append(job.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.stop()
                raise
        self.check_closed(name, objects[: len(jobs)])
        self.progress(total - 1, total, f"linking {name}")
        made = self.link(objects, out)
        self.progress(total, total, f"built {out}")
        return made

    def compile(self, file: str, out: str, more: list[str]) -> Path:
        flags = [f for f in self.flags if f != "-ffreestanding" or file != _POOL]
        self.run([*self.compiler.command, *flags, *more, "-c", file, "-o", out])
        return self.folder / out

    def link(self, objects: Sequence[Path], out: str) -> Path:
        system, flags = self.target.os, [f for f in self.flags if f.startswith(("-target", "--target", "-fsanitize"))]
        if "-target" in flags:
            flags += [self.flags[list(self.flags).index("-target") + 1]]
        flags += ["-shared", "-nostdlib"]
        if system in ("linux", "android"):
            flags += ["-Wl,-s", "-Wl,--build-id=none", "-Wl,-z,noexecstack"]
            if system == "android" or self.target.arch == "aarch64":
                flags += ["-Wl,-z,max-page-size=16384"]  # such machines may have pages of 16 KB
        elif system == "none":
            flags = [*flags[:-2], "-nostdlib", "-Wl,--no-entry", "-Wl,--export-dynamic", "-Wl,-s"]
        elif system in ("macos", "ios"):
            flags += [
                f"-Wl,-install_name,@rpath/{out}",
                *(["-Wl,-undefined,dynamic_lookup"] if _has_threads(self.target, self.compiler) else []),
            ]
        elif system == "windows":
            (self.folder / "entry.c").write_text(
                "int DllMainCRTStartup(void *h, unsigned r, void *p) { return h || r || p || 1; }\n"
            )
            objects = [*objects, self.compile("entry.c", "entry.o", [])]
        self.run([*self.compiler.command, *flags, "-o", out, *(o.name for o in objects)])
        return self.folder / out

    def check_closed(self, name: str, objects: Sequence[Path]) -> None:
        if self.target.os in ("linux", "android") and not any("-fsanitize" in f for f in self.flags):
            missing = missing_symbols(objects)
            if missing:
                raise BuildError(
                    f"the C of {name} is not self-contained: {', '.join(missing)} not defined in it "
                    f"(compiled by {self.compiler}); define it in kernels/rt.h, or find what makes the compiler call it"
                )

    def run(self, command: Sequence[str]) -> None:
        if self.stopped:
            return
        try:
            child = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # what the compiler starts itself is stopped with it
            )
        except OSError as error:
            raise BuildError(f"cannot start {command[0]}: {error.strerror}; set NEVE_CC to a C compiler") from error
        with child:
            self.children.add(child)
            try:
                if self.stopped:
                    _kill(child)
                output = child.communicate()[1]
            except BaseException:
                _kill(child)
                raise
            finally:
                self.children.discard(child)
        if child.returncode and not self.stopped:
            raise BuildError(self.explain(command, child.returncode, output))

    def stop(self) -> None:
        """Ends the compilers that run, and starts no other."""
        self.stopped = True
        for child in list(self.children):
            _kill(child)

    def explain(self, command: Sequence[str], code: int, output: str) -> str:
        lines = output.splitlines()
        errors = [line for line in lines if re.search(r"\berror\b|undefined (symbol|reference)|No space left", line)][
            :8
        ] or lines[-8:]
        if "No space left" in output:
            fix = "the disk is full: free some space, or set NEVE_CACHE and TMPDIR to folders on another disk"
        elif code < 0 or "Killed" in output:
            fix = "the compiler was killed, most likely for want of memory: set fewer units, or close other programs"
        elif re.search(r"unrecognized|unknown argument|unsupported option|invalid option", output):
            fix = f"{self.compiler} does not know a flag: wanted gcc >= 10, clang, or ziglang (NEVE_CC=zig)"
        else:
            kept = Path(tempfile.mkdtemp(prefix="neve-failed-"))
            shutil.copytree(self.folder, kept, dirs_exist_ok=True)
            fix = f"the C is kept in {kept}; generated C that does not compile is a defect of neve: please report it"
        text = "\n".join(f"  {line}" for line in errors)
        return f"the C compiler failed (exit code {code}):\n  {shlex.join(command)}\n{text}\n{fix}"


@contextmanager
def _interruptions() -> Iterator[threading.Event]:
    """Set once Ctrl-C was pressed: Python drops a KeyboardInterrupt that its garbage collector happens to be in."""
    heard = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        heard.set()
        signal.default_int_handler(number, frame)

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield heard
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _kill(child: subprocess.Popen[str]) -> None:
    """Ends a compiler and the processes that it started."""
    if child.returncode is not None:
        return
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()


@contextmanager
def _folder(files: dict[str, str]) -> Iterator[Path]:
    """A temporary folder with the files in it."""
    try:
        temporary = tempfile.TemporaryDirectory(prefix="neve-build-")
    except OSError as error:
        raise BuildError(f"no folder for temporary files: {error}; set TMPDIR to one that you may write to") from error
    with temporary as name:
        folder = Path(name)
        try:
            for file, text in files.items():
                path = (folder / file).resolve()
                if not path.is_relative_to(folder.resolve()):
                    raise BuildError(f"the source has a file outside its folder: {file!r}")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise refused(error, folder) from error
        yield folder


def _has_threads(target: Target, compiler: Compiler) -> bool:
    """Whether the pool is linked in: where Python runs on POSIX threads and the compiler has the system's headers."""
    return target.os in ("linux", "macos") and (compiler.kind == "zig" or _same_family(target))


def _same_family(target: Target) -> bool:
    here = native()
    return target.arch == here.arch and target.os == here.os


@functools.cache
def _probe(asked: str) -> Compiler | None:
    """The compiler behind a name or a command line, None if it does not run."""
    if asked == "zig":
        spec = importlib.util.find_spec("ziglang")
        places = list(spec.submodule_search_locations or ()) if spec else []
        program = next(
            (str(p) for place in places for p in Path(place).glob("zig*") if os.access(p, os.X_OK) and p.is_file()),
            None,
        )
        program = program or shutil.which("zig")
        version = _output([program, "version"]) if program else None
        return Compiler("zig", (program, "cc"), version) if program and version else None
    command = shlex.split(asked)
    program = shutil.which(command[0]) if command else None
    if program is None:
        return None
    reported = _output([program, *command[1:], "--version"])
    if not reported:
        return None
    first = reported.splitlines()[0]
    number = re.search(r"\d+\.\d+(\.\d+)?", first.split(")")[-1]) or re.search(r"\d+\.\d+(\.\d+)?", first)
    if Path(program).name.startswith("zig") or "zig" in command[1:]:
        return Compiler("zig", (program, *command[1:]), first)
    kind = "clang" if "clang" in first.lower() else "gcc"
    return Compiler(kind, (program, *command[1:]), number.group() if number else first)


def _output(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
