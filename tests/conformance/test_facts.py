"""The facts about Triton that a re-implementation is most likely to get wrong, and which tests hold ours to each.

Facts about sequences, ensembles and the response cache are left out until there are those. Where a fact is one from
which we depart, docs/protocol.md says why, and the tests are those of what we do instead.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

FACTS: dict[int, tuple[str, list[str]]] = {
    1: (
        "Inference-Header-Content-Length: absent, all is JSON; 0, a raw request; else the JSON's length",
        [
            "conformance/test_http_bodies.py::test_without_the_header_the_whole_body_is_json",
            "conformance/test_http_bodies.py::test_the_header_is_the_length_of_the_json_however_it_is_written",
            "conformance/test_http_bodies.py::test_a_raw_request_is_its_only_input_and_all_outputs_come_binary",
        ],
    ),
    2: (
        "an answer is octet-stream, with that header, only when an output has a byte after the JSON",
        [
            "conformance/test_http_bodies.py::test_json_and_binary_tensors_mix_in_every_way",
            "conformance/test_http_bodies.py::test_binary_outputs_without_a_byte_leave_the_answer_json",
        ],
    ),
    3: (
        "outputs that are listed do not follow the request's binary_data_output",
        ["conformance/test_http_bodies.py::test_the_form_of_an_output_is_its_own_choice_before_the_requests"],
    ),
    4: (
        "an output has parameters only for its binary_data_size",
        ["conformance/test_http_bodies.py::test_json_and_binary_tensors_mix_in_every_way"],
    ),
    5: (
        "gRPC answers have one raw content for each output, in their order, empty for those in shared memory",
        [
            "conformance/test_grpc_messages.py::test_a_response_has_one_raw_content_for_each_output_in_their_order",
            "conformance/test_shared_tensors.py::test_an_output_in_shared_memory_has_an_empty_raw_content",
        ],
    ),
    6: (
        "gRPC's raw contents are those of the inputs that are not in shared memory",
        ["conformance/test_shared_tensors.py::test_raw_contents_are_those_of_the_other_inputs"],
    ),
    7: (
        "of the reserved parameters only triton_enable_empty_final_response may be sent",
        [
            "conformance/test_grpc_messages.py::test_parameters_of_every_type_are_taken",
            "conformance/test_grpc_messages.py::test_parameters_with_a_meaning_are_of_their_type",
        ],
    ),
    8: (
        "health answers have no body; what is not ready is 400, what is not there 404",
        [
            "conformance/test_metadata.py::test_a_healthy_server_answers_health_with_200_and_kserves_bodies",
            "conformance/test_repository.py::"
            "test_a_load_that_fails_says_why_and_the_server_is_not_ready_until_it_is_taken_back",
        ],
    ),
    9: (
        "the configuration's JSON is in snake_case, shows defaults, and has all integers as numbers",
        [
            "conformance/test_metadata.py::test_the_configurations_names_are_in_snake_case",
            "conformance/test_metadata.py::test_the_configuration_shows_default_values_too",
            "conformance/test_metadata.py::test_the_configurations_integers_are_numbers_whatever_their_width",
        ],
    ),
    10: (
        "in statistics the version is a string, counters are numbers, and no member is missing",
        ["conformance/test_metadata.py::test_statistics_have_tritons_members_as_numbers"],
    ),
    11: (
        "the server's extensions come in a fixed order",
        ["conformance/test_metadata.py::test_the_server_names_itself_and_its_extensions_in_tritons_order"],
    ),
    12: (
        "metrics have no suffix _total",
        ["conformance/test_metadata.py::test_counters_have_tritons_names_without_a_suffix"],
    ),
    13: (
        "a failure counts as a failure and nowhere else",
        ["conformance/test_metadata.py::test_a_failure_touches_the_failures_only"],
    ),
    14: (
        "where a queue policy is declared, a request's timeout counts only if it may override it and is shorter",
        ["system/test_giving_up.py::test_where_the_policy_lets_no_request_expire_it_waits_on"],
    ),
    15: (
        "a request larger than a batch is an error, unless the model asks for it to be split",
        [
            "conformance/test_inference.py::test_a_wrong_request_is_refused_alike_everywhere",
            "system/test_why.py::test_a_request_with_too_many_rows_is_split_and_merged_where_the_model_says_so",
        ],
    ),
    16: (
        "without a delay a batch is what waits when an instance becomes free",
        ["system/test_batching_rules.py::test_what_waits_is_batched_without_being_asked_for"],
    ),
    17: (
        "without dynamic_batching requests run one by one",
        ["core/test_model_loader.py::test_the_configuration_decides_how_requests_are_batched"],
    ),
    18: (
        "a model has 2 instances on a CPU; we depart: one for each core",
        ["core/test_model_loader.py::test_there_are_as_many_instances_as_cores_and_they_share_one_session"],
    ),
    19: (
        "a max_batch_size of 0 is the default one, unless inputs and outputs are given",
        [
            "repository/test_config_completion.py::test_batch_size_and_scheduler_come_from_the_graph",
            "conformance/test_metadata.py::test_shapes_are_those_that_clients_send_with_the_batch_dimension",
        ],
    ),
    20: (
        "completion adds dynamic_batching to a model that batches",
        ["repository/test_config_completion.py::test_batch_size_and_scheduler_come_from_the_graph"],
    ),
    21: (
        "no port is open before the models are loaded; we depart: they are, and not ready",
        ["core/test_inference_core.py::test_a_server_is_ready_once_it_has_started_and_until_it_drains"],
    ),
    22: (
        "one model that failed makes a strict server not ready; one that was unloaded does not",
        [
            "system/test_startup.py::test_readiness_is_strict_unless_told_otherwise",
            "conformance/test_repository.py::test_a_model_comes_and_goes",
        ],
    ),
    23: (
        "a model that fails at the start ends it, unless told otherwise",
        ["system/test_startup.py::test_a_model_that_cannot_be_loaded_ends_the_start_and_is_named_with_its_reason"],
    ),
    24: (
        "loading is unavailable without the explicit mode; to unload what is not there is fine",
        [
            "conformance/test_repository.py::test_where_the_api_may_not_load_it_says_so",
            "conformance/test_repository.py::test_to_unload_what_is_not_there_is_fine",
        ],
    ),
    25: (
        "shared memory is off unless allowed: 501, and the status works",
        [
            "conformance/test_bad_input_shared_memory.py::test_row_85_where_shared_memory_is_off_it_says_how_to_turn_it_on"
        ],
    ),
    26: (
        "requests have 64 MiB at most, decompressed too; we depart: over gRPC as well",
        [
            "conformance/test_bad_input_http.py::test_a_bad_payload_is_refused_with_its_reason",
            "conformance/test_bad_input_grpc.py::test_row_86_a_message_over_the_limit_is_too_large",
        ],
    ),
    27: (
        "FP16 and BF16 are refused as JSON; we depart: they are numbers like others",
        [
            "conformance/test_datatypes.py::test_extreme_values_come_back_bit_for_bit",
            "conformance/test_http_bodies.py::test_elements_become_the_nearest_of_their_datatype",
        ],
    ),
    28: (
        "NaN and infinities are tokens in JSON, both ways",
        ["conformance/test_http_bodies.py::test_nan_and_infinities_are_tokens_both_ways"],
    ),
    29: (
        "elements of BYTES come after their length in four bytes, and are any bytes",
        [
            "conformance/test_http_bodies.py::test_json_and_binary_tensors_mix_in_every_way",
            "conformance/test_datatypes.py::test_texts_are_arbitrary_bytes",
        ],
    ),
    30: (
        "each response of a stream says whether it is the last for its request",
        ["conformance/test_grpc_messages.py::test_answers_and_errors_of_a_stream_come_in_the_order_of_their_requests"],
    ),
}


@cache
def functions_of(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("number", FACTS)
def test_every_fact_has_its_tests(number: int) -> None:
    fact, tests = FACTS[number]
    assert fact
    assert tests
    missing = [test for test in tests if test.partition("::")[2] not in functions_of(TESTS / test.partition("::")[0])]
    assert missing == []


def test_no_fact_is_left_out() -> None:
    assert [*FACTS] == list(range(1, 31))
