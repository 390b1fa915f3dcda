"""The public calls: a model to a compiled module, and a file to one."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neve import artifact as artifacts
from neve.artifact import Artifact, Binary
from neve.build.target import Target, parse_target, runs_here
from neve.errors import CaptureError, NeveError
from neve.progress import Progress, shown
from neve.runtime.loader import Module
from neve.runtime.signature import read_signature
from neve.runtime.trees import register_class

if TYPE_CHECKING:
    from neve.build.toolchain import Compiler
    from neve.check.examples import Recorded
    from neve.check.prove import Original
    from neve.emit.unit import Pick
    from neve.ir.graph import Program

STAGES = {"capture": 0.0, "optimize": 0.25, "plan": 0.3, "build": 0.45, "reference": 0.9, "verify": 0.95, "done": 1.0}


@dataclass(frozen=True, eq=False)
class Compiled:
    """A compilation's result before it is loaded.

    The artifact, the seconds of each stage, each method's example calls with what the original gives for them, and what
    it was compiled from and with.
    """

    artifact: Artifact
    seconds: dict[str, float]
    recorded: Mapping[str, Sequence[Recorded]]
    original: Original
    target: Target
    compiler: Compiler


def compile(
    model: Any,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    methods: Mapping[str, Any] | Sequence[str] | None = None,
    preserved_attrs: Sequence[str] = (),
    target: str = "native",
    threads: int | None = None,
    optimize_numerics: bool = True,
    disable: Collection[str] = (),
    prepack: bool = False,
    tune: bool | float = False,
    verify: bool | str = True,
    name: str = "model",
    compiler: str | None = None,
    progress: bool | Progress | None = None,
) -> Module:
    """A PyTorch model as a module of compiled C that needs no torch.

    model: nn.Module or ScriptModule (compiled in evaluation mode; it is not changed), ExportedProgram, or the path of
        a .pt2 file or a TorchScript archive (.pt, .ptl), which may be one that optimize_for_mobile wrote. A model in
        training mode is compiled as after eval(). One that is in evaluation mode is compiled as it is: a submodule of
        it that is in training mode computes what it does in eager (batch statistics, which update its running ones).
    args, kwargs: example inputs of forward (default: all that are bundled with the model, for every method that has
        some); sizes are fixed to theirs but for `dynamic_shapes` (as of torch.export).
    methods: further entry points, all on the same weights and state: name → tuple of example arguments, or a list of
        such, or None for the inputs bundled with the model; or names alone. Without args they are all there is.
        The first example is captured; results are compared for all, and the artifact carries all. Or a dict with
        "args", "kwargs", "dynamic_shapes" and "method", the model's own name for it, so that one method can be there
        for several sizes or settings: {"forward_8k": {"method": "forward", "args": (x, 8000)}}.
    preserved_attrs: attributes that stay changeable, by dotted path: tensors, parameters, buffers, ints, floats, bools,
        lists, tuples and dicts of them, or a submodule for all of its own. They are not compiled in but read at each
        call, and `module.attributes`, or `module.sub.scale = 2.0`, sets them; C has them by NAME_state. A number cannot
        be preserved where a size or a step of the capture depends on it.
    threads: on how many threads a call runs (default: as many as processors); the results do not depend on it.
    optimize_numerics: False leaves out every pass that may change rounding; disable: names of passes to leave out.
    prepack: show packed parameters, and the clamps and sums that ops take up, in the graph: the form that a user of
        optimize_for_mobile knows. The results are the same.
    tune: measure the best kernels of every layer on this machine and keep what is found in the cache; True for 10
        seconds of it, or how many; building the candidates comes on top.
    verify: compare with the original on the example inputs, and search for inputs on which they differ: other values,
        masks, sizes, several calls in a row, calls that the original refuses. That takes as long as compiling did, at
        most 10 seconds; "thorough" searches for up to 2 minutes; False compares nothing. VerifyError names the call,
        where the difference begins, and a file with its inputs. `module.artifact.measured` has what was tried and the
        largest error of each.
    compiler: "gcc", "clang", "zig" or a command (default $NEVE_CC, else the best one found).
    progress: None shows a bar on stderr if that is a terminal; True also writes a line for each step if it is none;
        False shows nothing; a function is called with the share of the work done (0.0 to 1.0) and what is being done,
        as in `progress=lambda share, what: log.info("%3.0f%% %s", 100 * share, what)`.

    Raises CaptureError (all reasons why the model cannot be captured), BuildError (no C compiler), VerifyError.
    """
    if verify not in (True, False, "thorough"):
        raise TypeError(f'verify: got {verify!r}, wanted True, False or "thorough"')
    reason = runs_here(parse_target(target))
    if reason:
        raise NeveError(
            f"a module for {target} cannot run here ({reason}): "
            f"use neve.build_artifact(..., target={target!r}).save(path)"
        )
    with shown(f"compiling {_title(model)}", progress) as report:
        made = _compile(
            model,
            args,
            kwargs,
            dynamic_shapes=dynamic_shapes,
            methods=methods,
            preserved_attrs=preserved_attrs,
            target=parse_target(target),
            optimize_numerics=optimize_numerics,
            disable=disable,
            prepack=prepack,
            tune=10.0 if tune is True else float(tune),
            name=name,
            compiler=compiler,
            progress=report,
            threads=threads,
        )
        module = artifacts.open_module(made.artifact, threads=threads)
        if verify:
            _verify(module, made, verify == "thorough", report)
        _tell(report, "done", "done")
    return module


def register_op(op: Any, function: Callable[..., Any]) -> None:
    """Say what a custom op (torch.library) computes: models that call it are compiled with the function in its place.

    op: its name, as "mylib::op", or what torch.library.custom_op gave. function: has the op's arguments, and gives its
    results with torch's ops; it serves as the op's fake implementation where that has none. The compilation is held to
    the model with the op itself. Raises NeveError for an op that writes its arguments or does not exist.
    """
    from neve.capture.custom_ops import register

    register(op, function)


def build_artifact(
    model: Any,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    methods: Mapping[str, Any] | Sequence[str] | None = None,
    preserved_attrs: Sequence[str] = (),
    target: str = "native",
    optimize_numerics: bool = True,
    disable: Collection[str] = (),
    name: str = "model",
    compiler: str | None = None,
    progress: bool | Progress | None = None,
) -> Artifact:
    """The `.neve` artifact of a model for any target, neither loaded nor verified; arguments as of `compile`."""
    with shown(f"compiling {_title(model)}", progress) as report:
        made = _compile(
            model,
            args,
            kwargs,
            dynamic_shapes=dynamic_shapes,
            methods=methods,
            preserved_attrs=preserved_attrs,
            target=parse_target(target),
            optimize_numerics=optimize_numerics,
            disable=disable,
            prepack=False,
            tune=0.0,
            name=name,
            compiler=compiler,
            progress=report,
            threads=None,
        )
        _tell(report, "done", "done")
    return made.artifact


def convert(
    source: str | Path,
    out: str | Path,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    method: str | None = None,
    dynamic_shapes: Any = None,
) -> None:
    """Saves a TorchScript archive that the installed torch may be unable to load as a file that it loads.

    out: a .pt, for torch.jit.load: all methods, attributes and weights as they are, with the ops that
        optimize_for_mobile wrote turned back into convolutions, linear layers and clamps; nothing of the archive is
        run. Or a .pt2, for torch.export.load: one method with its state, traced on the example inputs (by default those
        bundled with the archive); numbers among its arguments become tensors of no dims, and sizes are fixed but for
        dynamic_shapes.
    method: which one a .pt2 holds, if the model has several.

    Raises CaptureError with every reason why it cannot be expressed; then nothing is written.
    """
    from neve.capture.torchscript.convert import to_exported, to_torchscript

    suffix = Path(out).suffix
    if suffix == ".pt2":
        to_exported(source, out, method, args, kwargs, dynamic_shapes)
    elif suffix in (".pt", ".ptl", ".pth"):
        to_torchscript(source, out)
    else:
        raise NeveError(f"{out}: wanted the name of a .pt2 file (torch.export) or of a .pt file (TorchScript)")


def load(path: str | Path, *, threads: int | None = None) -> Module:
    """The module in a `.neve` file; needs numpy alone.

    Raises ArtifactError if the file is damaged or made for other machines.
    """
    return artifacts.open_module(artifacts.load(path), threads=threads)


def _compile(
    model: Any,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    *,
    dynamic_shapes: Any,
    methods: Mapping[str, Any] | Sequence[str] | None,
    preserved_attrs: Sequence[str],
    target: Target,
    optimize_numerics: bool,
    disable: Collection[str],
    prepack: bool,
    tune: float,
    name: str,
    compiler: str | None,
    progress: Progress | None,
    threads: int | None,
) -> Compiled:
    from neve.build.toolchain import build, find_compiler
    from neve.capture.examples import examples_of
    from neve.capture.export import capture, is_code, load_program
    from neve.capture.trees import CLASSES
    from neve.check.examples import record
    from neve.check.prove import Original
    from neve.check.verify import computed_in
    from neve.emit.program import MAX_THREADS, emit
    from neve.emit.unit import best_by_analysis
    from neve.passes.pipeline import optimize

    if isinstance(preserved_attrs, str):
        raise TypeError(f"preserved_attrs: got the str {preserved_attrs!r}, wanted a list of names")
    if not name.isidentifier() or not name.isascii():
        raise NeveError(f"name {name!r} must be a C identifier: it prefixes every function of the library")
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[stage], clock = now - clock, now

    chosen = find_compiler(target, compiler)
    _tell(progress, "capture", "capturing the model with torch.export")
    if not is_code(model):
        loaded = load_program(model, args, kwargs)
        model, args, kwargs = loaded.program, loaded.args, loaded.kwargs
    examples = examples_of(model, args, kwargs, dynamic_shapes, methods)
    specs = {k: e.spec for k, e in examples.items()} if is_code(model) else None
    if specs is None and methods:
        raise CaptureError("an exported program has one entry point: methods= needs the nn.Module")
    args, kwargs = (None, None) if specs else (args, kwargs)
    program = capture(model, args, kwargs, methods=specs, preserved_attrs=preserved_attrs)
    for kind in CLASSES.values():
        register_class(kind.name, kind.build, kind.fields)
    lap("capture")
    _tell(progress, "optimize", "optimizing the graph")
    options: dict[str, Any] = {"optimize_numerics": optimize_numerics, "disable": tuple(disable), "prepack": prepack}
    original = Original(model, examples, program, options)
    program, log = optimize(program, **options)
    lap("optimize")
    _tell(progress, "plan", "choosing kernels and packing weights")
    most = max(threads or 1, MAX_THREADS)
    pick = _tuned(program, target, name, threads, most, chosen, tune, progress) if tune > 0 else best_by_analysis
    emitted = emit(program, target, name, most, pick=pick)
    lap("plan")
    first, last = STAGES["build"], STAGES["reference"]
    library = build(
        emitted.source,
        target,
        compiler=chosen,
        progress=lambda done, total, what: progress(first + (last - first) * done / total, what) if progress else None,
    )
    lap("build")
    _tell(progress, "reference", "running the original on the example inputs")
    recorded = record(model, examples, program, read_signature(emitted.source.signature))
    lap("reference")
    calls = {
        k: [
            {
                "label": c.label,
                "module": c.origin.module,
                "source": c.origin.source,
                "flops": c.flops,
                "bytes": c.traffic,
                **({"plain": c.plain} if c.plain else {}),
                **({"others": [list(x) for x in c.others]} if c.others else {}),
            }
            for c in sites
        ]
        for k, sites in emitted.calls.items()
    }
    made = Artifact(
        name,
        emitted.source.signature,
        emitted.source.weights,
        str(program),
        emitted.source.files,
        {target.name: Binary(library.compiler, library.path.read_bytes())},
        {k: [r.example for r in found if r.example] for k, found in recorded.items()},
        [str(e) for e in log.entries],
        {},
        {
            "calls": calls,
            "computed": {k: computed_in(m.graph) for k, m in program.methods.items()},
            "options": {**options, "preserved_attrs": list(preserved_attrs)},
            "methods": {k: examples[k].method or k for k in program.methods if k in examples},
            "seconds": {k: round(v, 3) for k, v in seconds.items()},
        },
    )
    return Compiled(made, seconds, recorded, original, target, chosen)


def _title(model: Any) -> str:
    """What a model is called where its progress is shown."""
    return Path(model).name if isinstance(model, (str, Path)) else type(model).__name__


def _tuned(
    program: Program,
    target: Target,
    name: str,
    threads: int | None,
    most: int,
    compiler: Compiler,
    seconds: float,
    progress: Progress | None,
) -> Pick:
    """Kernels picked by measurement on the example inputs, with the time of the plan shown as theirs."""
    from neve.check.tune import tune
    from neve.runtime.native import default_threads

    first, last = STAGES["plan"], STAGES["build"]
    return tune(
        program,
        target,
        {k: m.examples[0] for k, m in program.methods.items() if m.examples},
        name=name,
        threads=threads or default_threads(),
        compiler=compiler,
        seconds=seconds,
        most_threads=most,
        progress=lambda share, what: progress(first + (last - first) * share, what) if progress else None,
    )


def _tell(progress: Progress | None, stage: str, text: str) -> None:
    if progress is not None:
        progress(STAGES[stage], text)


def _verify(module: Module, made: Compiled, thorough: bool, progress: Progress | None) -> None:
    """Holds the module against its original and puts what was found into the artifact. VerifyError."""
    from neve.check.prove import prove
    from neve.check.search import SECONDS, THOROUGH_SECONDS, THOROUGH_TRIALS, TRIALS

    _tell(progress, "verify", "comparing with the original")
    first, last = STAGES["verify"], STAGES["done"]
    found = prove(
        module,
        made.original,
        made.recorded,
        made.target,
        made.compiler,
        THOROUGH_SECONDS if thorough else min(SECONDS, sum(made.seconds.values())),
        THOROUGH_TRIALS if thorough else TRIALS,
        (lambda share, what: progress(first + (last - first) * share, what)) if progress else None,
    )
    module.artifact.measured.update(found)
