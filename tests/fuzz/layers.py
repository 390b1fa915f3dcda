"""Statements that call layers, each with its weight."""

from __future__ import annotations

import torch

from tests.fuzz.grammar import Grower, Unfit
from tests.fuzz.steps import Step
from tests.fuzz.steps import step as any_step

LAYERS: dict[Step, float] = {}
WIDTHS = (1, 2, 3, 4, 5, 8, 9, 16)


def step(weight: float = 1.0):  # type: ignore[no-untyped-def]
    return any_step(weight, table=LAYERS)


def to(g: Grower, x: str) -> str:
    """The dtype argument of a layer for x."""
    dtype = g.value(x).dtype
    return "" if dtype is torch.float32 else f", dtype={dtype}"


def called(g: Grower, made: str, x: str) -> str:
    return f"{g.new()} = {g.layer(made)}({x})"


@step(4)
def linear(g: Grower) -> str:
    x = g.floating(1, 4)
    bias = g.r.choice(("", "", ", bias=False"))
    return called(g, f"nn.Linear({g.static(x, -1)}, {g.r.choice(WIDTHS)}{bias}{to(g, x)})", x)


@step(4)
def convolution(g: Grower) -> str:
    x = g.floating(3, 4)
    rank, c, r = g.value(x).dim() - 2, g.static(x, 1), g.r
    groups = r.choice([k for k in range(1, c + 1) if c % k == 0]) if r.random() < 0.4 else 1
    out = groups * r.choice((1, 2, 3))
    up = r.random() < 0.25
    more = [f"{r.choice((1, 2, 3))}", f"stride={r.choice((1, 1, 2))}", f"padding={r.choice((0, 1, 1))}"]
    if r.random() < 0.2:
        more.append("dilation=2")
    if r.random() < 0.15 and not up:
        more.append(f'padding_mode="{r.choice(("reflect", "circular", "replicate"))}"')
    if r.random() < 0.25:
        more.append("bias=False")
    name = f"nn.Conv{'Transpose' * up}{rank}d"
    return called(g, f"{name}({c}, {out}, {', '.join(more)}, groups={groups}{to(g, x)})", x)


@step(3)
def norm(g: Grower) -> str:
    x = g.floating(2, 4)
    n, d, r = g.value(x).dim(), to(g, x), g.r
    if r.random() < 0.4:
        last = g.static(x, -1)
        norms = [f"nn.RMSNorm({last}{d})"]
        if last > 1:  # of one number eager leaves in half types what rounding leaves of x - x
            norms += [f"nn.LayerNorm({last}{d})", f"nn.LayerNorm({last}, elementwise_affine=False{d})"]
        return called(g, r.choice(norms), x)
    c = g.static(x, 1)
    groups = r.choice([k for k in range(1, c + 1) if c % k == 0])
    rank = {2: 1, 3: 1, 4: 2}[n]
    forms = [
        f"nn.BatchNorm{rank}d({c}{d})",
        f"nn.BatchNorm{rank}d({c}, affine=False{d})",
        f"nn.GroupNorm({groups}, {c}{d})",
    ]
    if n > 2:
        forms += [
            f"nn.InstanceNorm{rank}d({c}, affine=True{d})",
            f"nn.InstanceNorm{rank}d({c}{d})",
            f"nn.InstanceNorm{rank}d({c}, track_running_stats=True{d})",
        ]
    return called(g, r.choice(forms), x)


@step(1)
def pool(g: Grower) -> str:
    x = g.floating(3, 4)
    d = g.value(x).dim() - 2
    forms = (
        f"nn.MaxPool{d}d(2)",
        f"nn.AvgPool{d}d(2, ceil_mode=True)",
        f"nn.AdaptiveAvgPool{d}d(2)",
        f"nn.MaxPool{d}d(3, stride=1, padding=1)",
        f"nn.AvgPool{d}d(3, 1, 1)",
        f"nn.AdaptiveMaxPool{d}d(1)",
        f"nn.MaxPool{d}d(2, dilation=2, ceil_mode=True)",
    )
    return called(g, g.r.choice(forms), x)


@step(2)
def activation(g: Grower) -> str:
    x = g.floating(2)
    forms = [
        "nn.ReLU()",
        "nn.ReLU(inplace=True)",
        "nn.GELU()",
        'nn.GELU("tanh")',
        "nn.SiLU()",
        "nn.Hardswish()",
        "nn.Softmax(-1)",
        "nn.Tanh()",
        "nn.Sigmoid()",
        "nn.ELU(0.7)",
        f"nn.PReLU({to(g, x)[2:]})",
        "nn.Dropout(0.3)",
        "nn.Flatten()",
        "nn.Identity()",
        "nn.Threshold(0.1, 0.2)",
        "nn.Softplus(2)",
        "nn.GLU(-1)",
    ]
    made = g.r.choice(forms)
    if "inplace" in made and x in {a.name for a in g.arguments}:
        raise Unfit
    return called(g, made, x)


@step(1.5)
def embedding(g: Grower) -> str:
    i = g.pick(lambda t: t.dtype in (torch.int64, torch.int32))
    n, d = g.r.choice((3, 7, 10)), g.r.choice((2, 4, 5, 8))
    if g.r.random() < 0.15 and g.value(i).dim() == 2:
        return called(g, f'nn.EmbeddingBag({n}, {d}, mode="{g.r.choice(("sum", "mean", "max"))}")', f"{i} % {n}")
    more = g.r.choice(("", ", padding_idx=0"))
    return called(g, f"nn.Embedding({n}, {d}{more})", g.r.choice((f"{i} % {n}", f"{i}.clamp(0, {n - 1})")))


