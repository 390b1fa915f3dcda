"""Names of torch outside of its API: another release may not have them. What uses one asks here, before it begins."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from neve.errors import NeveError


def missing(*names: str) -> list[str]:
    """Those of these dotted names that the installed torch does not have."""
    return [name for name in names if not _has(name)]


def require(what: str, *names: str, error: Callable[[str], NeveError] = NeveError) -> None:
    """An error that says what needs these dotted names, if the installed torch does not have all of them."""
    lost = missing(*names)
    if lost:
        version = pkgutil.resolve_name("torch.__version__")
        raise error(
            f"{what} needs {', '.join(lost)}, which torch {version} does not have: install the release that neve is "
            "tested with (pip install 'neve[compile]')"
        )


@contextmanager
def replaced(*changes: tuple[str, Any]) -> Iterator[None]:
    """With other values under these dotted names, all of which torch has."""
    owners = [(pkgutil.resolve_name(owner), attribute, value) for owner, attribute, value in map(_split, changes)]
    before = [getattr(owner, attribute) for owner, attribute, _ in owners]
    try:
        for owner, attribute, value in owners:
            setattr(owner, attribute, value)
        yield
    finally:
        for (owner, attribute, _), value in zip(owners, before, strict=True):
            setattr(owner, attribute, value)


def _split(change: tuple[str, Any]) -> tuple[str, str, Any]:
    owner, _, attribute = change[0].rpartition(".")
    return owner, attribute, change[1]


def _has(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True
