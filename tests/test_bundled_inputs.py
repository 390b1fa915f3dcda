"""Section B of the specification: bundled inputs; torch.utils.bundled_inputs is the reference where it is right."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import bundled_inputs as reference

import neve
from neve import bundled_inputs as mine

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:.*TypedStorage:UserWarning")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.tied = self.inner.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + x @ self.tied

    @torch.jit.export
    def scale(self, x: Tensor, by: float) -> Tensor:
        return x * by


class Any1(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Makes(nn.Module):
    """Makes its own inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1

    @torch.jit.export
    def _generate_bundled_inputs_for_forward(self):
        return [(torch.ones(2),), (torch.zeros(3),)]


def scripted(kind: type[nn.Module] = Any1) -> Any:
    return torch.jit.script(kind())


def theirs(kind: type[nn.Module] = Any1) -> Any:
    """For the reference, which changes the class: a module that shares its class with no other."""
    return torch.jit.load(io.BytesIO(saved(scripted(kind))))


def plain(kind: type[nn.Module] = Any1) -> Any:
    return kind()


BOTH = pytest.mark.parametrize("make", [scripted, plain])
Make = Callable[..., Any]


def saved(model: Any) -> bytes:
    out = io.BytesIO()
    torch.jit.save(model, out)
    return out.getvalue()


def bundled(make: Make, *inputs: Any, **options: Any) -> Any:
    """What one-argument inputs are after they were bundled."""
    model = make()
    mine.augment_model_with_bundled_inputs(model, [(x,) for x in inputs], **options)
    return [entry[0] for entry in model.get_all_bundled_inputs()]


def bits(t: Tensor) -> Tensor:
    return t.detach().contiguous().view(torch.uint8)


def same(a: Tensor, b: Tensor) -> bool:
    """Equal in every bit, stride, type and flag."""
    details = [(t.shape, t.stride(), t.dtype, t.requires_grad) for t in (a, b)]
    return details[0] == details[1] and torch.equal(bits(a), bits(b))


@BOTH
def test_b1_the_model_gets_the_methods_of_the_reference(make: Make) -> None:
    model, wanted = make(Net), theirs(Net)
    inputs, by = [(torch.ones(2, 3),), (torch.zeros(1, 3),)], [(torch.ones(2), 3.0)]
    mine.augment_many_model_functions_with_bundled_inputs(
        model, {model.forward: inputs, model.scale: by}, info={model.scale: ["three times"]}
    )
    reference.augment_many_model_functions_with_bundled_inputs(
        wanted, {wanted.forward: inputs, wanted.scale: by}, info={wanted.scale: ["three times"]}
    )
    assert model.get_bundled_inputs_functions_and_info() == wanted.get_bundled_inputs_functions_and_info()
    assert model.get_num_bundled_inputs() == wanted.get_num_bundled_inputs() == 2
    for got, want in zip(model.get_all_bundled_inputs(), wanted.get_all_bundled_inputs(), strict=True):
        assert same(got[0], want[0])
        assert model(*got).shape == got[0].shape
    ((x, factor),) = model.get_all_bundled_inputs_for_scale()
    assert torch.equal(model.scale(x, factor), torch.full((2,), 3.0))


@BOTH
def test_b1_without_forward_there_is_nothing_for_forward(make: Make) -> None:
    model = make(Net)
    mine.augment_many_model_functions_with_bundled_inputs(model, {model.scale: [(torch.ones(2), 3.0)]})
    assert not hasattr(model, "get_all_bundled_inputs") and not hasattr(model, "get_num_bundled_inputs")
    assert list(model.get_bundled_inputs_functions_and_info()) == ["scale"]


def test_b1_the_expression_is_that_of_the_reference() -> None:
    inputs = [(torch.zeros(50), 1.0), (reference.bundle_randn(40), 2.0)]
    texts: list[list[str]] = [[], []]
    for found, module in zip(texts, (mine, reference), strict=True):
        model = theirs(Net)
        given = [(mine.InflatableArg(*a), b) if isinstance(a, tuple) and module is mine else (a, b) for a, b in inputs]
        module.augment_many_model_functions_with_bundled_inputs(model, {model.scale: given}, found)
    assert texts[0] == texts[1] and "randn_like" in texts[0][0]


