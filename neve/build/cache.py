"""Built libraries kept on disk, by the hash of everything that they are made from; safe for processes that run at once.

The folder is $NEVE_CACHE, else $XDG_CACHE_HOME/neve, else ~/.cache/neve. A file appears under its name only when it
is complete (written aside, then renamed), so a reader never sees half of one and the last of two writers wins. Where
the folder cannot be written a private temporary one takes its place, with a warning.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import hashlib
import os
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from neve.errors import CacheError

try:
    import fcntl
except ImportError:  # Windows: two processes may build the same thing twice, the last one wins
    fcntl = None  # type: ignore[assignment]

LIMIT = 4 * 1024**3  # bytes kept; $NEVE_CACHE_LIMIT overrides
_SMALL = 4096  # bytes: writing files up to this size does not start an eviction
_PERIOD = 600  # seconds between evictions
_SPARE = 24 * 3600  # seconds for which a file is not evicted after its last use


class Cache:
    """A folder of immutable files, found by key."""

    def __init__(self, root: Path, limit: int | None = None) -> None:
        self.root = root
        self.limit = int(os.environ.get("NEVE_CACHE_LIMIT", LIMIT)) if limit is None else limit

    def path(self, key: str, name: str) -> Path:
        """Where the file of this key is, whether it exists or not; key is hexadecimal."""
        return self.root / key[:2] / key[2:] / name

    def get(self, key: str, name: str) -> Path | None:
        """The file of this key if there is one, marked as used now."""
        path = self.path(key, name)
        try:
            if path.stat().st_size == 0:
                return None
            with contextlib.suppress(OSError):
                os.utime(path)
            return path
        except OSError:
            return None

    def put(self, key: str, name: str, data: bytes | memoryview | Path) -> Path:
        """Stores bytes, or a copy of a file, and returns its path; CacheError if the disk is full or refuses."""
        path = self.path(key, name)
        if isinstance(data, Path):
            data = data.read_bytes()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data, durable=len(data) > _SMALL)
        except OSError as error:
            raise refused(error, path) from error
        if len(data) > _SMALL:
            self._evict_sometimes()
        return path

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Held by one process (and thread) at a time for one key; where files cannot be locked, by all."""
        handle = None
        with contextlib.suppress(OSError):
            folder = self.root / "locks"
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / key[:16], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if handle is not None and fcntl is not None:
                with contextlib.suppress(OSError):
                    fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            if handle is not None:
                os.close(handle)

    def _evict_sometimes(self) -> None:
        mark = self.root / "evicted"
        with contextlib.suppress(OSError):
            if not mark.exists() or time.time() - mark.stat().st_mtime > _PERIOD:
                mark.touch()
                self.evict()

    def evict(self) -> None:
        """Removes the files that were not used for longest until the rest is within the limit."""
        found: list[tuple[float, int, Path]] = []
        for folder, _, names in os.walk(self.root):
            for name in names:
                with contextlib.suppress(OSError):
                    path = Path(folder, name)
                    status = path.stat()
                    found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for used, size, path in sorted(found):
            if total <= self.limit or time.time() - used < _SPARE:
                return
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size


def write_atomically(path: Path, data: bytes | memoryview, durable: bool = False) -> None:
    """Writes a file so that others see the old content or all of the new; OSError leaves the old one as it was."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise


def refused(error: OSError, path: Path) -> CacheError:
    """The error to show when path could not be written, with what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CacheError(
            f"the disk is full: cannot write {path}; free some space or set NEVE_CACHE to a folder on another disk"
        )
    return CacheError(
        f"cannot write {path}: {error.strerror or error}; set NEVE_CACHE to a folder that you may write to"
    )


def default_cache() -> Cache:
    """The user's cache; if it cannot be written, a temporary one that lasts as long as the process."""
    if os.environ.get("NEVE_CACHE"):
        wanted = Path(os.environ["NEVE_CACHE"])
    elif os.environ.get("XDG_CACHE_HOME"):
        wanted = Path(os.environ["XDG_CACHE_HOME"], "neve")
    else:
        wanted = Path(os.path.expanduser("~"), ".cache", "neve")
    return _opened(wanted)


@functools.cache
def _opened(wanted: Path) -> Cache:
    try:
        wanted.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe, name = tempfile.mkstemp(dir=wanted)
        os.close(probe)
        os.unlink(name)
        return Cache(wanted)
    except OSError as error:
        folder = Path(tempfile.mkdtemp(prefix="neve-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        warnings.warn(f"{refused(error, wanted)}; until then nothing is kept beyond this process", stacklevel=3)
        return Cache(folder)


def digest(*parts: str | bytes) -> str:
    """The hexadecimal SHA-256 of the parts, each with its length, so that no two lists of parts look alike."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()
