from pathlib import Path

import numpy as np
import onnx_sequences
from onnx_sequences import CONTROLS, SUM, block

from ortolan.execution.batch_policy import Batching
from ortolan.execution.calibration import calibrate
from ortolan.execution.devices import CPU_PROVIDER, Placement, Provider
from ortolan.execution.model_facts import ModelFacts
from ortolan.execution.sequence_plan import SequencePlan, sequence_plan, with_own_inputs
from ortolan.execution.sequence_policy import LaneRule
from ortolan.execution.session import Session
from ortolan.execution.session_settings import SessionSettings
from ortolan.execution.warm_up import run_samples
from ortolan.repository.config_completion import CompletionDefaults, complete
from ortolan.repository.config_file import parse_text
from ortolan.repository.model_config import InstanceKind, ModelConfig
from ortolan.repository.sequence_config import SequenceBatching

CPU = Placement("m_0", InstanceKind.CPU, 0, (Provider(CPU_PROVIDER),))
ACCUMULATOR = Session(onnx_sequences.accumulator().SerializeToString(), "m", SessionSettings(), CPU, Path())
WARM_UP = """
  model_warmup { name: "w" batch_size: 2 inputs { key: "x" value { data_type: TYPE_FP32 dims: 1 random_data: true } } }
"""


def completed(content: str, more: str = "", max_batch_size: int = 4) -> ModelConfig:
    config = parse_text(block(content, max_batch_size) + more, "m")
    return complete(config, ACCUMULATOR.signature, CompletionDefaults())


def plan(content: str, instances: int = 1) -> SequencePlan:
    found = sequence_plan(completed(content), instances, Path())
    assert found is not None
    return found


def test_a_model_without_the_block_has_no_plan() -> None:
    assert sequence_plan(ModelConfig("m"), 1, Path()) is None
    assert with_own_inputs(ModelConfig("m")) == ModelConfig("m")


def test_under_direct_a_lane_is_an_instance_with_a_row_for_each_slot() -> None:
    found = plan("direct { max_queue_delay_microseconds: 5 minimum_slot_utilization: 0.5 }" + SUM, 2)
    assert (found.lanes, found.rule, found.direct) == (2, LaneRule(4, 5_000, 0.5), True)
    assert found.max_idle_ns == 10**9
    assert found.initial["sum_in"].tolist() == [[0]]
    assert found.state_outputs == ("sum_out",)


def test_under_oldest_each_candidate_of_each_instance_is_a_lane() -> None:
    assert plan("oldest { }" + SUM, 2).lanes == 2
    found = plan("oldest { max_candidate_sequences: 3 }" + SUM, 2)
    assert (found.lanes, found.rule, found.direct) == (6, LaneRule(1), False)


def test_without_a_batch_dimension_an_instance_has_one_slot() -> None:
    config = ModelConfig("m", sequence_batching=SequenceBatching(1))
    found = sequence_plan(config, 1, Path())
    assert found is not None
    assert (found.rule.rows, found.batching) == (1, False)


def test_oldest_batches_by_the_rules_of_dynamic_batching() -> None:
    sizes = "oldest { preferred_batch_size: [ 2 ] max_queue_delay_microseconds: 9 preserve_ordering: true }"
    found = with_own_inputs(completed(sizes + SUM)).dynamic_batching
    assert found is not None
    assert found.preserve_ordering
    assert Batching.of(with_own_inputs(completed(sizes + SUM))).preferred_rows == (2,)
    assert not Batching.of(with_own_inputs(completed("oldest { }" + SUM))).explicit
    assert with_own_inputs(completed(SUM)).dynamic_batching is None


def test_a_model_can_be_warmed_up_and_measured_with_what_the_server_fills() -> None:
    config = with_own_inputs(completed(SUM, WARM_UP))
    assert [spec.name for spec in config.inputs] == ["x", "sum_in"]
    run_samples(config, ACCUMULATOR, Path())
    profile = calibrate(config, ACCUMULATOR, ModelFacts("", False, False))
    assert profile.points
    assert profile.note == ""


def test_controls_are_inputs_of_one_element() -> None:
    graph = onnx_sequences.controls()
    session = Session(graph.SerializeToString(), "m", SessionSettings(), CPU, Path())
    config = complete(parse_text(block(CONTROLS) + WARM_UP, "m"), session.signature, CompletionDefaults())
    run_samples(with_own_inputs(config), session, Path())
    assert np.prod([spec.dims for spec in with_own_inputs(config).inputs]) == 1
