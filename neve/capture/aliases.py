"""Example arguments that share memory, with each other or with the model: torch.export takes them for one input, or for
the model's own tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.export.graph_signature import InputKind, TensorArgument
from torch.utils import _pytree as pytree

from neve.capture.objects import tree_map

FIX = (
    "; export it again with tensors of their own and other values than those of the model (x.clone()), or compile the "
    "nn.Module"
)
LIFTED = frozenset({InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR})


def separate(value: Any) -> Any:
    """Arguments with each tensor in memory of its own: dense, and a leaf that requires grad if it did."""
    return tree_map(lambda x: _separate(x) if isinstance(x, torch.Tensor) else x, value)


def _separate(x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode(False):
        return x.detach().clone().requires_grad_(x.requires_grad)


@dataclass(frozen=True)
class _Tensor:
    """An input of an ExportedProgram with its example, or a tensor that it holds; whether its graph reads it."""

    name: str
    tensor: torch.Tensor
    used: bool

    def is_same(self, other: _Tensor) -> bool:
        """Whether both are the same elements of the same memory."""
        a, b = self.tensor, other.tensor
        return a is b or (_memory(a) == _memory(b) != 0 and _layout(a) == _layout(b))

    def overlaps(self, other: _Tensor) -> bool:
        return _memory(self.tensor) == _memory(other.tensor) != 0

    def is_copy(self, other: _Tensor) -> bool:
        """Whether one can only be a copy of the other: a file tells equal values alone, which are chance if they are
        ones, or indices.
        """
        a, b = self.tensor, other.tensor
        if a.shape != b.shape or a.dtype is not b.dtype or not a.is_floating_point() or not a.numel():
            return False
        return bool(torch.equal(a, b)) and bool((a != a.flatten()[0]).any())


def one_for_two(program: torch.export.ExportedProgram) -> list[str]:
    """Why an ExportedProgram is not what its model computes: two tensors that were one at its export. Its graph then
    reads one in place of both, or writes one without the other.
    """
    inputs, held = list(_inputs(program)), list(_held(program))
    written = {s.target for s in program.graph_signature.output_specs if s.kind.name == "USER_INPUT_MUTATION"}
    reasons = []
    alone = "and reads one of them alone"
    for i, a in enumerate(inputs):
        for b in inputs[:i]:
            if a.is_same(b) and a.used != b.used:
                reasons.append(
                    f"it was exported with one tensor for {b.name} and {a.name}, and reads one of them alone"
                )
            elif a.overlaps(b) and written & {a.name, b.name}:
                reasons.append(f"it was exported with {b.name} and {a.name} in one memory, and writes into it")
        reasons += [
            f"it was exported with its own {own.name} for {a.name}, {alone}"
            for own in held
            if a.used != own.used and (a.is_same(own) or a.is_copy(own))
        ]
    return [reason + FIX for reason in reasons]


def _inputs(program: torch.export.ExportedProgram) -> Iterator[_Tensor]:
    examples = pytree.tree_leaves(program.example_inputs or ((), {}))
    specs = [s for s in program.graph_signature.input_specs if s.kind is InputKind.USER_INPUT]
    used = _used(program)
    if len(examples) != len(specs):
        return
    for spec, example in zip(specs, examples, strict=True):
        if isinstance(spec.arg, TensorArgument) and isinstance(example, torch.Tensor):
            yield _Tensor(spec.arg.name, example, used[spec.arg.name])


def _held(program: torch.export.ExportedProgram) -> Iterator[_Tensor]:
    used = _used(program)
    tensors: Mapping[str, Any] = {**program.constants, **program.state_dict}
    for spec in program.graph_signature.input_specs:
        found = tensors.get(spec.target or "") if spec.kind in LIFTED else None
        if isinstance(found, torch.Tensor):
            yield _Tensor(str(spec.target), found, used[spec.arg.name])


def _used(program: torch.export.ExportedProgram) -> dict[str, bool]:
    return {n.name: bool(n.users) for n in program.graph.nodes if n.op == "placeholder"}


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0


def _layout(tensor: torch.Tensor) -> Any:
    return tensor.dtype, tensor.shape, tensor.stride(), tensor.storage_offset()
