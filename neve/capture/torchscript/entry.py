"""The way in: an archive, or a ScriptModule, and example arguments → methods for torch.export.

A method is interpreted until everything is settled that depends on all methods together: which attributes are state
(some kept method changes them), which tensors are written, which number arguments must keep their example value.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from neve.capture import diagnose
from neve.capture.entry_module import contents_of, rearranged
from neve.capture.torchscript.archive import Archive, read_archive, refused_classes
from neve.capture.torchscript.arguments import Arguments, is_size, plain
from neve.capture.torchscript.changes import Changes
from neve.capture.torchscript.instance import Instance
from neve.capture.torchscript.kept import attributes, preserve
from neve.capture.torchscript.machine import Machine
from neve.capture.torchscript.model import Entry, Model, Settled, part_at
from neve.capture.torchscript.pickles import Obj
from neve.capture.torchscript.replay import Recording, Replay, Weights
from neve.capture.torchscript.source import Function
from neve.capture.torchscript.tape import Recorder
from neve.capture.torchscript.values import Place, Raised, Refusal
from neve.errors import CaptureError

MAX_ROUNDS = 60


@dataclass
class Scripted:
    """What the interpreter made of a model: a recording for each method, and the tensors that they use."""

    recordings: dict[str, Recording]
    weights: Weights
    settled: Settled
    attributes: Mapping[str, Any]

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
        torch.jit.save(model, buffer)
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
    model = Model(archive)
    settled = Settled()
    kept = preserve(model, settled, preserved)
    for _ in range(MAX_ROUNDS):
        before = settled.size()
        recordings: dict[str, Recording] = {}
        tensors: dict[str, torch.Tensor] = {}
        reasons: list[str] = []
        for entry in entries:
            _attempt(model, entry, settled, recordings, tensors, reasons, sizes)
        if settled.size() != before:
            continue
        if reasons:
            raise CaptureError(list(dict.fromkeys(reasons)))
        return Scripted(recordings, Weights(tensors), settled, attributes(model, settled, kept))
    raise CaptureError("the state of the model does not settle: from call to call its attributes change in new ways")


def _attempt(
    model: Model,
    entry: Entry,
    settled: Settled,
    recordings: dict[str, Recording],
    tensors: dict[str, torch.Tensor],
    reasons: list[str],
    sizes: bool,
) -> None:
    """One more interpretation of a method: a recording, or a reason, or an argument more that is a size or fixed."""
    function, tape = model.method(entry.name), Recorder()
    try:
        recordings[entry.name], used = _record(model, function, entry, settled, tape)
        tensors |= used
    except Refusal as error:
        wanted = error.needs - settled.fixed.setdefault(entry.name, set())
        if wanted:
            tried = settled.sizes.setdefault(entry.name, set())
            names = [p.arg for p in function.parameters][1:]
            new = {n for n in wanted - tried if sizes and is_size(entry.example(names, n))}
            (tried if new else settled.fixed[entry.name]).update(new or wanted)
        else:
            reasons.append(f"{entry.name}: {error.reason}{_where(error.place)}")
    except (TypeError, AttributeError, ValueError, LookupError, AssertionError, RecursionError) as error:
        what = f"not TorchScript that neve understands: {type(error).__name__}: {error}"
        reasons.append(f"{entry.name}: {what}{_where(tape.place)}")
    except Raised as error:
        reasons.append(f"{entry.name} raises with the example inputs: {error.message}")


def _where(place: Place | None) -> str:
    return diagnose.where(*place) if place else ""


def _record(
    model: Model, function: Function, entry: Entry, settled: Settled, tape: Recorder
) -> tuple[Recording, dict[str, torch.Tensor]]:
    """A method's recording and the tensors of the model that it uses; notes in `settled` what was found."""
    names = [p.arg for p in function.parameters][1:]
    instance = Instance(model, settled, tape)
    machine = Machine(model.sources, model.archive.version, instance.root, instance.constants, tape)
    settled_names = settled.fixed.setdefault(entry.name, set()), settled.sizes.setdefault(entry.name, set())
    given = Arguments(tape, entry, names, *settled_names)
    owner = part_at(instance.root, entry.name.rpartition(".")[0])
    before = contents_of(given.args, given.kwargs)
    result = machine.call(function, [owner, *given.args], given.kwargs)
    for reason in rearranged(before, given.args, given.kwargs):
        raise Refusal(reason)
    tape.place = None
    result = plain(machine, result)
    updates = Changes(machine, instance).updates
    given.check_unwritten()
    return Recording(entry.name, names, tape.top, given.leaves, instance.tensors, result, updates), instance.used
