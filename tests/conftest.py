"""What every test runs under: generated examples that do not depend on the time."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from neve.plan.method import CHECK

# every plan that any test makes is checked, in processes that tests start too
os.environ[CHECK] = "1"

# the machine may be busy with other tests: no deadlines, and the same examples in every run
settings.register_profile("neve", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("neve")


@pytest.fixture(scope="session")
def compiler_names() -> list[str]:
    """Which of gcc, clang and zig there are here."""
    return [name for name in ("gcc", "clang", "zig") if _found(name)]


def _found(name: str) -> bool:
    from neve.build.target import native
    from neve.build.toolchain import find_compiler
    from neve.errors import BuildError

    try:
        find_compiler(native(), name)
    except BuildError:
        return False
    return True
