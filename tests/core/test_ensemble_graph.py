"""Which graphs of steps make sense, which models fit them, and which steps a request needs."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ortolan.core.ensemble_graph import check_models, graph_of
from ortolan.errors import InvalidArgument
from ortolan.inference.datatypes import FP32, INT64
from ortolan.inference.tensor_spec import ModelSignature, TensorSpec
from ortolan.repository.model_config import EnsembleStep, ModelConfig

Link = tuple[str, str]


def specs(names: str, datatype: object = FP32) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, datatype, (4,)) for name in names.split())  # type: ignore[arg-type]


def step(model: str, inputs: Sequence[Link], outputs: Sequence[Link]) -> EnsembleStep:
    return EnsembleStep(model, -1, dict(inputs), dict(outputs))


def ensemble(inputs: str, outputs: str, *steps: EnsembleStep, max_batch_size: int = 0) -> ModelConfig:
    return ModelConfig(
        "e",
        "ensemble",
        max_batch_size=max_batch_size,
        inputs=specs(inputs),
        outputs=specs(outputs),
        ensemble_steps=steps,
    )


CHAIN = ensemble("in", "out", step("a", [("x", "in")], [("y", "t")]), step("b", [("x", "t")], [("y", "out")]))


def refusal(config: ModelConfig) -> str:
    with pytest.raises(InvalidArgument) as refused:
        graph_of(config)
    return refused.value.message


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (ensemble("in", "out", step("a", [("x", "lost")], [("y", "out")])), "tensor lost that step 0 of model a takes"),
        (ensemble("in", "out gone", step("a", [("x", "in")], [("y", "out")])), "output gone of the ensemble"),
        (ensemble("in more", "out", step("a", [("x", "in")], [("y", "out")])), "ensemble tensor more is unused"),
        (
            ensemble("in", "out", step("a", [("x", "in")], [("y", "out"), ("z", "spare")])),
            "ensemble tensor spare is unused",
        ),
        (ensemble("in", "in", step("a", [("x", "in")], [("y", "in")])), "tensor in is an input of the ensemble"),
        (
            ensemble("in", "out", step("a", [("x", "in")], [("y", "out")]), step("b", [("x", "in")], [("y", "out")])),
            "ensemble tensor out is given by several outputs, in steps 0 and 1",
        ),
        (
            ensemble(
                "in",
                "out",
                step("a", [("x", "in"), ("w", "u")], [("y", "t")]),
                step("b", [("x", "t")], [("y", "u"), ("z", "out")]),
            ),
            "circular dependency: the steps 0 (a), 1 (b) wait",
        ),
        (ensemble("in", "out", step("a", [("x", "in"), ("w", "out")], [("y", "out")])), "circular dependency"),
    ],
)
def test_what_makes_no_graph_is_refused_by_the_tensor(config: ModelConfig, said: str) -> None:
    message = refusal(config)
    assert message.startswith("in ensemble e, ")
    assert said in message


def test_an_input_that_is_one_of_two_goes_to_both() -> None:
    config = ensemble("in", "out", step("a", [("x", "in"), ("w", "in")], [("y", "out")]))
    assert [run.index for run in graph_of(config).runs_for(["out"])] == [0]


# -- models -----------------------------------------------------------------------------------------------------------


def signature(
    name: str = "a", inputs: str = "x", outputs: str = "y", max_batch_size: int = 0, datatype: object = FP32
) -> ModelSignature:
    return ModelSignature(name, max_batch_size, specs(inputs, datatype), specs(outputs))


ONE = ensemble("in", "out", step("a", [("x", "in")], [("y", "out")]))
BATCHED = ensemble("in", "out", step("a", [("x", "in")], [("y", "out")]), max_batch_size=8)


@pytest.mark.parametrize(
    ("config", "model", "said"),
    [
        (ONE, signature(inputs="other"), "ensemble tensor in is mapping to non-existing input x in model a"),
        (ONE, signature(outputs="other"), "ensemble tensor out is mapping to non-existing output y in model a"),
        (ONE, signature(inputs="x more"), "input more in model a is not mapped to any ensemble tensors"),
        (
            ONE,
            signature(datatype=INT64),
            "ensemble tensor in: inconsistent data type: TYPE_FP32 is inferred from ensemble e while TYPE_INT64 is "
            "inferred from model a",
        ),
        (ONE, signature(max_batch_size=8), "inconsistent shape: [4] is inferred from ensemble e while [-1, 4]"),
        (
            BATCHED,
            signature(max_batch_size=4),
            "allows maximum batch size 8, but it contains model a which only allows",
        ),
        (BATCHED, signature(), "only allows maximum batch size to be 0"),
    ],
)
def test_models_that_do_not_fit_are_refused_by_the_tensor(
    config: ModelConfig, model: ModelSignature, said: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_models(graph_of(config), config, [model])
    assert said in refused.value.message


def wide(name: str, *dims: int) -> tuple[TensorSpec, ...]:
    return (TensorSpec(name, FP32, dims),)


@pytest.mark.parametrize(
    ("ours", "max_batch_size", "theirs", "their_batch_size"),
    [
        ((4,), 8, (4,), 8),
        ((4,), 4, (4,), 8),  # fewer rows than the model takes
        ((-1,), 8, (4,), 8),  # seen when a request runs
        ((4,), 8, (-1,), 8),
        ((-1, 4), 0, (4,), 8),  # the ensemble has the batch dimension in its dims
        ((2, 4), 0, (4,), 8),
    ],
)
def test_shapes_agree_with_the_batch_dimension_in_place(
    ours: tuple[int, ...], max_batch_size: int, theirs: tuple[int, ...], their_batch_size: int
) -> None:
    config = ModelConfig(
        "e",
        "ensemble",
        max_batch_size=max_batch_size,
        inputs=wide("in", *ours),
        outputs=wide("out", *ours),
        ensemble_steps=(step("a", [("x", "in")], [("y", "out")]),),
    )
    model = ModelSignature("a", their_batch_size, wide("x", *theirs), wide("y", *theirs))
    check_models(graph_of(config), config, [model])


def test_optional_inputs_of_models_may_be_left_out_but_not_what_they_need() -> None:
    optional = TensorSpec("more", FP32, (4,), optional=True)
    model = ModelSignature("a", 0, (*specs("x"), optional), specs("y"))
    check_models(graph_of(ONE), ONE, [model])
    config = ModelConfig(
        "e",
        "ensemble",
        inputs=(TensorSpec("in", FP32, (4,), optional=True),),
        outputs=specs("out"),
        ensemble_steps=ONE.ensemble_steps,
    )
    with pytest.raises(InvalidArgument, match="input in of the ensemble is optional, but input x in model a is not"):
        check_models(graph_of(config), config, [signature()])


# -- which steps a request needs --------------------------------------------------------------------------------------


def test_steps_that_no_wanted_output_needs_are_left_out() -> None:
    config = ensemble(
        "in",
        "left right",
        step("a", [("x", "in")], [("y", "t"), ("z", "u")]),
        step("l", [("x", "t")], [("y", "left")]),
        step("r", [("x", "u")], [("y", "right")]),
    )
    runs = graph_of(config).runs_for(["right"])
    assert [run.index for run in runs] == [0, 2]
    assert runs[0].outputs == {"z": "u"}
    assert runs[1].after == {0}


@st.composite
def graphs(draw: st.DrawFn) -> ModelConfig:
    """Ensembles of models with one to three inputs and outputs, written down in any order; nothing is unused."""
    tensors, steps = ["in"], list[EnsembleStep]()
    for index in range(draw(st.integers(1, 8))):
        taken = draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=3))
        if index == 0:
            taken = ["in"]
        given_names = [f"t{index}_{number}" for number in range(draw(st.integers(1, 3)))]
        steps.append(
            step(
                f"m{index}",
                [(f"x{n}", t) for n, t in enumerate(taken)],
                [(f"y{n}", t) for n, t in enumerate(given_names)],
            )
        )
        tensors += given_names
    used = {tensor for each in steps for tensor in each.input_map.values()}
    outputs = [name for name in tensors[1:] if name not in used or draw(st.booleans())]
    return ensemble("in", " ".join(outputs), *draw(st.permutations(steps)))


def naive(config: ModelConfig, output: str) -> tuple[object, set[int]]:
    """The value of ``output`` as a term of nested tuples, by going back from it; and the steps that were asked."""
    if output == "in":
        return "in", set()
    for index, each in enumerate(config.ensemble_steps):
        for theirs, ours in each.output_map.items():
            if ours == output:
                found = [naive(config, taken) for _, taken in sorted(each.input_map.items())]
                return (each.model_name, theirs, *(value for value, _ in found)), {index}.union(*(s for _, s in found))
    raise AssertionError(output)


def evaluated(config: ModelConfig, outputs: Sequence[str]) -> tuple[Mapping[str, object], list[int]]:
    """The values of ``outputs``, and the steps as they ran one after another."""
    values: dict[str, object] = {"in": "in"}
    ran: list[int] = []
    for run in graph_of(config).runs_for(outputs):
        assert run.after <= set(ran)
        each = config.ensemble_steps[run.index]
        taken = [values[ours] for _, ours in sorted(each.input_map.items())]
        values.update({ours: (each.model_name, theirs, *taken) for theirs, ours in run.outputs.items()})
        ran.append(run.index)
    return {name: values[name] for name in outputs}, ran


@given(graphs(), st.data())
def test_runs_give_what_going_back_from_each_output_gives_and_no_other_step_runs(
    config: ModelConfig, data: st.DataObject
) -> None:
    names = [spec.name for spec in config.outputs]
    wanted = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    expected = {name: naive(config, name) for name in wanted}
    values, ran = evaluated(config, wanted)
    assert values == {name: value for name, (value, _) in expected.items()}
    assert sorted(ran) == sorted(set[int]().union(*(steps for _, steps in expected.values())))
