import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ortolan.errors import InvalidArgument
from ortolan.protocol.protobuf_framing import (
    MAX_FIELDS,
    MAX_INNER_FIELDS,
    MAX_TENSOR_FIELDS,
    RAW_OUTPUT_CONTENTS,
    field_head,
    has_crowded_tensors,
    has_more_fields,
    raw_views,
)
from ortolan.protocol.protobuf_messages import ModelInferRequest, ModelInferResponse, parse

HEAD = ModelInferRequest(model_name="m", id="1").SerializeToString()


def _raw(*contents: bytes) -> bytes:
    data: bytes = ModelInferRequest(raw_input_contents=contents).SerializeToString()
    return data


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", (0, [])),
        (HEAD, (len(HEAD), [])),
        (HEAD + _raw(b"abc", b"", b"d" * 300), (len(HEAD), [b"abc", b"", b"d" * 300])),
        (_raw(b"abc"), (0, [b"abc"])),
    ],
)
def test_raw_contents_at_the_end_are_found_where_they_lie(data: bytes, expected: tuple[int, list[bytes]]) -> None:
    found = raw_views(data)
    assert found is not None
    assert (found[0], [bytes(view) for view in found[1]]) == expected


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_raw(b"abc") + HEAD, "a field after the raw contents"),
        (HEAD + b"\x78\x01", "a varint field"),
        (HEAD + b"\x80\x7d\x05", "a field whose tag has two bytes"),
        (HEAD + b"\x3a", "a tag without its length"),
        (HEAD + b"\x3a\x80\x80", "a length that ends early"),
        (HEAD + b"\x3a" + b"\x80" * 9 + b"\x00", "a length in more bytes than it needs"),
        (HEAD + b"\x3a\x05abc", "a length beyond the end"),
    ],
)
def test_a_message_of_unusual_form_is_left_to_protobuf(data: bytes, reason: str) -> None:
    assert raw_views(data) is None


def test_a_message_of_many_fields_is_not_walked_to_its_end() -> None:
    assert raw_views(_raw(*[b""] * MAX_FIELDS)) is not None
    assert raw_views(_raw(*[b""] * (MAX_FIELDS + 1))) is None


@pytest.mark.parametrize(
    "field",
    [
        b"\x2a\x00",
        b"\x3a\x81\x00x",
        b"\x08\x01",
        b"\x08" + b"\xff" * 9 + b"\x01",
        b"\x09" + bytes(8),
        b"\x0d" + bytes(4),
        b"\x7b",
        b"\x80\x80\x04\x01",
    ],
    ids=["tensor", "long length", "varint", "longest varint", "fixed64", "fixed32", "group", "large number"],
)
def test_fields_of_every_form_are_counted(field: bytes) -> None:
    assert not has_more_fields(HEAD + field * 7, 9)
    assert has_more_fields(HEAD + field * 8, 9)


@pytest.mark.parametrize("data", [b"", b"\x2a", b"\x80" * 20, b"\x0e" * 20, b"\x2a\x7f", b"\x08" + b"\x80" * 20])
def test_fields_are_counted_up_to_where_the_message_breaks(data: bytes) -> None:
    assert not has_more_fields(data, 1)


INPUT, OUTPUT = 0x2A, 0x32


def _tensor(tag: int, body: bytes) -> bytes:
    return field_head(tag, len(body)) + body


@pytest.mark.parametrize("tag", [INPUT, OUTPUT], ids=["input", "output"])
@pytest.mark.parametrize("field", [b"\x22\x00", b"\x12\x00", b"\x78\x01", b"\x0d" + bytes(4), b"\x7b"])
def test_the_fields_of_each_tensor_are_counted(tag: int, field: bytes) -> None:
    most, too_many = (_tensor(tag, field * count) for count in (MAX_TENSOR_FIELDS, MAX_TENSOR_FIELDS + 1))
    assert not has_crowded_tensors(HEAD + most * 3)
    assert has_crowded_tensors(HEAD + most + too_many)


@pytest.mark.parametrize("tag", [INPUT, OUTPUT], ids=["input", "output"])
def test_the_fields_of_all_tensors_are_counted(tag: int) -> None:
    tensor = _tensor(tag, b"\x0a\x00" * 64)
    assert not has_crowded_tensors(HEAD + tensor * (MAX_INNER_FIELDS // 64))
    assert has_crowded_tensors(HEAD + tensor * (MAX_INNER_FIELDS // 64 + 1))


def test_each_byte_of_a_packed_shape_counts_as_a_dimension() -> None:
    assert not has_crowded_tensors(_tensor(INPUT, _tensor(0x1A, b"\xff" * 320) + b"\x22\x00" * 64))
    assert has_crowded_tensors(_tensor(INPUT, _tensor(0x1A, bytes(MAX_TENSOR_FIELDS + 1))))
    assert has_crowded_tensors(_tensor(INPUT, _tensor(0x1A, bytes(300)) * 2))
    # Outputs have no shape, so that may be any text that a later protocol adds.
    assert not has_crowded_tensors(_tensor(OUTPUT, _tensor(0x1A, bytes(MAX_TENSOR_FIELDS + 1))))


def test_long_contents_and_other_fields_crowd_no_tensor() -> None:
    assert not has_crowded_tensors(_tensor(INPUT, _tensor(0x2A, b"\x42\x00" * 10_000)))
    assert not has_crowded_tensors(_tensor(0x22, b"\x0a\x00" * 10_000) + b"\x28\x05" * 600)


@given(st.binary(max_size=60))
def test_whatever_bytes_come_the_fields_of_tensors_can_be_counted(data: bytes) -> None:
    assert has_crowded_tensors(_tensor(INPUT, data) + data) in (True, False)


def test_views_share_the_messages_bytes() -> None:
    found = raw_views(HEAD + _raw(b"abc"))
    assert found is not None
    assert found[1][0].obj == HEAD + _raw(b"abc")


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2**21, 2**21 - 1])
def test_a_field_head_is_what_protobuf_writes(size: int) -> None:
    content = bytes(size)
    written = ModelInferResponse(raw_output_contents=[content]).SerializeToString()
    assert field_head(RAW_OUTPUT_CONTENTS, size) + content == written


_FIELDS = st.one_of(
    st.builds(lambda content: _raw(content), st.binary(max_size=200)),
    st.builds(lambda text: bytes(ModelInferRequest(model_name=text).SerializeToString()), st.text(max_size=8)),
    st.builds(
        lambda text: bytes(ModelInferRequest(inputs=[{"name": text, "shape": [1]}]).SerializeToString()),
        st.text(max_size=8),
    ),
    st.sampled_from([b"\x78\x01", b"\x7b\x7c", b"\x3a\x83\x00abc", b"\x42\x01x"]),
    st.binary(max_size=4),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_FIELDS, max_size=6).map(b"".join))
def test_splitting_agrees_with_protobuf_on_any_bytes(data: bytes) -> None:
    found = raw_views(data)
    if found is None:
        return
    head_size, views = found
    try:
        whole = parse(ModelInferRequest, data)
    except InvalidArgument:
        with pytest.raises(InvalidArgument):
            parse(ModelInferRequest, data[:head_size])
        return
    assert [bytes(view) for view in views] == list(whole.raw_input_contents)
    del whole.raw_input_contents[:]
    assert parse(ModelInferRequest, data[:head_size]) == whole
