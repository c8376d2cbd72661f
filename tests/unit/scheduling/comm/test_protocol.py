"""The protocol of a comm, step by step: authentication, rejection, and framing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amltk.scheduling.plugins.comm import protocol
from amltk.scheduling.plugins.comm.protocol import (
    CHALLENGE_SIZE,
    HELLO_SIZE,
    MAGIC,
    Decoder,
    DriverHandshake,
    Frame,
    FrameKind,
    ProtocolError,
    Stage,
    WorkerHandshake,
    encode,
    make_key,
)

KEY = make_key()

frames = st.builds(
    Frame,
    kind=st.sampled_from(FrameKind),
    number=st.integers(0, 2**64 - 1),
    payload=st.binary(max_size=200),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Split the bytes, as a network may."""
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[begin:end] for begin, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def shake_hands(worker: WorkerHandshake, driver: DriverHandshake, places: list[int]) -> None:
    """Play both parts; the worker's bytes arrive in pieces."""
    challenge = b"".join(driver.receive(piece) for piece in cut(worker.hello, places))
    for piece in cut(worker.answer(challenge), places):
        assert driver.receive(piece) == b""


@given(number=st.integers(0, 2**64 - 1), places=st.lists(st.integers(0, 10_000), max_size=5))
def test_who_has_the_key_is_known(number: int, places: list[int]) -> None:
    """However the bytes are split, a worker with the key is identified by its channel number."""
    driver = DriverHandshake(KEY)
    shake_hands(WorkerHandshake(KEY, number), driver, places)
    assert driver.stage is Stage.KNOWN
    assert (driver.number, driver.rest) == (number, b"")


def test_the_stages() -> None:
    """A hello announces a peer and its answer authenticates it; before the hello is complete the peer gets no byte."""
    worker, driver = WorkerHandshake(KEY, 7), DriverHandshake(KEY)
    assert driver.receive(worker.hello[:-1]) == b""
    assert driver.stage is Stage.STRANGER
    challenge = driver.receive(worker.hello[-1:])
    assert (driver.stage, len(challenge)) == (Stage.ANNOUNCED, CHALLENGE_SIZE)
    driver.receive(worker.answer(challenge) + b"more")
    assert (driver.stage, driver.rest) == (Stage.KNOWN, b"more")


@given(st.binary(min_size=1, max_size=300))
def test_garbage_is_refused_without_a_byte(garbage: bytes) -> None:
    """Unsigned bytes get an unauthenticated peer nothing: no reply and no more patience."""
    driver = DriverHandshake(KEY)
    if MAGIC.startswith(garbage[: len(MAGIC)]) and len(garbage) < HELLO_SIZE:
        assert driver.receive(garbage) == b""
        assert driver.stage is Stage.STRANGER
    else:
        with pytest.raises(ProtocolError):
            driver.receive(garbage)


def test_another_protocol_is_refused_by_its_first_byte() -> None:
    """A peer with another protocol, such as a browser, is rejected at the first byte."""
    with pytest.raises(ProtocolError, match="speaks another protocol"):
        DriverHandshake(KEY).receive(b"G")


def test_a_wrong_key_is_refused_at_the_hello() -> None:
    """A peer that knows the protocol but not the key gets no byte."""
    with pytest.raises(ProtocolError, match="another key"):
        DriverHandshake(KEY).receive(WorkerHandshake(make_key(), 1).hello)


@given(st.integers(0, HELLO_SIZE - 1), st.integers(1, 255))
def test_no_byte_of_a_hello_can_be_changed(place: int, change: int) -> None:
    """The parts of a hello are bound together: a recorded one cannot be turned into one for another channel."""
    hello = bytearray(WorkerHandshake(KEY, 1).hello)
    hello[place] ^= change
    with pytest.raises(ProtocolError):
        DriverHandshake(KEY).receive(bytes(hello))


def test_a_recorded_handshake_proves_nothing() -> None:
    """A replayed hello gets a different challenge, for which the recorded answer is wrong."""
    worker, driver = WorkerHandshake(KEY, 1), DriverHandshake(KEY)
    challenge = driver.receive(worker.hello)
    recorded = worker.answer(challenge)
    again = DriverHandshake(KEY)
    assert again.receive(worker.hello) != challenge
    with pytest.raises(ProtocolError, match="answer is wrong"):
        again.receive(recorded)
    assert again.stage is not Stage.KNOWN


def test_the_driver_has_to_prove_itself() -> None:
    """A worker answers neither a peer without the key nor one that replays an earlier driver's bytes."""
    worker = WorkerHandshake(KEY, 1)
    with pytest.raises(ProtocolError, match="does not know the key"):
        worker.answer(bytes(CHALLENGE_SIZE))
    recorded = DriverHandshake(KEY).receive(WorkerHandshake(KEY, 1).hello)
    with pytest.raises(ProtocolError, match="does not know the key"):
        worker.answer(recorded)


def test_no_proof_can_be_sent_back() -> None:
    """What the driver signs differs from what it expects to be signed."""
    worker, driver = WorkerHandshake(KEY, 1), DriverHandshake(KEY)
    challenge = driver.receive(worker.hello)
    with pytest.raises(ProtocolError, match="answer is wrong"):
        driver.receive(challenge[protocol.NONCE_SIZE :])


@given(st.lists(frames, max_size=6), st.lists(st.integers(0, 10_000), max_size=6))
def test_frames_survive_every_cut(sent: list[Frame], places: list[int]) -> None:
    """However the bytes are split, the same frames come out, in order, and nothing is left."""
    decoder = Decoder()
    received = []
    for piece in cut(b"".join(map(encode, sent)), places):
        decoder.feed(piece)
        while (frame := decoder.next()) is not None:
            received.append(frame)
    assert received == sent
    assert len(decoder) == 0


def test_frames_are_taken_out_one_at_a_time() -> None:
    """Frames are decoded one at a time: bytes that the reader does not need yet stay bytes."""
    first, second = (encode(Frame(FrameKind.MESSAGE, payload=payload)) for payload in (b"first", b"second"))
    decoder = Decoder(first + second)
    assert decoder.next() == Frame(FrameKind.MESSAGE, payload=b"first")
    assert len(decoder) == len(second)


def test_a_kind_that_does_not_exist_is_refused() -> None:
    """An unknown frame kind is rejected, so bytes that are out of step are detected."""
    with pytest.raises(ProtocolError, match="kind 255"):
        Decoder(bytes([255]) + encode(Frame(FrameKind.MESSAGE))[1:]).next()


def test_a_length_costs_nothing_before_its_bytes_are_there() -> None:
    """A frame that claims to be huge is awaited without allocating memory for it."""
    header = bytearray(encode(Frame(FrameKind.MESSAGE)))
    header[-4:] = b"\xff" * 4
    decoder = Decoder(bytes(header))
    assert decoder.next() is None
    assert len(decoder) == len(header)


def test_a_message_can_be_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is too long raises an error that names the size, the limit and the remedy."""
    monkeypatch.setattr(protocol, "LONGEST", 10)
    with pytest.raises(ValueError, match="11 bytes: a comm takes at most 10; return such data"):
        encode(Frame(FrameKind.MESSAGE, payload=bytes(11)))