def test_b2_bundles_survive_save_load_and_freezing(tmp_path: Path) -> None:
    model = scripted(Net).eval()
    mine.augment_model_with_bundled_inputs(model, [(torch.zeros(100, 3),)], info=["zeros"])
    kept = [  # those that optimize_for_mobile keeps without being asked
        "get_all_bundled_inputs", "get_num_bundled_inputs", "get_bundled_inputs_functions_and_info",
        "get_all_bundled_inputs_for_forward", "_bundled_inputs_deflated_forward",
    ]  # fmt: skip
    model.save(str(tmp_path / "m.pt"))
    frozen = torch.jit.freeze(model, preserved_attrs=kept)
    for loaded in (torch.jit.load(str(tmp_path / "m.pt")), torch.jit.load(io.BytesIO(saved(frozen))), frozen):
        ((x,),) = loaded.get_all_bundled_inputs()
        assert same(x, torch.zeros(100, 3)) and loaded(x).shape == (100, 3)
        assert loaded.get_bundled_inputs_functions_and_info()["forward"]["info"] == ["zeros"]
        assert mine.example_inputs(loaded)["forward"][0][0].shape == (100, 3)


def test_b2_the_lite_interpreter_reads_them(tmp_path: Path) -> None:
    from torch.jit.mobile import _load_for_lite_interpreter

    model = scripted(Net)
    mine.augment_model_with_bundled_inputs(model, [(torch.full((64, 3), 2.0),)])
    model._save_for_lite_interpreter(str(tmp_path / "m.ptl"))
    loaded = _load_for_lite_interpreter(str(tmp_path / "m.ptl"))
    ((x,),) = loaded.run_method("get_all_bundled_inputs")
    assert same(x, torch.full((64, 3), 2.0))
    assert torch.equal(loaded(x), model(x))


def test_b2_torch_replaces_what_neve_bundled() -> None:
    model = scripted()
    mine.augment_model_with_bundled_inputs(
        model, [(mine.InflatableArg(torch.ones(1), fmt_fn="def {}(self, v: Tensor):\n    return v * 2"),)]
    )
    again = reference.bundle_inputs(model, [(torch.zeros(4),)])
    assert torch.equal(again.get_all_bundled_inputs()[0][0], torch.zeros(4))
    other = theirs()
    reference.augment_model_with_bundled_inputs(other, [(torch.ones(3),)])
    assert torch.equal(mine.bundle_inputs(other, [(torch.zeros(4),)]).get_all_bundled_inputs()[0][0], torch.zeros(4))


def test_b2_a_plain_module_is_copied_and_pickled_with_its_inputs() -> None:
    model = plain(Net)
    mine.augment_model_with_bundled_inputs(model, [(torch.ones(2, 3),)])
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other.get_all_bundled_inputs()[0][0], torch.ones(2, 3))
        assert other.get_all_bundled_inputs.model is other
    assert not any("bundled" in name for name in model.state_dict())


@BOTH
def test_b3_small_storages_keep_their_strides(make: Make) -> None:
    given = [torch.arange(12.0).reshape(3, 4).t(), torch.ones(1).expand(1000), torch.arange(16)[::2], torch.empty(0)]
    for got, want in zip(bundled(make, *given), given, strict=True):
        assert got.stride() == want.stride() and torch.equal(got, want)
        assert got._typed_storage()._size() <= 16


@BOTH
def test_b3_a_small_part_of_a_large_storage_is_cloned(make: Make) -> None:
    base = torch.randn(1000)
    (got,) = bundled(make, base[100:116])
    assert torch.equal(got, base[100:116]) and got._typed_storage()._size() == 16


@BOTH
@pytest.mark.parametrize(
    "given",
    [
        torch.zeros(3, 100),
        torch.full((50,), -7, dtype=torch.int64),
        torch.ones(40, dtype=torch.bool),
        torch.full((2, 3, 8, 8), 1.5, dtype=torch.float16).to(memory_format=torch.channels_last),
        torch.full((100,), 2.0, requires_grad=True),
        torch.full((20,), -0.0),
        torch.full((30,), float("inf"), dtype=torch.bfloat16),
    ],
)
def test_b3_one_number_in_every_place_is_one_element(make: Make, given: Tensor) -> None:
    model = make()
    mine.augment_model_with_bundled_inputs(model, [(given,)])
    assert model._bundled_inputs_deflated_forward[0][0]._typed_storage()._size() == 1
    ((got,),) = model.get_all_bundled_inputs()
    assert same(got, given)


