"""Frames, whatever pieces they arrive in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amltk.scheduling.executors.process_pool._state.protocol import (
    CHUNK_BYTES,
    HEADER,
    MARK,
    Decoder,
    Frame,
    ProtocolError,
    encode,
)


class Stream:
    """Returns bytes in pieces of given sizes, as a socket does."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self.data = data
        self.sizes = sizes

    def recv_into(self, view: memoryview) -> int:
        size = min(len(view), len(self.data), self.sizes.pop() if self.sizes else len(self.data))
        view[:size] = self.data[:size]
        self.data = self.data[size:]
        return size


def transfer(frames: list[Frame], sizes: list[int]) -> list[tuple[Any, ...]]:
    """What arrives."""
    data = b"".join(bytes(piece) for frame in frames for piece in encode(*frame))
    stream: Any = Stream(data, sizes)
    decoder = Decoder()
    arrived = []
    while decoder.receive(stream):
        arrived += [plain(frame) for frame in decoder.frames()]
    return arrived


def plain(frame: Frame) -> tuple[Any, ...]:
    return (*frame[:6], bytes(frame.payload), [bytes(buffer) for buffer in frame.buffers])


lengths = st.sampled_from([0, 1, 63, 64, 65, 5000, CHUNK_BYTES - 41, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
frames = st.builds(
    lambda kind, key, size, buffers: Frame(
        kind, key, 3, 7, 0.5, 1.5, bytes([kind]) * size, [bytes([n + 1]) * length for n, length in enumerate(buffers)]
    ),
    st.integers(1, 10),
    st.integers(0, 2**63),
    lengths,
    st.lists(lengths, max_size=3),
)


@given(st.lists(frames, max_size=5), st.lists(st.integers(1, 2 * CHUNK_BYTES), max_size=30))
def test_frames_arrive_whole_and_in_order(sent: list[Frame], sizes: list[int]) -> None:
    """Small and large frames, with and without buffers, survive any split of the stream."""
    assert transfer(sent, sizes) == [plain(frame) for frame in sent]


def test_what_is_no_frame_is_noticed() -> None:
    """Foreign bytes raise an error that shows them, and are not a frame."""
    decoder = Decoder()
    stream: Any = Stream(b"hello " * 20, [])
    decoder.receive(stream)
    with pytest.raises(ProtocolError, match="hello"):
        decoder.frames()


@pytest.mark.parametrize(
    "garbage", [b"hello " * 20, HEADER.pack(MARK, 9, 0, 0, 1, 0, 1, 64, 0.0, 0.0) + (65).to_bytes(8, "little")]
)
def test_what_came_before_it_counts(garbage: bytes) -> None:
    """Whole frames are returned first, and the error comes after them, whether at once or in a table of lengths."""
    decoder = Decoder()
    stream: Any = Stream(b"".join(bytes(piece) for piece in encode(*Frame(9, 1))) + garbage, [])
    decoder.receive(stream)
    assert [frame.key for frame in decoder.frames()] == [1]
    with pytest.raises(ProtocolError, match="not the beginning of a frame"):
        decoder.frames()
