"""Engines that a user might pick, each set up for one request at a time in float32: (model, args, threads) → a call.

The call runs the model once on the same arguments and returns its first output as something numpy can read. An
engine that is not installed raises ImportError; one that cannot take the model raises what it raises.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

Args = tuple[torch.Tensor, ...]
Run = Callable[[], Any]


def neve(model: torch.nn.Module, args: Args, threads: int) -> Run:
    import neve

    module = neve.compile(model, args, threads=threads)
    return lambda: module(*args)


def eager(model: torch.nn.Module, args: Args, threads: int) -> Run:
    return lambda: model(*args)


def torchscript(model: torch.nn.Module, args: Args, threads: int) -> Run:
    traced = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, args, strict=False)))
    return lambda: traced(*args)


def inductor(model: torch.nn.Module, args: Args, threads: int) -> Run:
    import torch._inductor.config as config

    config.freezing = True
    config.cpp.threads = threads
    compiled = torch.compile(model, options={"freezing": True})
    return lambda: compiled(*args)


def onnxruntime(model: torch.nn.Module, args: Args, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(_onnx(model, args)), options, providers=["CPUExecutionProvider"])
    feed = {i.name: a.numpy() for i, a in zip(session.get_inputs(), args, strict=True)}
    return lambda: session.run(None, feed)[0]


def openvino(model: torch.nn.Module, args: Args, threads: int) -> Run:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(_onnx(model, args)), "CPU", settings).create_infer_request()
    for i, a in enumerate(args):
        request.set_input_tensor(i, openvino.Tensor(a.numpy()))

    def run() -> Any:
        request.infer()
        return request.get_output_tensor(0).data

    return run


def mnn(model: torch.nn.Module, args: Args, threads: int) -> Run:
    import MNN
    import onnx

    path = _onnx(model, args)
    target = path.with_suffix(".mnn")
    # not the command mnnconvert: it runs `pip install -U aliyun-log-python-sdk`, which wants an old protobuf
    convert = [sys.executable, "-c", "import sys, MNN, _tools; _tools.mnnconvert(sys.argv)"]
    _quietly([*convert, "-f", "ONNX", "--modelFile", path, "--MNNModel", target, "--bizCode", "neve"])
    graph = onnx.load(path).graph
    runtime = MNN.nn.create_runtime_manager(({"backend": "CPU", "numThread": threads, "precision": "high"},))
    net = MNN.nn.load_module_from_file(
        str(target), [i.name for i in graph.input], [graph.output[0].name], runtime_manager=runtime
    )
    feed = []
    for a in args:
        array = a.numpy().astype(np.int32) if a.dtype is torch.int64 else a.numpy()
        kind = MNN.expr.int if array.dtype == np.int32 else MNN.expr.float
        feed.append(MNN.expr.const(array, list(array.shape), MNN.expr.NCHW, kind))
    return lambda: np.array(MNN.expr.convert(net.forward(feed)[0], MNN.expr.NCHW).read())


def ncnn(model: torch.nn.Module, args: Args, threads: int) -> Run:
    import ncnn

    folder = Path(tempfile.mkdtemp())
    torch.jit.trace(model, args, strict=False).save(folder / "m.pt")
    kinds = {torch.float32: "f32", torch.int64: "i64"}
    shapes = ",".join("[" + ",".join(map(str, a.shape)) + "]" + kinds[a.dtype] for a in args)
    _quietly([_beside("pnnx"), "m.pt", f"inputshape={shapes}", "fp16=0"], folder)
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    net.load_param(str(folder / "m.ncnn.param"))
    net.load_model(str(folder / "m.ncnn.bin"))
    feed = [np.array(a.squeeze(0).to(torch.int32 if a.dtype is torch.int64 else a.dtype)) for a in args]

    def run() -> Any:
        extractor = net.create_extractor()
        for i, array in enumerate(feed):
            extractor.input(f"in{i}", ncnn.Mat(array))
        return np.array(extractor.extract("out0")[1])

    return run


def _onnx(model: torch.nn.Module, args: Args) -> Path:
    path = Path(tempfile.mkdtemp()) / "m.onnx"
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(model, args, path, dynamo=True, external_data=False)
    return path


def _beside(tool: str) -> Path:
    return Path(sys.executable).with_name(tool)


def _quietly(command: list[Any], folder: Path | None = None) -> None:
    subprocess.run([str(part) for part in command], cwd=folder, check=True, capture_output=True)


ENGINES: dict[str, tuple[Callable[[torch.nn.Module, Args, int], Run], str]] = {
    "neve": (neve, "neve"),
    "eager": (eager, "torch"),
    "torchscript": (torchscript, "torch"),
    "inductor": (inductor, "torch"),
    "onnxruntime": (onnxruntime, "onnxruntime"),
    "openvino": (openvino, "openvino"),
    "mnn": (mnn, "mnn"),
    "ncnn": (ncnn, "ncnn"),
}
"""Name → the engine, and the package whose version to state."""


def versions() -> dict[str, str]:
    """The versions of the packages that are installed."""
    found = {}
    for _, package in ENGINES.values():
        with contextlib.suppress(ImportError):
            found[package] = version(package)
    return found
