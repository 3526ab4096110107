import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ortolan.errors import InvalidArgument
from ortolan.protocol.protobuf_framing import RAW_OUTPUT_CONTENTS, field_head, raw_views
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
