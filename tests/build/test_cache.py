from __future__ import annotations

import errno
import multiprocessing
import os
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from neve.build.cache import Cache, default_cache, digest, write_atomically
from neve.errors import CacheError

KEY = digest("a")


def test_what_is_put_can_be_got(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.get(KEY, "f") is None
    path = cache.put(KEY, "f", b"content")
    assert cache.get(KEY, "f") == path
    assert path.read_bytes() == b"content"
    assert [p.name for p in path.parent.iterdir()] == ["f"], "nothing temporary is left"


def test_digests_tell_lists_of_parts_apart() -> None:
    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest("abc", "")}) == 4


def test_the_oldest_files_are_evicted(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=2500)
    paths = [cache.put(digest(str(i)), "f", bytes(1000)) for i in range(4)]
    for i, path in enumerate(paths):
        os.utime(path, (time.time() - 10 * 86400 + i, time.time() - 10 * 86400 + i))
    assert cache.get(digest("0"), "f") is not None, "a use makes it the newest"
    cache.evict()
    assert [p.exists() for p in paths] == [True, False, False, True]


def test_what_was_just_used_is_never_evicted(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=10)
    paths = [cache.put(digest(str(i)), "f", bytes(1000)) for i in range(3)]
    cache.evict()
    assert all(p.exists() for p in paths)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("neve.build.cache.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]
    with pytest.raises(CacheError, match=r"the disk is full.*NEVE_CACHE"):
        Cache(tmp_path).put(KEY, "f", b"new")


def test_an_unwritable_cache_is_replaced_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    monkeypatch.setenv("NEVE_CACHE", str(blocker / "cache"))
    with pytest.warns(UserWarning, match="set NEVE_CACHE"):
        cache = default_cache()
    assert cache.put(KEY, "f", b"content").read_bytes() == b"content"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert default_cache().root == cache.root, "one warning is enough"


def _count_up(root: Path, times: int) -> None:
    cache = Cache(root)
    for _ in range(times):
        with cache.lock(KEY):
            path = cache.get(KEY, "n")
            value = int(path.read_text()) if path else 0
            cache.put(KEY, "n", str(value + 1).encode())


def test_the_lock_holds_between_processes(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_count_up, args=(tmp_path, 25)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert Cache(tmp_path).path(KEY, "n").read_text() == "100"