@step(1.5)
def attention(g: Grower) -> str:
    x = g.floating(3, 3)
    d, r = g.static(x, -1), g.r
    heads = r.choice([k for k in range(1, d + 1) if d % k == 0])
    layer = g.layer(f"nn.MultiheadAttention({d}, {heads}, batch_first={r.choice((True, False))}{to(g, x)})")
    first = "batch_first=True" in g.pending[-1]
    v = g.value(x)
    batch, length = (v.shape[0], v.shape[1]) if first else (v.shape[1], v.shape[0])
    masks = [n for n in g.order if g.value(n).dtype is torch.bool and tuple(g.value(n).shape) == (batch, length)]
    axis = 1 if first else 0
    more = r.choice(("", ", need_weights=False", ", average_attn_weights=False"))
    if masks and r.random() < 0.7:
        more += f", key_padding_mask={r.choice(masks)}"
    if r.random() < 0.3:
        n = f"{x}.shape[{axis}]"
        more += f", attn_mask=torch.ones({n}, {n}, dtype=torch.bool).triu(1)"
    a, b = g.new(), g.new()
    return f"{a}, {'_' if 'need_weights' in more else b} = {layer}({x}, {x}, {x}{more})"


@step(0.8)
def transformer(g: Grower) -> str:
    x = g.floating(3, 3)
    d, r = g.static(x, -1), g.r
    heads = r.choice([k for k in range(1, d + 1) if d % k == 0])
    first = r.choice((True, False))
    more = r.choice(("", ', activation="gelu"', ", norm_first=True"))
    made = f"nn.TransformerEncoderLayer({d}, {heads}, {r.choice((4, 8))}, batch_first={first}{more}{to(g, x)})"
    if r.random() < 0.3:
        made = f"nn.TransformerEncoder({made}, {r.choice((1, 2))})"
    v = g.value(x)
    want = (v.shape[0], v.shape[1]) if first else (v.shape[1], v.shape[0])
    masks = [n for n in g.order if g.value(n).dtype is torch.bool and tuple(g.value(n).shape) == want]
    mask = f", src_key_padding_mask={r.choice(masks)}" if masks and r.random() < 0.7 else ""
    return f"{g.new()} = {g.layer(made)}({x}{mask})"


@step(2)
def recurrent(g: Grower) -> str:
    x = g.floating(2, 3)
    n, r = g.static(x, -1), g.r
    kind, hidden, layers = r.choice(("GRU", "LSTM", "RNN")), r.choice((2, 3, 4, 8)), r.choice((1, 1, 2))
    more = f", num_layers={layers}, batch_first={r.choice((True, False))}"
    two = r.random() < 0.3
    if two:
        more += ", bidirectional=True"
    if r.random() < 0.15:
        more += ", bias=False"
    if kind == "RNN" and r.random() < 0.4:
        more += ', nonlinearity="relu"'
    layer = g.layer(f"nn.{kind}({n}, {hidden}{more}{to(g, x)})")
    out, h = g.new(), g.new()
    first = "batch_first=True" in more
    shape = g.shape(x)
    batch = [] if len(shape) == 2 else [shape[0 if first else 1]]
    keep = any("self.s" in line for s in g.statements for line in s.init) or r.random() < 0.3
    if not keep or None in batch:
        if kind == "LSTM":
            c = g.new()
            return f"{out}, ({h}, {c}) = {layer}({x})\n{h}, {c} = {h} * 1, {c} * 1"
        return f"{out}, {h} = {layer}({x})"
    name = layer.removeprefix("self.l")
    state = f"torch.zeros({', '.join(map(str, [layers * (1 + two), *batch, hidden]))}, dtype={g.value(x).dtype})"
    if kind == "LSTM":
        g.pending += [f'self.register_buffer("{s}{name}", {state})' for s in ("sh", "sc")]
        return f"{out}, (self.sh{name}, self.sc{name}) = {layer}({x}, (self.sh{name}, self.sc{name}))"
    g.pending.append(f'self.register_buffer("sh{name}", {state})' if r.random() < 0.8 else f"self.sh{name} = {state}")
    if "register" in g.pending[-1] and r.random() < 0.5:
        return f"{out}, {h} = {layer}({x}, self.sh{name})\nself.sh{name}.copy_({h})"
    return f"{out}, self.sh{name} = {layer}({x}, self.sh{name})"


@step(0.5)
def cell(g: Grower) -> str:
    x = g.floating(2, 2)
    kind = g.r.choice(("GRUCell", "RNNCell"))
    return called(g, f"nn.{kind}({g.static(x, -1)}, {g.r.choice((2, 4))}{to(g, x)})", x)


@step(1)
def sequence(g: Grower) -> str:
    x = g.floating(2, 3)
    n, m, d = g.static(x, -1), g.r.choice(WIDTHS), to(g, x)
    act = g.r.choice(("nn.ReLU()", "nn.GELU()", "nn.SiLU()", "nn.Tanh()"))
    return called(g, f"nn.Sequential(nn.Linear({n}, {m}{d}), {act}, nn.Linear({m}, {n}{d}))", x)


@step(1)
def parameter(g: Grower) -> str:
    x = g.floating(1)
    p = g.layer(f"nn.Parameter(torch.randn({g.static(x, -1)}, dtype={g.value(x).dtype}))")
    return f"{g.new()} = {x} {g.r.choice(('*', '+', '-'))} {p}"


@step(1.5)
def again(g: Grower) -> str:
    """A layer of this method or an earlier one once more, on other values."""
    found = [line for s in (*g.kept, *g.statements) for line in s.init if " = nn." in line]
    if not found:
        raise Unfit
    line = g.r.choice(found)
    g.pending.append(line)
    return f"{g.new()} = {line.split(' = ')[0]}({g.floating(1)})"
