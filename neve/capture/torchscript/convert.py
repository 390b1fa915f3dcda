"""Archives that the installed torch cannot load, as ones that it can: the ops that `optimize_for_mobile` wrote turned
back into plain ones, with every method, attribute and weight as it was.

Nothing of an archive is run. Its code is rewritten token by token: `ops.prepacked.…` becomes a call of a function, and
the packed classes become classes, in a file of code that is added; in its pickles these classes are renamed. All else
is copied byte by byte.
"""

from __future__ import annotations

import io
import os
import tokenize
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from neve.capture import diagnose
from neve.capture.torchscript.archive import read_archive
from neve.capture.torchscript.capture import bundled_in_archive, exported
from neve.capture.torchscript.prepacked import CLASSES, FIELDS
from neve.capture.torchscript.source import Sources
from neve.errors import CaptureError

HOME = "__torch__.neve.prepacked."
FILE = HOME.replace(".", "/").rstrip("/") + ".py"
TYPES = {
    "weight": "Tensor", "bias": "Optional[Tensor]", "groups": "int", "min": "Optional[number]",
    "max": "Optional[number]", "stride": "List[int]", "padding": "List[int]", "output_padding": "List[int]",
    "dilation": "List[int]",
}  # fmt: skip
PLAIN = {
    "linear_clamp": "torch.linear(X, c.weight, c.bias)",
    "conv2d_clamp": "torch.conv2d(X, c.weight, c.bias, c.stride, c.padding, c.dilation, c.groups)",
    "conv2d_transpose_clamp": (
        "torch.conv_transpose2d(X, c.weight, c.bias, c.stride, c.padding, c.output_padding, c.groups, c.dilation)"
    ),
}
DROPPED = ("bytecode.pkl", "mobile_debug_handles.pkl")
"""Members that only the lite interpreter reads; its bytecode calls the packed ops."""


