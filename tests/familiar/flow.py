"""Section R: control flow that depends on data, sizes and ints; the decision gate; search loops of translators."""

import torch
from torch import Tensor, nn

from tests.familiar.case import Case, calls, randn

ROW = randn(4)


class Gate(nn.Module):
    """The tutorial's decision gate."""

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return -x


class GatedCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.linear = Gate(), nn.Linear(4, 4)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.gate(self.linear(x)) + h)
        return h, h


class Loops(nn.Module):
    """for, while, break and continue on ints and data, carrying a tensor and an int."""

    def forward(self, x: Tensor, n: int) -> tuple[Tensor, int]:
        total, k = torch.zeros(4), 0
        for i in range(n):
            if i == 2:
                continue
            total += x * i
            k += i
            if bool(total.max() > 9):
                break
        while bool(total.sum() < 3) and k < 20:
            total = total + 1
            k += 1
        return total, k


class BySize(nn.Module):
    """Decided by shapes."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 1:
            return x * 2
        for i in range(x.size(0)):
            x = x + x[i]
        return x if x.size(1) > 3 else x.sum(1)


class Early(nn.Module):
    def forward(self, x: Tensor, n: int) -> Tensor:
        for i in range(n):
            x = x * 0.5 - 0.1
            if bool(x.abs().max() < 0.2):
                return x + i
        return -x


class IntsAlone(nn.Module):
    def forward(self, a: int, b: int) -> int:
        while b != 0:
            a, b = b, a % b
        return a


class Recurrence(nn.Module):
    """A cell over the first axis by a Python loop."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(1), 3)
        steps = []
        for i in range(x.size(0)):
            h = self.cell(x[i], h)
            steps.append(h)
        return torch.stack(steps)


class TracedInside(nn.Module):
    """Scripted, with a traced child and one of another loop."""

    def __init__(self) -> None:
        super().__init__()
        self.traced = torch.jit.trace(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.zeros(4))

    def forward(self, x: Tensor, n: int) -> Tensor:
        for _ in range(n):
            x = self.traced(x) + x
        return x


class ScriptedInside(nn.Module):
    """To be traced, with a scripted child that branches."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = torch.jit.script(Gate())

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(x * 2) + 1


class Encoder(nn.Module):
    def __init__(self, hidden: int, embedding: nn.Embedding) -> None:
        super().__init__()
        self.hidden = hidden
        self.embedding = embedding
        self.gru = nn.GRU(hidden, hidden, 2, dropout=0.1, bidirectional=True)

    def forward(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        packed = nn.utils.rnn.pack_padded_sequence(self.embedding(tokens), lengths)
        outputs, hidden = self.gru(packed)
        outputs, _ = nn.utils.rnn.pad_packed_sequence(outputs)
        return outputs[:, :, : self.hidden] + outputs[:, :, self.hidden :], hidden


class Attention(nn.Module):
    """Luong's scores: dot, general, concat."""

    def __init__(self, method: str, hidden: int) -> None:
        super().__init__()
        self.method = method
        self.general, self.concat = nn.Linear(hidden, hidden), nn.Linear(hidden * 2, hidden)
        self.v = nn.Parameter(torch.randn(hidden))

    def forward(self, hidden: Tensor, encoded: Tensor) -> Tensor:
        if self.method == "dot":
            scores = torch.sum(hidden * encoded, dim=2)
        elif self.method == "general":
            scores = torch.sum(hidden * self.general(encoded), dim=2)
        else:
            both = torch.cat((hidden.expand(encoded.size(0), -1, -1), encoded), 2)
            scores = torch.sum(self.v * self.concat(both).tanh(), dim=2)
        return nn.functional.softmax(scores.t(), dim=1).unsqueeze(1)


class Decoder(nn.Module):
    def __init__(self, method: str, embedding: nn.Embedding, hidden: int, words: int) -> None:
        super().__init__()
        self.layers = 2
        self.embedding, self.dropout = embedding, nn.Dropout(0.1)
        self.gru = nn.GRU(hidden, hidden, 2, dropout=0.1)
        self.attention = Attention(method, hidden)
        self.concat, self.out = nn.Linear(hidden * 2, hidden), nn.Linear(hidden, words)

    def forward(self, token: Tensor, hidden: Tensor, encoded: Tensor) -> tuple[Tensor, Tensor]:
        output, hidden = self.gru(self.dropout(self.embedding(token)), hidden)
        context = self.attention(output, encoded).bmm(encoded.transpose(0, 1))
        both = torch.cat((output.squeeze(0), context.squeeze(1)), 1)
        return nn.functional.softmax(self.out(torch.tanh(self.concat(both))), dim=1), hidden