def test_b3_zeros_of_both_signs_are_not_one_number() -> None:
    mixed = torch.zeros(40)
    mixed[3] = -0.0
    wrong = theirs()
    reference.augment_model_with_bundled_inputs(wrong, [(mixed,)])
    assert not wrong.get_all_bundled_inputs()[0][0].signbit().any()  # the reference loses the sign
    with pytest.raises(neve.NeveError, match="storage size 40"):
        bundled(scripted, mixed)


@BOTH
@pytest.mark.parametrize(
    "given",
    [
        torch.randn(17),
        torch.randn(100)[::50],
        torch.zeros(20, 30).t(),
        torch.full((20,), float("nan")),
    ],
)
def test_b4_large_tensors_are_refused(make: Make, given: Tensor) -> None:
    size = given._typed_storage()._size()
    text = (
        rf"Bundled input argument at position 'deflated\[0\]\[0\]' is a tensor with storage size {size}. You probably"
    )
    with pytest.raises(mine.BundledInputsError, match=text):
        bundled(make, given)
    with pytest.raises(Exception, match=text):
        reference.augment_model_with_bundled_inputs(theirs(), [(given,)])
    (got,) = bundled(make, given, skip_size_check=True)
    assert torch.equal(got, given) or given.isnan().all()


@BOTH
def test_b4_sparse_tensors_are_not_implemented(make: Make) -> None:
    with pytest.raises(NotImplementedError):
        bundled(make, torch.eye(20).to_sparse())


def test_b4_seven_large_inputs_cost_less_than_4_kib() -> None:
    given = [
        torch.zeros(1 << 20), torch.ones(3, 224, 224), torch.full((1000, 10), 3), torch.zeros(1).expand(1 << 20),
        torch.ones(1, 3, 64, 64).to(memory_format=torch.channels_last), torch.randn(1000)[:5],
        mine.bundle_randn(1 << 16),
    ]  # fmt: skip
    model, bare = scripted(), theirs()
    before = len(saved(bare))
    mine.augment_model_with_bundled_inputs(model, [(x,) for x in given])
    # what the file itself grows by: seven stored tensors of 64 aligned bytes each, and the text of the methods
    reference.augment_model_with_bundled_inputs(bare, [(torch.zeros(1),)])
    least = len(saved(bare))
    assert len(saved(model)) - least < 4096 and least > before


class Nested(nn.Module):
    def forward(self, a: int, b: list[Tensor], c: dict[str, Tensor], d: str) -> int:
        return a


@BOTH
def test_b5_everything_else_is_stored_untouched(make: Make) -> None:
    noise = torch.randn(100)
    model = make(Nested)
    mine.augment_model_with_bundled_inputs(model, [(3, [noise], {"k": noise}, "text")])
    ((a, b, c, d),) = model.get_all_bundled_inputs()
    assert (a, d) == (3, "text") and torch.equal(b[0], noise) and torch.equal(c["k"], noise)


@BOTH
@pytest.mark.parametrize(
    "entry", [(torch.ones(2),), (torch.ones(2), torch.ones(2)), (1.0, 2.0), (torch.ones(2), 1.0, 2)]
)
def test_b5_arguments_must_fit_the_method(make: Make, entry: tuple[Any, ...]) -> None:
    model = make(Net)
    with pytest.raises(RuntimeError, match="Could not cast attribute '_bundled_inputs_deflated_scale' to") as told:
        mine.augment_many_model_functions_with_bundled_inputs(model, {model.scale: [entry]})
    assert isinstance(told.value, neve.NeveError) and "by" in str(told.value)


@BOTH
def test_b6_fmt_is_an_expression_of_the_value(make: Make) -> None:
    (got,) = bundled(make, mine.InflatableArg(torch.ones(2), "torch.cat([{0}, {0}]) * 3"))
    assert torch.equal(got, torch.full((4,), 3.0))


@BOTH
def test_b6_fmt_fn_is_the_text_of_a_helper(make: Make) -> None:
    text = """
        def {}(self, value: Tensor):
            total = torch.zeros(3)
            for i in range(4):
                total = total + value
            return total
    """
    model = make(Net)
    x = mine.InflatableArg(torch.ones(3), fmt_fn=text)
    mine.augment_many_model_functions_with_bundled_inputs(model, {model.scale: [(torch.ones(3), 1.0), (x, 2.0)]})
    assert torch.equal(model.get_all_bundled_inputs_for_scale()[1][0], torch.full((3,), 4.0))
    assert hasattr(model, "_inflate_helper_for_scale_input_1_arg_0") is isinstance(model, torch.jit.ScriptModule)


