"""The protocol between the two sides of a comm, without I/O: first a handshake, then frames.

```text
worker → driver    HELLO       magic, number of the channel, nonce, proof
driver → worker    CHALLENGE   nonce, proof
worker → driver    ANSWER      proof
worker ↔ driver    frames      kind, number of the request, length of the payload, payload
```

A proof is an HMAC under the key of the run. A peer that does not know the key is not sent a single byte; nothing before
the frames has a length that the peer could choose; and each side adds its own nonce, so that a recorded handshake
cannot be replayed. Frames are neither encrypted nor authenticated.
"""

from __future__ import annotations

import enum
import hmac
import secrets
import struct
from typing import NamedTuple

from amltk._process.limits import out_of_memory

MAGIC = b"amltk-comm-1\n"
"""The first bytes that a worker sends: the protocol and its version."""

KEY_SIZE = NONCE_SIZE = PROOF_SIZE = 32
_NUMBER = struct.Struct("!Q")
HELLO_SIZE = len(MAGIC) + _NUMBER.size + NONCE_SIZE + PROOF_SIZE
CHALLENGE_SIZE = NONCE_SIZE + PROOF_SIZE
ANSWER_SIZE = PROOF_SIZE

_HEADER = struct.Struct("!BQI")
LONGEST = (1 << 32) - 1
"""The maximum length of a payload in bytes."""

OVER = "the call has ended, or was cancelled"
GONE = "the connection is closed: the run has ended, or this call was cancelled"
CLOSED = "a callback has closed the comm: the call should finish"


class ProtocolError(Exception):
    """The peer does not know the key, or does not speak this protocol."""


class NoMemoryError(Exception):
    """There is no memory for a frame; those after it cannot be read either."""


def make_key() -> bytes:
    """A new key for one run."""
    return secrets.token_bytes(KEY_SIZE)


def _proof(key: bytes, role: bytes, number: int, *nonces: bytes) -> bytes:
    """A proof. Each role signs a different text, so that the proof of one cannot be sent back as that of the other."""
    return hmac.digest(key, b"".join((MAGIC, role, _NUMBER.pack(number), *nonces)), "sha256")


class WorkerHandshake:
    """The worker's part: send `hello`, then the answer to the challenge.

    Args:
        key: The key of the run.
        number: The number of the worker's channel.

    Attributes:
        hello: The first bytes to send.
    """

    def __init__(self, key: bytes, number: int) -> None:
        self._key = key
        self._number = number
        self._nonce = secrets.token_bytes(NONCE_SIZE)
        proof = _proof(key, b"hello", number, self._nonce)
        self.hello: bytes = b"".join((MAGIC, _NUMBER.pack(number), self._nonce, proof))

    def answer(self, challenge: bytes) -> bytes:
        """The answer to a challenge of `CHALLENGE_SIZE` bytes.

        Raises:
            ProtocolError: The challenge does not come from the run.
        """
        nonce, proof = challenge[:NONCE_SIZE], challenge[NONCE_SIZE:]
        if not hmac.compare_digest(proof, _proof(self._key, b"driver", self._number, self._nonce, nonce)):
            raise ProtocolError("the peer does not know the key of the run")
        return _proof(self._key, b"worker", self._number, self._nonce, nonce)


class Stage(enum.Enum):
    """How far the driver trusts the peer."""

    STRANGER = "has proved nothing"
    ANNOUNCED = "has sent a valid hello, which may be a recorded one"
    KNOWN = "has proved that it knows the key"


