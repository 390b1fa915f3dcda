"""Archives of older file formats, whose ops had other signatures or meanings, against torch.jit.load of the same."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from neve.capture.export import capture
from neve.errors import CaptureError
from neve.ir.interpret import interpret

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
X = torch.tensor([-1.5, 0.0, 3.0])
K, J = torch.tensor([-7, 8, 5]), torch.tensor([2, -3, 4])
FACTORY = "dtype=None, layout=None, device=None, pin_memory=None"
# the op's last line in the archive's code, and the file formats on both sides of its change
CODES = [
    ("torch.div(k, j)", (3, 4)),
    ("torch.div(k, 2)", (3, 4)),
    ("torch.div(k, n)", (3, 4)),
    ("torch.div(k, a)", (3, 4)),
    ("torch.div(k, 2.)", (3, 4)),
    ("torch.div(x, j)", (3, 4)),
    ("torch.div(k, x)", (3, 4)),
    ("torch.div(x, 2)", (3, 4)),
    ('torch.div(k, j, rounding_mode="floor")', (3, 4)),
    ("torch.div(k, j, rounding_mode=None)", (3, 4)),
    ("torch.div_(torch.mul(x, 1), j)", (3, 4)),
    ("torch.div_(torch.mul(x, 1), 2)", (3, 4)),
    ("torch.div_(torch.mul(k, 1), 2)", (3,)),
    ("torch.div_(torch.mul(k, 1), j)", (3,)),
    ("torch.mul(x, torch.div(7, 2))", (3, 4)),
    ("torch.mul(x, torch.div(n, 2))", (3, 4)),
    (f"torch.full([3], 2, {FACTORY})", (4, 5)),
    (f"torch.full([3], True, {FACTORY})", (4, 5)),
    (f"torch.full([3], n, {FACTORY})", (4, 5)),
    (f"torch.full([3], a, {FACTORY})", (4, 5)),
    (f"torch.full([3], 2.5, {FACTORY})", (4, 5)),
    ("torch.full([3], 2, dtype=4, layout=None, device=None, pin_memory=None)", (4, 5)),
    (f"torch.linspace(0, 1, None, {FACTORY})", (7,)),
    (f"torch.linspace(0, 1, 5, {FACTORY})", (7, 8)),
    (f"torch.logspace(0, 1, None, 2., {FACTORY})", (8,)),
    (f"torch.logspace(0, 1, 5, 2., {FACTORY})", (8, 9)),
    ("torch.gelu(x)", (9,)),
    ('torch.gelu(x, approximate="tanh")', (10,)),
    ('torch.gelu(x, approximate="none")', (10,)),
    ("torch._add_relu(x, j)", (3, 10)),
    ("torch._add_relu(x, j, alpha=-2)", (3, 10)),
    ("torch._add_relu(x, 2)", (10,)),
    ("torch._add_relu(x, 2, -3)", (10,)),
    ("torch._add_relu(x, 2.5, 2)", (10,)),
    ("torch._add_relu_(torch.mul(x, 1), j, alpha=3)", (10,)),
    ("torch._add_relu_(torch.mul(x, 1), 1.5)", (10,)),
    ("torch._add_relu(x, torch.mul(x, 2), alpha=1, out=torch.zeros([3]))", (10,)),
]


class Template(nn.Module):
    def forward(self, x, k, j, n: int, a: float):
        return torch.sub(x, 12345)


def archive(code: str, version: int) -> bytes:
    """An archive with this as the result of its forward, of that file format."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer, out = io.BytesIO(), io.BytesIO()
        torch.jit.save(torch.jit.script(Template()), buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("/version"):
                data = f"{version}\n".encode()
            elif name.endswith(".py"):
                assert b"torch.sub(x, 12345)" in data
                data = data.replace(b"torch.sub(x, 12345)", code.encode())
            elif name.endswith(".debug_pkl"):
                continue
            new.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize(("code", "version"), [(code, v) for code, versions in CODES for v in versions])
def test_as_torch_jit_loads_it(code: str, version: int, tmp_path: Path) -> None:
    data = archive(code, version)
    path = tmp_path / "model.pt"
    path.write_bytes(data)
    args = (X, K, J, 3, 2.0)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        want = torch.jit.load(io.BytesIO(data))(*(a.clone() if isinstance(a, torch.Tensor) else a for a in args))
        method = capture(str(path), args).methods["forward"]
    trees = method.in_tree["args"]
    leaves = [np.asarray(a) for a, tree in zip(args, trees, strict=True) if "leaf" in tree]
    (got,) = interpret(method.graph, leaves)
    assert got.dtype == want.numpy().dtype
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    ("code", "version"),
    [("torch.div_(torch.mul(k, 1), 2)", 4), ("torch._add_relu(x, x, alpha=1, out=torch.zeros([2]))", 10)],
)
def test_what_torch_refuses_is_refused(code: str, version: int, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(archive(code, version))
    with pytest.raises(CaptureError, match=r"can't be cast|out= of"):
        capture(str(path), (X, K, J, 3, 2.0))
