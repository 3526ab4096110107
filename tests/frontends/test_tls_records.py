"""What one side seals the other opens, however it travels, and nothing else is opened."""

import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from certificates import Authority
from hypothesis import given
from hypothesis import strategies as st

from ortolan.frontends.tls.records import TlsRecords

PIECES = st.lists(st.one_of(st.binary(max_size=70_000), st.integers(0, 9).map(bytes)), max_size=5)


class Ends:
    """Both ends of a connection that has shaken hands."""

    def __init__(self, directory: Path) -> None:
        pair = Authority(directory).server()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        self.server = TlsRecords(context)
        self.to_client, self.from_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self.to_client, self.from_client)
        is_over = False
        while not is_over:
            with suppress(ssl.SSLWantReadError):
                self.client.do_handshake()
            self.server.came(self.from_client.read())
            is_over = self.server.shake_hands()
            self.to_client.write(self.server.to_send())

    def opened(self) -> bytes:
        """All that the client hears."""
        heard = b""
        try:
            while data := self.client.read(1 << 20):
                heard += data
        except ssl.SSLWantReadError:
            pass
        return heard


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def ends(directory: Path) -> Ends:
    return Ends(directory)


@given(pieces=PIECES, as_views=st.booleans())
def test_pieces_arrive_as_they_were_written(ends: Ends, pieces: list[bytes], as_views: bool) -> None:
    sealed = ends.server.seal([memoryview(piece) for piece in pieces] if as_views else pieces)
    ends.to_client.write(b"".join(sealed))
    assert ends.opened() == b"".join(pieces)


@given(data=st.binary(min_size=1, max_size=100_000), cut=st.integers(1, 20_000), size=st.integers(1, 120_000))
def test_what_comes_in_parts_is_opened_into_the_memory_that_there_is(
    ends: Ends, data: bytes, cut: int, size: int
) -> None:
    left = memoryview(data)
    while left:
        left = left[ends.client.write(left) :]
    travelling, heard = ends.from_client.read(), b""
    for start in range(0, len(travelling), cut):
        ends.server.came(travelling[start : start + cut])
        memory = bytearray(size)
        heard += memory[: ends.server.fill(memoryview(memory))]
    assert heard + ends.server.opened() == data


def test_small_pieces_share_a_record_and_empty_ones_have_none(ends: Ends) -> None:
    small = len(b"".join(ends.server.seal([b"a", b"", b"b" * 100])))
    assert small == len(b"".join(ends.server.seal([b"a" * 101])))
    assert ends.server.seal([b"", memoryview(b"")]) == [b""]
    assert ends.server.seal([]) == [b""]


def test_the_end_is_heard_once_everything_before_it_is(directory: Path) -> None:
    ends = Ends(directory)
    ends.client.write(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        ends.client.unwrap()
    ends.server.came(ends.from_client.read())
    assert ends.server.opened() == b"last"
    assert ends.server.ended


def test_a_socket_that_ends_without_a_farewell_has_ended(directory: Path) -> None:
    ends = Ends(directory)
    ends.server.nothing_comes()
    assert (ends.server.opened(), ends.server.ended) == (b"", True)


def test_what_was_changed_on_its_way_is_not_opened(directory: Path) -> None:
    ends = Ends(directory)
    ends.client.write(b"as it was")
    sealed = bytearray(ends.from_client.read())
    sealed[-1] ^= 1
    ends.server.came(bytes(sealed))
    with pytest.raises(ssl.SSLError):
        ends.server.opened()
