"""The way in: an archive, or a ScriptModule, and example arguments → methods for torch.export.

Methods are interpreted until everything is settled that depends on all of them together: which attributes are state
(some kept method changes them) and which forms they take, which tensors are written, which numbers must be known.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from neve.capture.torchscript.archive import Archive, read_archive, refused_classes
from neve.capture.torchscript.instance import State
from neve.capture.torchscript.kept import attributes, preserve
from neve.capture.torchscript.model import Entry, Model, Settled
from neve.capture.torchscript.pickles import Obj
from neve.capture.torchscript.replay import Recording, Replay, Weights
from neve.capture.torchscript.values import Refusal
from neve.capture.torchscript.variants import Variants
from neve.errors import CaptureError

MAX_ROUNDS = 200


@dataclass
class Scripted:
    """What the interpreter made of a model: a recording for each method, and the tensors that they use.

    attributes: dotted paths → what they hold (see `neve.capture.preserved`); hidden: names of state that is in none.
    """

    recordings: dict[str, Recording]
    weights: Weights
    settled: Settled
    attributes: Mapping[str, Any]
    hidden: frozenset[str]

    @property
    def reads(self) -> dict[str, str]:
        """The path of every attribute that a method reads, and the line that does first."""
        return {path: line for r in self.recordings.values() for path, line in r.reads.items()}

    def replay(self, name: str) -> Replay:
        return Replay(self.recordings[name], self.weights)

    def state(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The name and content of every tensor that a recording writes."""
        paths: dict[str, None] = {}
        for r in self.recordings.values():
            paths |= dict.fromkeys(path for var, path in r.tensors.items() if var.mutated)
            paths |= dict.fromkeys(path for path, _ in r.updates)
        return ((path, self.weights.tensor(path)) for path in paths)


def archive_of(model: Any) -> Archive:
    """The archive in a file or in bytes, or of a live ScriptModule."""
    if isinstance(model, (str, os.PathLike, bytes)):
        return read_archive(model)
    archive = read_archive(saved(model))
    lost = list(_lost_types(archive, model))
    if lost:
        raise CaptureError(lost)
    return archive


def _lost_types(archive: Archive, model: torch.jit.ScriptModule) -> Iterator[str]:
    """A reason for every tensor of a live model that torch.jit.save writes with another element type: it writes one
    type for each memory.
    """
    for path, tensor in (*model.named_parameters(), *model.named_buffers()):
        found: Any = archive.root
        for part in path.split("."):
            found = found.attrs.get(part) if isinstance(found, Obj) else None
        if isinstance(found, torch.Tensor) and found.dtype is not tensor.dtype:
            yield (
                f"{path} ({tensor.dtype}) is a view of memory of the type {found.dtype}, and torch.jit.save keeps one "
                "type for each memory: compute the view in forward"
            )


def saved(model: Any) -> bytes:
    """A live ScriptModule as the bytes of an archive, which may be given as they are."""
    if isinstance(model, bytes):
        return model
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.jit.save(model, buffer)
        except RuntimeError as error:
            raise CaptureError(f"torch.jit.save refuses the model: {str(error).splitlines()[0]}") from error
    return buffer.getvalue()


def interpret(
    archive: Archive, entries: Sequence[Entry], preserved: Sequence[str] = (), sizes: bool = True
) -> Scripted:
    """All entries, interpreted; preserved names attributes that are state in any case. CaptureError with every
    reason.

    sizes: whether an int argument that is needed at capture may become a size symbol; else it keeps its example value.
    """
    refused = refused_classes(archive)
    if refused:
        raise CaptureError(refused)
    model, settled = Model(archive), Settled()
    kept = preserve(model, settled, preserved)
    for entry in entries:
        model.method(entry.method or entry.name)
    for _ in range(MAX_ROUNDS):
        before = settled.size()
        try:
            variants = Variants(model, settled, entries, State(model, settled), sizes)
        except Refusal as error:
            raise CaptureError(error.reason) from None
        variants.explore()
        if settled.size() != before:
            continue
        scripted = _recorded(variants, kept) if not variants.reasons else None
        if settled.size() != before:
            continue
        if scripted is None:
            raise CaptureError(list(dict.fromkeys(variants.reasons)))
        return scripted
    raise CaptureError("the state of the model does not settle: from call to call its attributes change in new ways")


def _recorded(variants: Variants, kept: Mapping[str, Any]) -> Scripted | None:
    """The recording of every method, unless there are reasons against it."""
    recordings: dict[str, Recording] = {}
    tensors: dict[str, torch.Tensor] = {}
    for entry in variants.entries:
        recording = variants.record(entry)
        if recording is not None:
            recordings[entry.name] = recording
            tensors |= recording.values
    if variants.reasons:
        return None
    return Scripted(recordings, Weights(tensors), variants.settled, *attributes(variants, kept))