@BOTH
def test_b6_fmt_and_fmt_fn_exclude_each_other(make: Make) -> None:
    with pytest.raises(mine.BundledInputsError, match=r"(?s)both arg.fmt_fn => .* and arg.fmt => {} \+ 1"):
        bundled(make, mine.InflatableArg(torch.ones(2), "{} + 1", "def {}(self, v: Tensor): return v"))


def doubled(value: Tensor) -> Tensor:
    return value * 2


def test_b6_a_plain_module_takes_callables() -> None:
    (got,) = bundled(plain, mine.InflatableArg(torch.ones(2), fmt_fn=doubled))
    assert torch.equal(got, torch.full((2,), 2.0))
    with pytest.raises(mine.BundledInputsError, match="wanted its text"):
        bundled(scripted, mine.InflatableArg(torch.ones(2), fmt_fn=doubled))


@BOTH
def test_b6_only_arguments_themselves_are_inflated(make: Make) -> None:
    model = make(Nested)
    inner = mine.InflatableArg(torch.ones(2), "{} * 2")
    if make is scripted:
        with pytest.raises(RuntimeError, match="Could not cast"):
            mine.augment_model_with_bundled_inputs(model, [(3, [inner], {}, "")])
    else:
        mine.augment_model_with_bundled_inputs(model, [(3, [inner], {}, "")])
        assert model.get_all_bundled_inputs()[0][1] == [inner]


@BOTH
def test_b6_noise_is_fresh_in_every_call(make: Make) -> None:
    model = make()
    mine.augment_model_with_bundled_inputs(model, [(mine.bundle_randn(3, 200, dtype=torch.float64),)])
    a, b = (model.get_all_bundled_inputs()[0][0] for _ in range(2))
    assert a.shape == (3, 200) and a.dtype is torch.float64 and not torch.equal(a, b)
    assert 0.8 < float(a.std()) < 1.2
    with pytest.raises(mine.BundledInputsError, match=r"got dtype torch.int64, wanted a floating-point one"):
        mine.bundle_randn(3, dtype=torch.int64)


@BOTH
def test_b6_large_tensors_can_be_asked_for(make: Make) -> None:
    noise = torch.randn(50, 3)
    assert same(bundled(make, mine.bundle_large_tensor(noise))[0], noise)


@BOTH
@pytest.mark.parametrize(
    ("inputs", "kind", "text"),
    [
        (None, Exception, "inputs for forward must be specified if _generate_bundled_inputs_for_forward is not"),
        ([], Exception, "inputs for forward must be specified"),
        ({1, 2}, TypeError, "Error inputs for function forward is not a Sequence"),
        ([(torch.ones(1),), torch.ones(1)], TypeError, "input for function forward idx: 1 is not a Tuple or a List"),
        ("text", TypeError, "Error bundled input for function forward idx: 0 is not a Tuple or a List"),
    ],
)  # fmt: skip
def test_b7_what_is_no_list_of_tuples_is_refused(make: Make, inputs: Any, kind: type[Exception], text: str) -> None:
    model = make()
    with pytest.raises(kind, match=text):
        mine.augment_model_with_bundled_inputs(model, inputs)
    with pytest.raises(kind, match=text):
        reference.augment_model_with_bundled_inputs(theirs(), inputs)
    assert not hasattr(model, "_bundled_inputs_deflated_forward")


@BOTH
def test_b7_a_model_is_augmented_once_and_with_something(make: Make) -> None:
    model = make()
    with pytest.raises(Exception, match="Please provide inputs for at least 1 function"):
        mine.augment_many_model_functions_with_bundled_inputs(model, {})
    mine.augment_model_with_bundled_inputs(model, [(torch.ones(1),)])
    with pytest.raises(Exception, match=r"Models can only be augmented with bundled inputs once\."):
        mine.augment_model_with_bundled_inputs(model, [(torch.ones(1),)])


@BOTH
def test_b7_inputs_and_a_generator_exclude_each_other(make: Make) -> None:
    text = r"inputs\[forward\] is not None, but _generate_bundled_inputs_for_forward is already defined"
    with pytest.raises(Exception, match=text):
        mine.augment_model_with_bundled_inputs(make(Makes), [(torch.ones(1),)])


