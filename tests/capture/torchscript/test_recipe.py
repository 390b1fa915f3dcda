"""The models that the TorchScript tutorials deploy, against torch.jit: equal tokens, other lengths, without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

import neve
from neve.ir.walk import graphs
from tests.capture.torchscript import recipe_models as models
from tests.capture.torchscript.compared import as_torch_jit, compiled_as_torch_jit, same, scripted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ALONE = """
import sys
import numpy as np, neve
module = neve.load(sys.argv[1])
words = np.array([[3], [5], [7], [4], [9]])
for n in (7, 0, 1):
    tokens, scores = module(words, np.array([5]), n)
    print(*tokens)
assert "torch" not in sys.modules
"""


def sentence(*words: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(words)[:, None], torch.tensor([len(words)])


WORDS = sentence(3, 5, 7, 4, 9)


@pytest.mark.parametrize("method", ["dot", "general", "concat"])
@pytest.mark.parametrize("traced", [True, False], ids=["traced", "scripted"])
def test_chatbot(method: str, traced: bool) -> None:
    model = models.chatbot(method, traced)
    calls = [(*words, n) for words in (WORDS, sentence(4, 4, 10, 2, 6)) for n in (7, 0, 1, 3)]
    program = as_torch_jit(model, (*WORDS, 4), calls)
    assert not any(n.op.name == "bernoulli" for g in graphs(program.methods["forward"].graph) for n in g.nodes)
    assert len({tuple(model(*args)[0].tolist()) for args in calls}) > 3


def test_chatbot_compiled_without_torch(tmp_path: Path) -> None:
    model = models.chatbot("general", True)
    module = compiled_as_torch_jit(model, (*WORDS, 4), [(*WORDS, n) for n in (7, 0, 1)], tmp_path)
    for n in (7, 0, 1):
        assert torch.equal(module(*WORDS, n)[0], model(*WORDS, n)[0])
    with pytest.raises(neve.NeveError, match="the longest sequence is shorter"):
        module(WORDS[0], torch.tensor([3]), 4)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path / "model.neve")], capture_output=True, text=True, check=True
    )
    want = [" ".join(map(str, model(*WORDS, n)[0].tolist())) for n in (7, 0, 1)]
    assert done.stdout.splitlines() == want


def test_chatbot_with_sentences_of_any_length(tmp_path: Path) -> None:
    model = models.chatbot("dot", False)
    shapes = ({0: Dim("words", min=1, max=50)}, None, None)
    calls = [(*sentence(*words), n) for words in ((3, 5, 7), (4,), range(1, 12)) for n in (5, 0, 1)]
    compiled_as_torch_jit(model, (*WORDS, 4), calls, tmp_path, dynamic_shapes=shapes)


def test_translation() -> None:
    model = models.seeded(models.Translation, seed=13)
    calls = [(torch.tensor(words),) for words in ((3, 4, 5), (9, 1, 7), (2, 2, 2), (10, 3, 8), (5, 11, 6))]
    as_torch_jit(model, calls[0], calls)
    lengths = {len(scripted(model)(*args)[0]) for args in calls}
    assert len(lengths) > 1, f"all translations are of one length {lengths}"


def test_translation_compiled(tmp_path: Path) -> None:
    model = models.seeded(models.Translation, seed=13)
    calls = [(torch.tensor(words),) for words in ((3, 4, 5), (9, 1, 7), (2, 2, 2), (10, 3, 8), (5, 11, 6))]
    compiled_as_torch_jit(model, calls[0], calls, tmp_path)


def test_decoder_with_a_list_of_outputs() -> None:
    model = models.seeded(models.BatchDecoder)
    outputs, hidden = torch.randn(2, 4, models.HIDDEN), torch.randn(1, 2, models.HIDDEN)
    as_torch_jit(model, (outputs, hidden, 3), [(outputs, hidden, n) for n in (3, 1, 6)])


def test_traced_in_scripted_in_traced(tmp_path: Path) -> None:
    torch.manual_seed(0)
    xs = torch.randn(5, 3, 4)
    cell = torch.jit.trace(models.Cell(torch.jit.script(models.Gate())).eval(), (xs[0], torch.zeros(3, 4)))
    model = torch.jit.trace(models.Wrapped(torch.jit.script(models.Repeated(cell).eval())).eval(), (xs,))
    compiled_as_torch_jit(model, (xs,), [(xs,), (-xs,), (xs * 3 + 1,)], tmp_path)


class Packed(nn.Module):
    def __init__(self, kind: str, sorted_: bool, first: bool, total: int | None = None) -> None:
        super().__init__()
        made = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}[kind]
        self.layer = made(3, 4, 2, bidirectional=True, batch_first=first)
        self.sorted_, self.first, self.total = sorted_, first, total

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=self.first, enforce_sorted=self.sorted_)
        packed, last = self.layer(packed)
        out, counts = nn.utils.rnn.pad_packed_sequence(packed, self.first, -1.0, self.total)
        return out, counts, last


def batches(sorted_: bool, first: bool, total: int | None) -> list[tuple[Any, ...]]:
    x = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(2))
    lengths = [[6, 5, 2, 1], [6, 6, 6, 6], [6, 1, 1, 1]]
    lengths += [[2, 6, 1, 6]] * (not sorted_) + [[3, 2, 2, 1]] * (total is not None)
    return [(x.transpose(0, 1).contiguous() if first else x, torch.tensor(n)) for n in lengths]


PACKED = [("gru", True, False, None), ("gru", False, True, None), ("lstm", False, False, 8), ("lstm", True, True, None)]


@pytest.mark.parametrize(("kind", "sorted_", "first", "total"), [*PACKED, ("rnn", False, True, 6)])
def test_packed(kind: str, sorted_: bool, first: bool, total: int | None) -> None:
    torch.manual_seed(0)
    calls = batches(sorted_, first, total)
    as_torch_jit(Packed(kind, sorted_, first, total).eval(), calls[0], calls)


@pytest.mark.parametrize(("kind", "sorted_", "first", "total"), PACKED[1:3])
def test_packed_compiled(kind: str, sorted_: bool, first: bool, total: int | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    calls = batches(sorted_, first, total)
    compiled_as_torch_jit(Packed(kind, sorted_, first, total).eval(), calls[0], calls, tmp_path)


@pytest.mark.parametrize(
    ("lengths", "reason"),
    [
        ([5, 4, 2, 1], "longest sequence is shorter"),
        ([6, 5, 7, 1], "greater than that of the padded"),
        ([6, 2, 3, 1], "sorted in decreasing order"),
        ([6, 2, 1, 0], "greater than 0"),
    ],
)
def test_lengths_are_checked(lengths: list[int], reason: str) -> None:
    (x, good), *_ = batches(True, False, None)
    module = neve.compile(torch.jit.script(Packed("gru", True, False).eval()), (x, good), threads=1)
    with pytest.raises(neve.NeveError, match=reason):
        module(x, torch.tensor(lengths))
    same(module(x, good), module(x, good))
    assert np.isfinite(module(x, good)[0]).all()
