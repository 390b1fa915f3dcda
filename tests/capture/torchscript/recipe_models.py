"""Small models with the structures of PyTorch's chatbot and translation tutorials, with random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

WORDS, HIDDEN, LAYERS, START, END = 12, 8, 2, 1, 2


def seeded(cls, *args, seed: int = 0):
    """An instance with weights that make its choices of words vary."""
    torch.manual_seed(seed)
    model = cls(*args).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2.5)
    return model


class Encoder(nn.Module):
    """words (T, B), lengths (B,) → outputs (T, B, H), the sum of both directions, and the last states."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.embedding = embedding
        self.gru = nn.GRU(HIDDEN, HIDDEN, LAYERS, dropout=0.1, bidirectional=True)

    def forward(self, words: Tensor, lengths: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        packed = pack_padded_sequence(self.embedding(words), lengths)
        outputs, hidden = self.gru(packed, hidden)
        outputs, _ = pad_packed_sequence(outputs)
        half = outputs.size(2) // 2
        return outputs[:, :, :half] + outputs[:, :, half:], hidden


class Attention(nn.Module):
    """Luong's attention: weights (B, 1, T) of the encoder's outputs by one of three scores."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method
        self.project = nn.Linear(HIDDEN * (2 if method == "concat" else 1), HIDDEN)
        self.v = nn.Parameter(torch.randn(HIDDEN))

    def dot_score(self, hidden: Tensor, outputs: Tensor) -> Tensor:
        return torch.sum(hidden * outputs, dim=2)

    def general_score(self, hidden: Tensor, outputs: Tensor) -> Tensor:
        return torch.sum(hidden * self.project(outputs), dim=2)

    def concat_score(self, hidden: Tensor, outputs: Tensor) -> Tensor:
        both = torch.cat((hidden.expand(outputs.size(0), -1, -1), outputs), 2)
        return torch.sum(self.v * self.project(both).tanh(), dim=2)

    def forward(self, hidden: Tensor, outputs: Tensor) -> Tensor:
        if self.method == "general":
            energies = self.general_score(hidden, outputs)
        elif self.method == "concat":
            energies = self.concat_score(hidden, outputs)
        else:
            energies = self.dot_score(hidden, outputs)
        return functional.softmax(energies.t(), dim=1).unsqueeze(1)


class LuongDecoder(nn.Module):
    """One step: the last word (1, B) and states → probabilities of the next word (B, V) and states."""

    def __init__(self, method: str, embedding: nn.Embedding) -> None:
        super().__init__()
        self.embedding, self.dropout = embedding, nn.Dropout(0.1)
        self.gru = nn.GRU(HIDDEN, HIDDEN, LAYERS, dropout=0.1)
        self.concat, self.out = nn.Linear(HIDDEN * 2, HIDDEN), nn.Linear(HIDDEN, WORDS)
        self.attention = Attention(method)

    def forward(self, word: Tensor, hidden: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.dropout(self.embedding(word))
        output, hidden = self.gru(embedded, hidden)
        weights = self.attention(output, outputs)
        context = weights.bmm(outputs.transpose(0, 1)).squeeze(1)
        joined = torch.tanh(self.concat(torch.cat((output.squeeze(0), context), 1)))
        return functional.softmax(self.out(joined), dim=1), hidden


class GreedySearch(nn.Module):
    """words (T, 1), its length (1,), how many words at most → the words found and their probabilities."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.layers, self.start = LAYERS, START

    def forward(self, words: Tensor, length: Tensor, max_length: int) -> tuple[Tensor, Tensor]:
        outputs, hidden = self.encoder(words, length)
        state = hidden[: self.layers]
        word = torch.ones(1, 1, dtype=torch.long) * self.start
        tokens = torch.zeros([0], dtype=torch.long)
        scores = torch.zeros([0])
        for _ in range(max_length):
            found, state = self.decoder(word, state, outputs)
            score, word = torch.max(found, dim=1)
            tokens = torch.cat((tokens, word), dim=0)
            scores = torch.cat((scores, score), dim=0)
            word = torch.unsqueeze(word, 0)
        return tokens, scores


def chatbot(method: str, traced: bool) -> torch.jit.ScriptModule:
    """The search, scripted, with encoder and decoder traced as for deployment, or scripted as well."""
    torch.manual_seed(1)
    embedding = nn.Embedding(WORDS, HIDDEN)
    encoder, decoder = seeded(Encoder, embedding), seeded(LuongDecoder, method, embedding)
    if traced:
        words, length = torch.arange(5)[:, None] + 3, torch.tensor([5])
        outputs, hidden = encoder(words, length)
        encoder = torch.jit.trace(encoder, (words, length))
        decoder = torch.jit.trace(decoder, (torch.ones(1, 1, dtype=torch.long), hidden[:LAYERS], outputs))
    return torch.jit.script(GreedySearch(encoder, decoder).eval())


class TranslationEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(WORDS, HIDDEN), nn.GRU(HIDDEN, HIDDEN)

    def forward(self, word: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return self.gru(self.embedding(word).view(1, 1, -1), hidden)


class AttentionDecoder(nn.Module):
    """Attention over a fixed number of places, as the translation tutorial has it."""

    def __init__(self, places: int) -> None:
        super().__init__()
        self.embedding, self.dropout = nn.Embedding(WORDS, HIDDEN), nn.Dropout(0.1)
        self.attn, self.combine = nn.Linear(HIDDEN * 2, places), nn.Linear(HIDDEN * 2, HIDDEN)
        self.gru, self.out = nn.GRU(HIDDEN, HIDDEN), nn.Linear(HIDDEN, WORDS)

    def forward(self, word: Tensor, hidden: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        embedded = self.dropout(self.embedding(word).view(1, 1, -1))
        weights = functional.softmax(self.attn(torch.cat((embedded[0], hidden[0]), 1)), dim=1)
        applied = torch.bmm(weights.unsqueeze(0), outputs.unsqueeze(0))
        x = functional.relu(self.combine(torch.cat((embedded[0], applied[0]), 1)).unsqueeze(0))
        x, hidden = self.gru(x, hidden)
        return functional.log_softmax(self.out(x[0]), dim=1), hidden, weights


class Translation(nn.Module):
    """words (T,) → the words of the translation until the end's, the attention of each, and the last state."""

    def __init__(self, places: int = 6) -> None:
        super().__init__()
        self.places, self.hidden, self.start, self.end = places, HIDDEN, START, END
        self.encoder, self.decoder = TranslationEncoder(), AttentionDecoder(places)

    def forward(self, words: Tensor) -> tuple[list[int], Tensor, Tensor]:
        hidden = torch.zeros(1, 1, self.hidden)
        outputs = torch.zeros(self.places, self.hidden)
        for i in range(min(words.size(0), self.places)):
            output, hidden = self.encoder(words[i], hidden)
            outputs[i] += output[0, 0]
        word = torch.tensor([[self.start]])
        found: list[int] = []
        attentions = torch.zeros(self.places, self.places)
        last = 0
        for i in range(self.places):
            output, hidden, weights = self.decoder(word, hidden, outputs)
            attentions[i] = weights[0]
            last = i
            best = output.topk(1)[1]
            if best.item() == self.end:
                found.append(self.end)
                break
            found.append(int(best.item()))
            word = best.detach()
        return found, attentions[: last + 1], hidden


class BatchDecoder(nn.Module):
    """The newer translation tutorial: Bahdanau's attention, a list of outputs joined behind the loop."""

    def __init__(self, steps: int = 5) -> None:
        super().__init__()
        self.steps = steps
        self.embedding, self.gru = nn.Embedding(WORDS, HIDDEN), nn.GRU(2 * HIDDEN, HIDDEN, batch_first=True)
        self.wa, self.ua, self.va = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, 1)
        self.out = nn.Linear(HIDDEN, WORDS)

    def step(self, word: Tensor, hidden: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query = hidden.permute(1, 0, 2)
        scores = self.va(torch.tanh(self.wa(query) + self.ua(outputs))).squeeze(2).unsqueeze(1)
        weights = functional.softmax(scores, dim=-1)
        joined = torch.cat((self.embedding(word), torch.bmm(weights, outputs)), dim=2)
        output, hidden = self.gru(joined, hidden)
        return self.out(output), hidden, weights

    def forward(self, outputs: Tensor, hidden: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        word = torch.ones(outputs.size(0), 1, dtype=torch.long)
        collected: list[Tensor] = []
        attentions: list[Tensor] = []
        for _ in range(steps):
            output, hidden, weights = self.step(word, hidden, outputs)
            collected.append(output)
            attentions.append(weights)
            word = output.topk(1)[1].squeeze(-1).detach()
        return functional.log_softmax(torch.cat(collected, dim=1), dim=-1), hidden, torch.cat(attentions, dim=1)


class Gate(nn.Module):
    """The decision gate, traced parts in a scripted model."""

    def forward(self, x: Tensor) -> Tensor:
        return x if bool(x.sum() > 0) else -x


class Cell(nn.Module):
    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate, self.linear = gate, nn.Linear(4, 4)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        new = torch.tanh(self.gate(self.linear(x)) + h)
        return new, new


class Repeated(nn.Module):
    """A scripted loop around a traced cell that has a scripted gate in it."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, xs: Tensor) -> tuple[Tensor, Tensor]:
        h, y = torch.zeros(3, 4), torch.zeros(3, 4)
        for i in range(xs.size(0)):
            y, h = self.cell(xs[i], h)
        return y, h


class Wrapped(nn.Module):
    def __init__(self, repeated: nn.Module) -> None:
        super().__init__()
        self.repeated = repeated

    def forward(self, xs: Tensor) -> Tensor:
        y, h = self.repeated(xs)
        return torch.relu(y) + h
