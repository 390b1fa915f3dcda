"""The generated C of whole models under ASan and UBSan, as `tests/test_example_c.py` does it with small ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import neve
from neve.build.target import native
from neve.check.verify import relative_error
from tests.host_program import needs, run_sanitized
from tests.models import zoo

LIMIT = 2e-5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(native().os not in ("linux", "macos"), reason="the program is for POSIX systems"),
]


@pytest.mark.parametrize("name", zoo.ZOO)
def test_sanitizers_contexts_and_threads(name: str, tmp_path: Path, compiler_names: list[str]) -> None:
    needs("gcc", compiler_names)
    if zoo.ZOO[name].missing:
        pytest.skip(f"{zoo.ZOO[name].package} is not installed: make setup")
    model, args = zoo.build(name), zoo.draw(name, 2)
    module = neve.compile(model, args, name=name)
    with torch.no_grad():
        wanted = model(*args).numpy()
    got = run_sanitized(module, args, wanted, tmp_path)
    assert relative_error(got, wanted) <= LIMIT