class DriverHandshake:
    """The driver's part: pass it the received bytes, and send what it returns.

    Args:
        key: The key of the run.

    Attributes:
        stage: How far the handshake is.
        number: The channel that the worker claims; trustworthy once the stage is `KNOWN`.
        rest: The bytes received after the handshake.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._buffer = bytearray()
        self._expected = b""
        self.stage: Stage = Stage.STRANGER
        self.number: int = 0
        self.rest: bytes = b""

    def receive(self, data: bytes) -> bytes:
        """Process received bytes, in pieces of any size.

        Returns:
            The bytes to send; may be empty.

        Raises:
            ProtocolError: The peer is not one of the run's workers.
        """
        self._buffer += data
        reply = b""
        if self.stage is Stage.STRANGER:
            if not MAGIC.startswith(self._buffer[: len(MAGIC)]):
                raise ProtocolError("the peer speaks another protocol")
            if len(self._buffer) < HELLO_SIZE:
                return b""
            reply = self._challenge(self._take(HELLO_SIZE)[len(MAGIC) :])
        if self.stage is Stage.ANNOUNCED and len(self._buffer) >= ANSWER_SIZE:
            if not hmac.compare_digest(self._take(ANSWER_SIZE), self._expected):
                raise ProtocolError("the peer's answer is wrong")
            self.stage = Stage.KNOWN
            self.rest = self._take(len(self._buffer))
        return reply

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _challenge(self, hello: bytes) -> bytes:
        (number,) = _NUMBER.unpack_from(hello)
        nonce, proof = hello[_NUMBER.size : -PROOF_SIZE], hello[-PROOF_SIZE:]
        if not hmac.compare_digest(proof, _proof(self._key, b"hello", number, nonce)):
            raise ProtocolError("the peer's hello is signed with another key")
        mine = secrets.token_bytes(NONCE_SIZE)
        self.number = number
        self._expected = _proof(self._key, b"worker", number, nonce, mine)
        self.stage = Stage.ANNOUNCED
        return mine + _proof(self._key, b"driver", number, nonce, mine)


class FrameKind(enum.IntEnum):
    """The kinds of frames."""

    WELCOME = 1  # to a worker: accepted
    REFUSAL = 2  # to a worker: the reason for the refusal, as text
    OPEN = 3  # from a worker: it has opened its comm
    MESSAGE = 4  # in both directions
    REQUEST = 5  # from a worker: it waits for the answer with this number
    RESPONSE = 6  # to a worker: the answer
    FAILURE = 7  # to a worker: why there will be no answer, as text; without a number: why its comm is closed
    CLOSE = 8  # from a worker: it has closed its comm; to a worker: it should finish, and why, as text


class Frame(NamedTuple):
    """One message of the protocol."""

    kind: FrameKind
    number: int = 0
    """The number of the request, from 1 on; 0 if there is none."""
    payload: bytes = b""


def encode(frame: Frame) -> bytes:
    """The bytes of a frame.

    Raises:
        ValueError: The payload is too long.
    """
    size = len(frame.payload)
    if size > LONGEST:
        raise ValueError(
            f"a message of {size:,} bytes: a comm takes at most {LONGEST:,}; return such data, or write it to a file"
        )
    return _HEADER.pack(frame.kind, frame.number, size) + frame.payload


class Decoder:
    """Splits received bytes into frames, taken out one at a time, so that the reader decides how many it can use."""

    def __init__(self, data: bytes = b"") -> None:
        self._buffer = bytearray(data)
        self._position = 0

    def __len__(self) -> int:
        """How many bytes are buffered."""
        return len(self._buffer) - self._position

    def feed(self, data: bytes) -> None:
        """Add received bytes.

        Raises:
            NoMemoryError: They do not fit into memory.
        """
        try:
            if self._position:
                del self._buffer[: self._position]
                self._position = 0
            self._buffer += data
        except MemoryError:
            raise self._no_memory() from None

    def next(self) -> Frame | None:
        """Take out the next frame; None if it is incomplete.

        Raises:
            ProtocolError: The bytes are not a frame.
            NoMemoryError: It does not fit into memory.
        """
        if len(self) < _HEADER.size:
            return None
        kind, number, size = _HEADER.unpack_from(self._buffer, self._position)
        if kind not in _KINDS:
            raise ProtocolError(f"the peer sent a frame of kind {kind}, which does not exist")
        begin = self._position + _HEADER.size
        if len(self._buffer) < begin + size:
            return None
        self._position = begin + size
        try:
            with memoryview(self._buffer) as view:
                return Frame(_KINDS[kind], number, bytes(view[begin : self._position]))
        except MemoryError:
            self._position = begin - _HEADER.size
            raise self._no_memory() from None

    def _no_memory(self) -> NoMemoryError:
        """Release what has been received; returns the error."""
        size = len(self)
        if size >= _HEADER.size:
            _, _, size = _HEADER.unpack_from(self._buffer, self._position)
        self._buffer, self._position = bytearray(), 0
        return NoMemoryError(str(out_of_memory("a message", size, "Send less, or write it to a file")))


_KINDS = {int(kind): kind for kind in FrameKind}
