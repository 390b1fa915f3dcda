from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neve.build.sanitize import environment
from neve.build.target import native
from neve.build.toolchain import find_compiler
from neve.errors import BuildError

CODE = """
import numpy as np
from neve.build.sanitize import FLAGS
from neve.build.target import native
from neve.build.toolchain import build, find_compiler
from neve.runtime.loader import open_library
from tests.handmade import affine, counter, dynamic
affine, counter, dynamic = affine(), counter(), dynamic()
CHANGE
def opened(source):
    library = build(source, compiler=find_compiler(native(), "gcc"), extra=FLAGS)
    return open_library(library.path, source.signature, source.weights)
print(opened(affine)(np.ones(8, np.float32))[0])
print(opened(dynamic)(np.ones((3, 7), np.float32), 2.0)[0], int(opened(counter).add(np.array(1))))
"""
CHANGES = {
    "": "3.0\n14.0 6\n",
    'affine.files["affine.c"] = affine.files["affine.c"].replace("i++) y[i]", "i++) y[i + 1]")': "heap-buffer-overflow",
    'f = counter.files; f["counter.c"] = f["counter.c"].replace("= total +", "= total * (1LL << 62) +")': "overflow",
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_sanitizers_find_what_is_wrong_and_nothing_else(change: str) -> None:
    try:
        more = environment(find_compiler(native(), "gcc"))
    except BuildError as error:
        pytest.skip(str(error))
    done = subprocess.run(
        [sys.executable, "-c", CODE.replace("CHANGE", change)],
        env={**os.environ, **more, "PYTHONPATH": "."},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == bool(change), done.stderr
    assert CHANGES[change] in done.stdout + done.stderr