@pytest.mark.parametrize("model", [3, torch.relu, None, torch.ones(2)])
def test_b7_only_modules_are_supported(model: Any) -> None:
    for call in (mine.augment_model_with_bundled_inputs, mine.bundle_inputs):
        with pytest.raises(Exception, match=rf"Only ScriptModule is supported.*got a {type(model).__name__}"):
            call(model, [(torch.ones(1),)])


@BOTH
def test_b8_info_is_kept_letter_by_letter(make: Make) -> None:
    texts = ["it's", 'a "dog"', "back\\slash\n\ttab", "zero\x00\x1b", "é 雪 ❄", *map(str, range(300))]
    model = make()
    mine.augment_model_with_bundled_inputs(model, [(torch.ones(1),)], info=texts)
    assert model.get_bundled_inputs_functions_and_info()["forward"]["info"] == texts
    if make is scripted:
        loaded = torch.jit.load(io.BytesIO(saved(model)))
        assert loaded.get_bundled_inputs_functions_and_info()["forward"]["info"] == texts
    for none in (None, []):
        model = make()
        mine.augment_model_with_bundled_inputs(model, [(torch.ones(1),)], info=none)
        assert model.get_bundled_inputs_functions_and_info()["forward"]["info"] == []


@BOTH
def test_b9_bundle_inputs_makes_a_copy_and_replaces(make: Make) -> None:
    model = make(Net)
    first = mine.bundle_inputs(
        model, {model.scale: [(mine.bundle_randn(30), 1.0)], model.forward: [(torch.ones(1, 3),)]}
    )
    assert not any("bundled" in name for name in dir(model))
    second = mine.bundle_inputs(first, [(torch.zeros(2, 3),)], ["zeros"])
    assert list(second.get_bundled_inputs_functions_and_info()) == ["forward"]
    assert torch.equal(second.get_all_bundled_inputs()[0][0], torch.zeros(2, 3))
    assert not hasattr(second, "_generate_bundled_inputs_for_scale")
    assert first.get_all_bundled_inputs_for_scale()[0][0].shape == (30,)
    x = torch.randn(4, 3)
    assert torch.equal(second(x), model(x))
    with torch.no_grad():
        second.inner.weight.zero_()
    assert not torch.equal(second(x), model(x))


@BOTH
def test_b9_inputs_and_info_are_of_one_form(make: Make) -> None:
    model = make()
    with pytest.raises(AssertionError, match="If inputs is a dict, info must be a dict or None"):
        mine.bundle_inputs(model, {model.forward: [(torch.ones(1),)]}, ["a"])
    with pytest.raises(AssertionError, match="If inputs is a list, info must be a list or None"):
        mine.bundle_inputs(model, [(torch.ones(1),)], {model.forward: ["a"]})


@BOTH
def test_b10_the_models_own_generator_is_used(make: Make) -> None:
    model = make(Makes)
    copied = mine.bundle_inputs(model, None, ["own"])
    again = mine.bundle_inputs(copied, None)  # torch would drop the generator here, and fail
    mine.augment_model_with_bundled_inputs(model)
    for m in (model, copied, again):
        assert [tuple(x.shape) for (x,) in m.get_all_bundled_inputs()] == [(2,), (3,)]
        assert m.get_num_bundled_inputs() == 2


class Callable1:
    """A callable without __name__."""

    def __init__(self, name: str | None) -> None:
        if name:
            self.name = name


@BOTH
def test_b11_names_of_functions(make: Make) -> None:
    model = make(Net)
    mine.augment_many_model_functions_with_bundled_inputs(model, {Callable1("scale"): [(torch.ones(1), 2.0)]})
    assert model.get_all_bundled_inputs_for_scale()[0][1] == 2.0
    with pytest.raises(Exception, match="At least one of your functions has no attribute name"):
        mine.augment_many_model_functions_with_bundled_inputs(make(Net), {Callable1(None): [(torch.ones(1), 2.0)]})
    with pytest.raises(Exception, match="no method 'other'"):
        mine.augment_many_model_functions_with_bundled_inputs(make(Net), {Callable1("other"): [(torch.ones(1),)]})


