"""What the fuzzer found: inputs that showed a fault once."""

import json

import pytest
from fuzz.seeds import SIGNATURES
from fuzz.targets import TARGETS

from ortolan.inference.datatypes import DATATYPES

SCALARS = [bytes([index]) for index, model in enumerate(SIGNATURES) if [spec.dims for spec in model.inputs] == [()]]


def test_there_is_a_model_of_one_number_for_each_datatype() -> None:
    assert len(SCALARS) == len(DATATYPES)


@pytest.mark.parametrize("model", SCALARS)
@pytest.mark.parametrize(("target", "body"), [("generate", b'{"x": 1}'), ("v1", b'{"instances": [1]}')])
def test_a_single_number_can_be_written_again(target: str, body: bytes, model: bytes) -> None:
    # Two of numpy's types have 64 bits, and orjson writes numbers of one of them only.
    TARGETS[target].check(model + body)


@pytest.mark.parametrize(
    "document", [{"\ude00": 1}, {"input": [{"\ude00": 1}]}, {"parameters": {"\ude00": 1}}, {"platform": "\ude00"}]
)
def test_a_lone_surrogate_in_a_configuration_is_refused_in_words_that_can_be_sent(document: object) -> None:
    TARGETS["configuration-json"].check(json.dumps(document).encode())