def to_torchscript(source: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Write the archive in a file as one that torch.jit.load reads. CaptureError says what torch has no op for."""
    archive = read_archive(source)
    with zipfile.ZipFile(source) as opened:
        folder = opened.namelist()[0].split("/")[0] + "/"
        members = {i.filename.removeprefix(folder): opened.read(i) for i in opened.infolist() if not i.is_dir()}
    rewritten = {name: _rewritten(text) for name, text in archive.code.items()}
    reasons = list(_unknown(rewritten.values()))
    if reasons:
        raise CaptureError(reasons)
    for name in DROPPED:
        members.pop(name, None)
    for name, text in rewritten.items():
        if text != archive.code[name]:
            members[f"code/{name}"] = text.encode()
            members.pop(f"code/{name}.debug_pkl", None)  # it tells where lines were
    if any(HOME in text for text in rewritten.values()):
        members.pop(f"code/{CLASSES.replace('.', '/').rstrip('/')}.py", None)
        used = [kind for kind in FIELDS if any(_uses(text, kind) for text in rewritten.values())]
        members[f"code/{FILE}"] = _library(used).encode()
    for name in ("data.pkl", "constants.pkl"):
        if name in members:
            members[name] = members[name].replace(b"c" + CLASSES[:-1].encode(), b"c" + HOME[:-1].encode())
    _write(Path(out), folder, members)


def to_exported(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    method: str | None,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    dynamic_shapes: Any,
) -> None:
    """Write one method of an archive as a .pt2 file, and read it back: it gives what the recording of the archive does.

    CaptureError: what is written would not be all of the model, there are no example inputs, or torch.export refuses.
    """
    method = method or _only_method(source)
    if args is None and not kwargs:
        bundled = bundled_in_archive(source).get(method)
        if not bundled:
            raise CaptureError(f"a .pt2 file needs example inputs, and none are bundled for {method}: give them")
        args = bundled[0]
    program, wanted = exported(source, method, tuple(args or ()), dict(kwargs or {}), dynamic_shapes)
    with _replacing(Path(out)) as aside:
        with diagnose.quiet():
            try:
                torch.export.save(program, aside)
                again = torch.export.load(aside)
            except Exception as error:
                raise CaptureError(f"torch.export cannot save it: {diagnose.first_lines(str(error))}") from error
        example_args, example_kwargs = again.example_inputs
        got = again.module()(*example_args, **example_kwargs)
        flat = [torch.utils._pytree.tree_leaves(x) for x in (got, wanted)]
        if len(flat[0]) != len(flat[1]) or not all(map(_equal, *flat)):
            raise CaptureError(
                f"what torch.export.load reads does not give what the archive does: {out} is not written"
            )


def _only_method(source: str | os.PathLike[str]) -> str:
    archive = read_archive(source)
    methods = Sources(archive.code).cls(archive.root.cls).methods
    own = [m for m in methods if not m.startswith("_") and not m.startswith("get_") and m != "run_on_bundled_input"]
    if len(own) != 1:
        raise CaptureError(
            f"a .pt2 file holds one method, and the model has {', '.join(own) or 'none'}: say which (method=), or "
            "write TorchScript (.pt), which holds all"
        )
    return own[0]


def _equal(a: Any, b: Any) -> bool:
    return (
        torch.allclose(a, b, equal_nan=True) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b
    )


def _rewritten(text: str) -> str:
    """Code with the packed ops and classes as those of the added file."""
    if "ops.prepacked." not in text and CLASSES not in text:
        return text
    lines = text.splitlines(keepends=True)
    for row, start, end, name in reversed(list(_dotted(text))):
        new = name
        if name.startswith("ops.prepacked."):
            new = HOME + name.removeprefix("ops.prepacked.")
        elif name.startswith(CLASSES):
            new = HOME + name.removeprefix(CLASSES)
        lines[row - 1] = lines[row - 1][:start] + new + lines[row - 1][end:]
    return "".join(lines)


def _dotted(text: str) -> Iterator[tuple[int, int, int, str]]:
    """(row, first column, end, text) of every dotted name outside strings; TorchScript never breaks one over lines."""
    found: list[tokenize.TokenInfo] = []
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError) as error:
        raise CaptureError(f"the archive's code cannot be read: {error}") from error
    for token in tokens:
        joins = found and token.start == found[-1].end
        if joins and (token.type == tokenize.NAME) != (found[-1].type == tokenize.NAME) and _part(token):
            found.append(token)
            continue
        if found:
            yield found[0].start[0], found[0].start[1], found[-1].end[1], "".join(t.string for t in found)
        found = [token] if token.type == tokenize.NAME else []


def _part(token: tokenize.TokenInfo) -> bool:
    return token.type == tokenize.NAME or token.string == "."


def _unknown(code: Iterable[str]) -> Iterator[str]:
    """A reason for every op and class that torch does not have."""
    known = {f"{kind}_{what}" for kind in FIELDS for what in ("run", "prepack")}
    seen: set[str] = set()
    for text in code:
        for _, _, _, name in _dotted(text):
            name = name.rstrip(".")
            if name in seen:
                continue
            seen.add(name)
            space, _, op = name.removeprefix("ops.").partition(".")
            if name.startswith(HOME) and name.removeprefix(HOME) not in known | {cls for cls, _ in FIELDS.values()}:
                yield f"it calls prepacked::{name.removeprefix(HOME)}, which has no plain form"
            elif name.startswith("ops.") and op and not _exists(space, op.partition(".")[0]):
                yield f"it calls {space}::{op}, which torch {torch.__version__} does not have"
            elif ".torch.classes." in name and not _has_class(name):
                yield f"it has an object of {name}, which torch {torch.__version__} does not have"


def _exists(space: str, op: str) -> bool:
    return space == "prim" or hasattr(getattr(torch.ops, space), op)


def _has_class(name: str) -> bool:
    space, _, cls = name.partition(".torch.classes.")[2].partition(".")
    try:
        torch._C._get_custom_class_python_wrapper(space, cls)
    except RuntimeError:
        return False
    return True


def _uses(text: str, kind: str) -> bool:
    return any(f"{HOME}{name}" in text for name in (f"{kind}_run", f"{kind}_prepack", FIELDS[kind][0]))


def _library(kinds: Sequence[str]) -> str:
    """The code of the added file: a class for each kind of packed weight, and functions that make and apply one."""
    out = []
    for kind in kinds:
        cls, fields = FIELDS[kind]
        me, types = HOME + cls, [TYPES[f] for f in fields]
        state = f"Tuple[{', '.join(types)}]"
        out += [f"class {cls}:", *(f"  {f} : {t}" for f, t in zip(fields, types, strict=True))]
        out += [f"  def __init__(self: {me},"]
        out += [",\n".join(f"    {f}: {t}" for f, t in zip(fields, types, strict=True)) + ") -> NoneType:"]
        out += [*(f"    self.{f} = {f}" for f in fields), "    return None"]
        out += [f"  def __getstate__(self: {me}) -> {state}:"]
        out += [f"    return ({', '.join(f'self.{f}' for f in fields)})"]
        out += [f"  def __setstate__(self: {me},", f"    state: {state}) -> NoneType:"]
        out += [f"    {', '.join(fields)}, = state", *(f"    self.{f} = {f}" for f in fields), "    return None"]
        given = [f"    {f}: {t}" + ("=None" if f in ("min", "max") else "") for f, t in zip(fields, types, strict=True)]
        out += [f"def {kind}_prepack(", ",\n".join(given) + f") -> {me}:"]
        out += [f"  c = {me}.__new__({me})", f"  _0 = (c).__init__({', '.join(fields)}, )", "  return c"]
        out += [f"def {kind}_run(X: Tensor,", f"    c: {me}) -> Tensor:", f"  y = {PLAIN[kind]}"]
        out += ["  low = c.min", "  high = c.max", "  if torch.__is__(low, None):", "    _0 = torch.__is__(high, None)"]
        out += ["  else:", "    _0 = False", "  if _0:", "    z = y", "  else:", "    z = torch.clamp(y, low, high)"]
        out += ["  return z"]
    return "\n".join(out) + "\n"


def _write(path: Path, folder: str, members: Mapping[str, bytes]) -> None:
    with _replacing(path) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as made:
        for name, data in members.items():
            made.writestr(zipfile.ZipInfo(folder + name), data)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file that gets its name only when it is complete. CaptureError if it cannot be written."""
    aside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield aside
        os.replace(aside, path)
    except OSError as error:
        raise CaptureError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        aside.unlink(missing_ok=True)