class Search(nn.Module):
    """The chatbot's greedy search: a run-time length, tokens and their scores."""

    def __init__(self, method: str, words: int = 11, hidden: int = 6) -> None:
        super().__init__()
        embedding = nn.Embedding(words, hidden)
        self.encoder = Encoder(hidden, embedding)
        self.decoder = Decoder(method, embedding, hidden, words)
        self._device, self._start = "cpu", 1

    def forward(self, tokens: Tensor, lengths: Tensor, max_length: int) -> tuple[Tensor, Tensor]:
        encoded, hidden = self.encoder(tokens, lengths)
        hidden = hidden[: self.decoder.layers]
        token = torch.ones(1, 1, device=self._device, dtype=torch.long) * self._start
        found = torch.zeros([0], device=self._device, dtype=torch.long)
        scores = torch.zeros([0], device=self._device)
        for _ in range(max_length):
            output, hidden = self.decoder(token, hidden, encoded)
            score, token = torch.max(output, dim=1)
            found = torch.cat((found, token), dim=0)
            scores = torch.cat((scores, score), dim=0)
            token = torch.unsqueeze(token, 0)
        return found, scores


class Translator(nn.Module):
    """The translation tutorial's decoder with attention over a fixed number of positions, stopped by an end token."""

    def __init__(self, words: int = 7, hidden: int = 5, positions: int = 4) -> None:
        super().__init__()
        self.embedding, self.dropout = nn.Embedding(words, hidden), nn.Dropout(0.1)
        self.attention, self.combine = nn.Linear(hidden * 2, positions), nn.Linear(hidden * 2, hidden)
        self.gru, self.out = nn.GRU(hidden, hidden), nn.Linear(hidden, words)
        self.end = 2

    def forward(self, token: Tensor, hidden: Tensor, encoded: Tensor, steps: int) -> tuple[Tensor, Tensor, int]:
        found = torch.full((8,), -1)
        used = 0
        for i in range(steps):
            embedded = self.dropout(self.embedding(token).view(1, 1, -1))
            weights = nn.functional.softmax(self.attention(torch.cat((embedded[0], hidden[0]), 1)), dim=1)
            applied = torch.bmm(weights.unsqueeze(0), encoded.unsqueeze(0))
            mixed = nn.functional.relu(self.combine(torch.cat((embedded[0], applied[0]), 1)).unsqueeze(0))
            output, hidden = self.gru(mixed, hidden)
            token = nn.functional.log_softmax(self.out(output[0]), dim=1).argmax(1)
            found[i] = token[0]
            used += 1
            if bool(token[0] == self.end):
                break
        return found, hidden, used


class Untyped(nn.Module):
    """An argument without a type, which scripting takes for a tensor."""

    def forward(self, x: Tensor, n):
        for i in range(n):
            x = x * 0.5 + i
        return x


class Device(nn.Module):
    """Closes over a device, and makes LongTensor literals."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.ones(3, device=DEVICE) * x + torch.LongTensor([1, 2, 3])


DEVICE = torch.device("cpu")
TOKENS = torch.tensor([[3, 4], [5, 6], [7, 2], [2, 0]])
LENGTHS = torch.tensor([4, 3])
ONE = (TOKENS[:, :1], LENGTHS[:1])

CASES = [
    Case("R2", "gate", Gate, calls(ROW, -ROW, ROW.abs()), form="script"),
    Case("R2", "gate_eager", Gate, calls(ROW, -ROW, ROW.abs())),
    Case("R2", "gated_cell", GatedCell, calls((ROW, ROW), (-ROW, ROW)), form="script"),
    Case("R3", "loops", Loops, calls((ROW, 5), (ROW, 0), (ROW.abs() * 3, 9), (-ROW, 2)), form="script"),
    Case("R3", "loops_eager", Loops, calls((ROW, 5), (ROW, 0), (ROW.abs() * 3, 9), (-ROW, 2))),
    Case("R3", "by_size", BySize, calls(ROW, randn(3, 4), randn(2, 2)), form="script"),
    Case("R3", "by_size_eager", BySize, calls(ROW, randn(3, 4), randn(2, 2))),
    Case("R3", "early_return", Early, calls((ROW, 4), (ROW, 0), (ROW, 40)), form="script"),
    Case("R3", "ints_alone", IntsAlone, calls((12, 18), (7, 0), (35, 14)), form="script"),
    Case("R3", "recurrence", Recurrence, calls(randn(3, 2, 4), randn(1, 2, 4), randn(5, 1, 4)), form="script"),
    Case("R4", "traced_inside_scripted", TracedInside, calls((ROW, 3), (ROW, 0), (ROW, 5)), form="script"),
    Case("R4", "scripted_inside_traced", ScriptedInside, calls(ROW, -ROW), form="trace"),
    Case(
        "R5",
        "encoder_packed",
        lambda: Encoder(6, nn.Embedding(11, 6)),
        calls((TOKENS, LENGTHS)),
        form="script",
    ),
    *(
        Case(
            "R6",
            f"search_{method}",
            lambda method=method: Search(method),
            calls((*ONE, 5), (*ONE, 0), (*ONE, 3)),
            form="script",
        )
        for method in ("dot", "general", "concat")
    ),
    Case(
        "R5",
        "translator",
        Translator,
        calls(*((torch.tensor(t), randn(1, 1, 5), randn(4, 5), n) for t, n in ((1, 4), (0, 0), (3, 8), (2, 1)))),
        form="script",
    ),
    Case("R9", "closed_over_device", Device, calls(randn(3))),
    Case("R11", "untyped_argument", Untyped, calls((ROW, 3), (ROW, 0), (ROW, 6))),
]
