"""Archives that are damaged or hostile end in CaptureError, and nothing in them runs."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neve.capture.torchscript.archive import read_archive
from neve.capture.torchscript.pickles import Reader
from neve.capture.torchscript.source import Sources
from neve.errors import CaptureError

DATA = Path(__file__).parents[2] / "data" / "torchscript"
GATE = (DATA / "gate.optimized.ptl").read_bytes()


def remade(change: dict[str, bytes], extra: dict[str, bytes] | None = None) -> bytes:
    """The gate's archive with members replaced and added."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(GATE)) as old, zipfile.ZipFile(out, "w") as new:
        for i in old.infolist():
            new.writestr(i.filename, change.get(i.filename.split("/", 1)[1], old.read(i)))
        for name, data in (extra or {}).items():
            new.writestr(name, data)
    return out.getvalue()


class Evil:
    """A pickle of it makes a file when `pickle` reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def test_a_whole_archive_is_read() -> None:
    archive = read_archive(GATE)
    assert archive.version == 3
    assert set(archive.root.attrs) == {"seen", "mobile_optimized"}
    assert "forward" in Sources(archive.code).cls(archive.root.cls).methods


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "made"
    evil = pickle.dumps(Evil(target), protocol=protocol)
    with pytest.raises(CaptureError):
        read_archive(remade({"data.pkl": evil}))
    assert not target.exists()
    pickle.loads(evil).close()  # the test can fail: pickle itself would have run it
    assert target.exists()


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"cos\nsystem\n(X\x02\x00\x00\x00lstR.", "a call of os.system is refused"),
        (b"c__torch__\nM\n)\x81}(X\x01\x00\x00\x00aNub}b.", "state for a Obj is refused"),
        (b"ctorch\ndevice\n)\x81.", "objects of torch.device are refused"),
        (b"]q\x00h\x00a.", "contains itself"),
        (b"(" * 5000 + b"t" * 5000 + b".", "nested more than"),
        (b"(", "damaged"),
        (b"h\x07.", "damaged"),
        (b"\x80\x02NN.", "left over"),
        (b"Vx\n.", "UNICODE"),
    ],
)
def test_pickles_that_are_refused(data: bytes, wanted: str) -> None:
    with pytest.raises(CaptureError, match=wanted):
        Reader("test", lambda key: pytest.fail("read")).read(data)


@pytest.mark.parametrize(
    "name", ["../evil", "gate.optimized/../../evil", "/etc/evil", "gate.optimized\\..\\evil", "evil"]
)
def test_names_that_leave_the_archive_are_refused(name: str) -> None:
    with pytest.raises(CaptureError, match="is refused"):
        read_archive(remade({}, {name: b""}))


def test_sizes_that_are_absurd_are_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("a/data.pkl", b"\0" * 2**25)
    with pytest.raises(CaptureError, match="times its size"):
        read_archive(out.getvalue())


def test_versions_that_are_not_known_are_refused() -> None:
    with pytest.raises(CaptureError, match="file-format version 99"):
        read_archive(remade({"version": b"99"}))
    with pytest.raises(CaptureError, match="damaged"):
        read_archive(remade({"version": b"x"}))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(GATE) - 1), st.integers(0, 255), st.booleans())
def test_a_changed_or_cut_archive_is_read_or_refused(at: int, byte: int, cut: bool) -> None:
    data = GATE[:at] if cut else GATE[:at] + bytes([byte]) + GATE[at + 1 :]
    try:
        read_archive(data)
    except CaptureError:
        return


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["data.pkl", "constants.pkl"]), st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_a_pickle_with_other_bytes_is_read_or_refused(name: str, at: int, patch: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(GATE)) as z:
        old = z.read(f"gate.optimized/{name}")
    at %= len(old)
    try:
        read_archive(remade({name: old[:at] + patch + old[at + len(patch) :]}))
    except CaptureError:
        return