@BOTH
def test_b12_small_tensors_are_shared_with_the_caller(make: Make) -> None:
    x = torch.ones(3)
    model = make()
    mine.augment_model_with_bundled_inputs(model, [(x,)])
    model.get_all_bundled_inputs()[0][0].add_(1)
    assert torch.equal(model.get_all_bundled_inputs()[0][0], torch.full((3,), 2.0)) and torch.equal(
        x, torch.full((3,), 2.0)
    )


@BOTH
def test_b13_a_failure_changes_nothing(make: Make) -> None:
    model = make(Net)
    names = set(dir(model))
    for wrong in (
        (torch.randn(99), 1.0),
        (1, 1),
        (mine.InflatableArg(torch.ones(1), fmt_fn="def {}(self): retrn"), 1.0),
    ):
        if make is plain and isinstance(wrong[0], tuple):
            continue
        with pytest.raises(mine.BundledInputsError):
            mine.augment_many_model_functions_with_bundled_inputs(
                model, {model.forward: [(torch.ones(1, 3),)], model.scale: [wrong]}
            )
        assert set(dir(model)) == names
    mine.augment_many_model_functions_with_bundled_inputs(model, {model.scale: [(torch.ones(3), 1.0)]})
    assert len(model.get_all_bundled_inputs_for_scale()) == 1


@BOTH
def test_b14_entries_become_tuples(make: Make) -> None:
    model = make(Net)
    mine.augment_many_model_functions_with_bundled_inputs(model, {model.scale: ([torch.ones(1), 2.0],)})
    got = model.get_all_bundled_inputs_for_scale()
    assert isinstance(got, list) and [type(entry) for entry in got] == [tuple]


class Shared(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def test_b15_other_modules_of_the_class_stay_as_they_are() -> None:
    first, second = scripted(Net), scripted(Net)
    mine.augment_model_with_bundled_inputs(first, [(torch.ones(1, 3),)])
    assert not hasattr(second, "get_all_bundled_inputs")
    mine.augment_model_with_bundled_inputs(second, [(torch.zeros(1, 3),)])
    assert torch.equal(first.get_all_bundled_inputs()[0][0], torch.ones(1, 3))
    assert torch.equal(second.get_all_bundled_inputs()[0][0], torch.zeros(1, 3))
    two = [scripted(Shared), scripted(Shared)]
    reference.augment_model_with_bundled_inputs(two[0], [(torch.ones(1, 3),)])
    assert hasattr(two[1], "get_all_bundled_inputs")  # the defect of the reference


def test_b15_the_module_keeps_its_parameters_and_children() -> None:
    model = scripted(Net)
    child, weight = model.inner, model.inner.weight
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    x = torch.randn(2, 3)
    before = model(x)
    mine.augment_model_with_bundled_inputs(model, [(torch.ones(1, 3),)])
    assert torch.equal(model(x), before)
    assert model.inner is child and model.inner.weight is weight and len(list(model.parameters())) == 2
    assert model.tied.data_ptr() == weight.data_ptr()
    model(x).sum().backward()
    optimizer.step()
    assert not torch.equal(model(x), before)
    child.eval()
    assert not model.inner.training and model.training
    with torch.no_grad():
        child.weight.zero_()
        child.bias.zero_()
    assert torch.equal(model(x), torch.zeros(2, 3))


@pytest.mark.parametrize("kind", ["traced", "loaded"])
def test_traced_and_loaded_modules_are_augmented_too(kind: str) -> None:
    model: Any = torch.jit.trace(Net(), (torch.ones(1, 3),))
    if kind == "loaded":
        model = torch.jit.load(io.BytesIO(saved(model)))
    mine.augment_model_with_bundled_inputs(model, [(torch.ones(2, 3),)])
    assert model(*model.get_all_bundled_inputs()[0]).shape == (2, 3)


@BOTH
def test_neve_takes_its_example_inputs_from_the_model(make: Make, tmp_path: Path) -> None:
    model = make(Net).eval()
    mine.augment_model_with_bundled_inputs(model, [(torch.ones(2, 3),), (torch.zeros(2, 3),)])
    compiled = neve.compile(model)
    compiled.save(tmp_path / "m.neve")
    example, _ = neve.load(tmp_path / "m.neve").artifact.examples["forward"]
    assert example.inputs[0].tolist() == torch.ones(2, 3).tolist()
    assert torch.allclose(torch.from_numpy(example.outputs[0]), model(torch.ones(2, 3)))
    x = torch.randn(2, 3)
    assert torch.allclose(compiled(x), model(x), atol=1e-6)
