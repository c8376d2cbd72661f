"""Who may connect to a run, and what happens to unauthenticated clients: raw sockets against a comm's listener."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import stat
import tempfile
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amltk.exceptions import CommConnectError
from amltk.scheduling.plugins.comm._driver import listener
from amltk.scheduling.plugins.comm._driver.connection import CHUNK, HANDSHAKE_PATIENCE, ROOM, Connection, weight
from amltk.scheduling.plugins.comm._driver.server import MOST_STRANGERS, RESPITE, Server
from amltk.scheduling.plugins.comm.protocol import (
    ANSWER_SIZE,
    CHALLENGE_SIZE,
    Decoder,
    Frame,
    FrameKind,
    Stage,
    WorkerHandshake,
    encode,
    make_key,
)
from amltk.scheduling.plugins.comm.ticket import Ticket
from amltk.testing import run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

pytestmark = pytest.mark.integration

BOTH = pytest.mark.parametrize("interface", [None, "127.0.0.1"], ids=["unix", "tcp"])


class Channel:
    """A channel that records what it receives, and acknowledges frames when the test says so."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.frames: list[Frame] = []
        self.delivers = True
        self.ended = asyncio.Event()

    def connected(self, connection: Connection) -> str:
        if self.connection is not None:
            return "one is here already"
        self.connection = connection
        return ""

    def received(self, frame: Frame) -> None:
        self.frames.append(frame)
        if self.delivers:
            assert self.connection is not None
            asyncio.get_running_loop().call_soon(self.connection.delivered, frame)

    def disconnected(self, connection: Connection) -> None:
        assert connection is self.connection
        self.connection = None
        self.ended.set()


@asynccontextmanager
async def serving(interface: str | None = None) -> AsyncIterator[tuple[Server, Channel, Ticket]]:
    """Start a listener with one channel."""
    server = Server(asyncio.get_running_loop(), interface, remote=False)
    channel = Channel()
    try:
        yield server, channel, server.ticket(channel)
    finally:
        server.close()


async def reach(ticket: Ticket) -> Streams:
    """Connect without sending anything."""
    if isinstance(ticket.address, tuple):
        return await asyncio.open_connection(*ticket.address)
    return await asyncio.open_unix_connection(ticket.address)


async def come_in(ticket: Ticket) -> tuple[Streams, Frame, bytes]:
    """Connect with the key; return the streams, the frame that accepts or refuses it, and the bytes that were sent."""
    reader, writer = await reach(ticket)
    handshake = WorkerHandshake(ticket.key, ticket.number)
    writer.write(handshake.hello)
    answer = handshake.answer(await reader.readexactly(CHALLENGE_SIZE))
    writer.write(answer)
    decoder = Decoder()
    while (frame := decoder.next()) is None:
        data = await reader.read(CHUNK)
        assert data, "hung up"
        decoder.feed(data)
    return (reader, writer), frame, handshake.hello + answer


async def is_well(ticket: Ticket, channel: Channel) -> None:
    """Assert that the channel's worker can connect, send a message, and disconnect."""
    (_, writer), frame, _ = await come_in(ticket)
    assert frame == Frame(FrameKind.WELCOME)
    said = Frame(FrameKind.MESSAGE, payload=b"well")
    writer.write(encode(said))
    writer.close()
    await channel.ended.wait()
    assert channel.frames == [said]


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "noise": os.urandom(100_000),
    "zeros": bytes(1000),
    "a huge length": b"\xff" * 64,
    "a frame": encode(Frame(FrameKind.MESSAGE, payload=b"let me in")),
    "a pickle": b"\x80\x05cos\nsystem\n(S'true'\ntR.",
    "another version": WorkerHandshake(make_key(), 1).hello.replace(b"comm-1", b"comm-9"),
    "a wrong key": WorkerHandshake(make_key(), 1).hello,
    "an empty key": WorkerHandshake(b"", 1).hello,
}


@BOTH
@pytest.mark.parametrize("said", [pytest.param(said, id=name) for name, said in GARBAGE.items()])
def test_who_does_not_know_the_key_gets_nothing(interface: str | None, said: bytes) -> None:
    """A client without the key gets no bytes and is disconnected at once; the run's worker is served as usual."""

    async def scenario() -> None:
        async with serving(interface) as (_, channel, ticket):
            reader, writer = await reach(ticket)
            writer.write(said)
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                pass  # the connection was closed in the middle of its write
            assert asyncio.get_running_loop().time() == 0
            writer.close()
            await is_well(ticket, channel)

    run_in_virtual_time(scenario())


@BOTH
def test_silence_is_not_listened_to_for_long(interface: str | None) -> None:
    """A client that sends nothing, or only part of its hello, is disconnected when its time is up."""

    async def scenario() -> None:
        async with serving(interface) as (_, channel, ticket):
            strangers = [await reach(ticket) for _ in range(2)]
            strangers[1][1].write(WorkerHandshake(ticket.key, ticket.number).hello[:-1])
            for reader, writer in strangers:
                assert await reader.read() == b""
                writer.close()
            assert asyncio.get_running_loop().time() == HANDSHAKE_PATIENCE
            await is_well(ticket, channel)

    run_in_virtual_time(scenario())


@BOTH
def test_a_recorded_handshake_opens_nothing(interface: str | None) -> None:
    """A replayed hello gets at most a challenge that it cannot answer; a silent replay times out."""

    async def scenario() -> None:
        async with serving(interface) as (_, channel, ticket):
            (_, writer), frame, recorded = await come_in(ticket)
            assert frame.kind is FrameKind.WELCOME
            writer.close()
            await channel.ended.wait()
            channel.ended.clear()

            hello, answer = recorded[:-ANSWER_SIZE], recorded[-ANSWER_SIZE:]
            strangers = [await reach(ticket) for _ in range(3)]
            for (reader, writer), said in zip(strangers, (recorded, hello, hello), strict=True):
                writer.write(said)
                received = await reader.read(CHUNK)
                assert len(received) == (CHALLENGE_SIZE if said is hello else 0)
            strangers[1][1].write(answer)
            for reader, writer in strangers:
                assert await reader.read() == b""
                writer.close()
            assert asyncio.get_running_loop().time() == HANDSHAKE_PATIENCE
            assert channel.connection is None
            await is_well(ticket, channel)

    run_in_virtual_time(scenario())


def test_a_crowd_of_strangers_keeps_nobody_out() -> None:
    """Silent connections hold a bounded number of descriptors, and a worker still gets in."""

    async def scenario() -> None:
        async with serving() as (server, channel, ticket):
            crowd = [await reach(ticket) for _ in range(MOST_STRANGERS + 20)]
            await is_well(ticket, channel)
            assert len(server._waiting[Stage.STRANGER]) == MOST_STRANGERS - 1  # it took the place of one, and has left
            gone = [await reader.read() for reader, _ in crowd[:21]]
            assert gone == [b""] * 21, "those who came first have to go"
            assert asyncio.get_running_loop().time() == 0
            for _, writer in crowd:
                writer.close()

    run_in_virtual_time(scenario())


def test_who_has_said_hello_is_not_pushed_out() -> None:
    """Clients that connect between a worker's hello and its answer evict silent clients, not the worker."""

    async def scenario() -> None:
        async with serving() as (_, channel, ticket):
            reader, writer = await reach(ticket)
            handshake = WorkerHandshake(ticket.key, ticket.number)
            silent = [await reach(ticket) for _ in range(10)]
            writer.write(handshake.hello)
            challenge = await reader.readexactly(CHALLENGE_SIZE)
            silent += [await reach(ticket) for _ in range(MOST_STRANGERS)]
            writer.write(handshake.answer(challenge) + encode(Frame(FrameKind.MESSAGE, payload=b"well")))
            writer.write_eof()
            await channel.ended.wait()
            assert [frame.payload for frame in channel.frames] == [b"well"]
            for _, stranger in [(reader, writer), *silent]:
                stranger.close()

    run_in_virtual_time(scenario())


def test_no_descriptor_left() -> None:
    """If no descriptor is left, a worker's connection waits until one is free again."""

    async def scenario() -> None:
        async with serving() as (_, channel, ticket):
            loop = asyncio.get_running_loop()
            await is_well(ticket, channel)
            channel.ended.clear()
            channel.frames.clear()
            client = socket.socket(socket.AF_UNIX)
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, limits[1]))
            try:
                assert isinstance(ticket.address, str)
                client.connect(ticket.address)
                await asyncio.sleep(RESPITE / 2)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            client.close()
            await is_well(ticket, channel)
            assert loop.time() == RESPITE

    run_in_virtual_time(scenario())


def test_one_connection_a_channel() -> None:
    """A second connection is refused while the first is open; after that, another is accepted."""

    async def scenario() -> None:
        async with serving() as (_, channel, ticket):
            (_, first), welcome, _ = await come_in(ticket)
            (reader, second), refusal, _ = await come_in(ticket)
            assert (welcome.kind, refusal.kind) == (FrameKind.WELCOME, FrameKind.REFUSAL)
            assert refusal.payload == b"one is here already"
            assert await reader.read() == b""
            second.close()
            first.close()
            await channel.ended.wait()
            channel.ended.clear()
            await is_well(ticket, channel)

    run_in_virtual_time(scenario())


def test_a_number_is_good_for_the_life_of_its_call() -> None:
    """After the call has ended, even the right key is refused under its number; so is a number never issued."""

    async def scenario() -> None:
        async with serving() as (server, _, ticket):
            unknown = Ticket(ticket.address, 99, ticket.key, ticket.host)
            server.forget(ticket.number)
            for number in (ticket, unknown):
                (reader, writer), frame, _ = await come_in(number)
                assert frame == Frame(FrameKind.REFUSAL, payload=b"the call has ended, or was cancelled")
                assert await reader.read() == b""
                writer.close()

    run_in_virtual_time(scenario())


def test_who_is_known_and_out_of_step_is_hung_up_on() -> None:
    """An authenticated connection that sends an invalid frame is closed, and no other is affected."""

    async def scenario() -> None:
        async with serving() as (server, channel, ticket):
            other = Channel()
            (_, fine), _, _ = await come_in(server.ticket(other))
            (reader, writer), _, _ = await come_in(ticket)
            writer.write(encode(Frame(FrameKind.MESSAGE, payload=b"well")) + b"\xff" * 100)
            assert await reader.read() == b""
            assert [frame.payload for frame in channel.frames] == [b"well"]
            assert other.connection is not None
            fine.write(encode(Frame(FrameKind.MESSAGE, payload=b"well")))
            fine.close()
            await other.ended.wait()
            assert [frame.payload for frame in other.frames] == [b"well"]
            writer.close()

    run_in_virtual_time(scenario())


@BOTH
def test_no_more_is_read_than_can_be_dealt_with(interface: str | None) -> None:
    """While frames wait to be handled, only a bounded number is read; the rest stays with the sender."""

    async def scenario() -> None:
        async with serving(interface) as (_, channel, ticket):
            channel.delivers = False
            (_, writer), _, _ = await come_in(ticket)
            frame = Frame(FrameKind.MESSAGE, payload=bytes(10_000))
            most = ROOM // weight(frame) + 1
            writer.transport.set_write_buffer_limits(high=0)
            total = 10 * most
            for _ in range(total):
                writer.write(encode(frame))
            writer.write_eof()
            await asyncio.sleep(1)
            assert len(channel.frames) == most
            connection = channel.connection
            assert connection is not None
            assert len(connection._decoder) <= CHUNK + len(encode(frame))

            channel.delivers = True
            for taken in list(channel.frames):
                connection.delivered(taken)
            await channel.ended.wait()
            assert len(channel.frames) == total
            writer.close()

    run_in_virtual_time(scenario())


@BOTH
def test_the_last_words_of_who_is_gone(interface: str | None) -> None:
    """A worker's messages are delivered even if it has gone, has read nothing, and cannot be written to any more."""

    async def scenario() -> None:
        async with serving(interface) as (_, channel, ticket):
            channel.delivers = False
            (_, writer), _, _ = await come_in(ticket)
            said = [Frame(FrameKind.MESSAGE, payload=b"%d" % n) for n in range(200)]
            writer.write(b"".join(map(encode, said)))
            writer.write_eof()
            await asyncio.sleep(1)  # of virtual time: until there is nothing left to do
            assert len(channel.frames) == 64
            writer.close()
            await writer.wait_closed()
            connection = channel.connection
            assert connection is not None
            for _ in range(3):
                connection.send(Frame(FrameKind.MESSAGE, payload=bytes(100_000)))
            channel.delivers = True
            for taken in list(channel.frames):
                connection.delivered(taken)
            await channel.ended.wait()
            assert channel.frames == said

    run_in_virtual_time(scenario())


def test_much_can_be_sent_to_who_reads_slowly() -> None:
    """What does not fit at once is sent in order, when there is room."""

    async def scenario() -> None:
        async with serving() as (_, channel, ticket):
            (reader, writer), _, _ = await come_in(ticket)
            assert channel.connection is not None
            sent = [Frame(FrameKind.MESSAGE, number, os.urandom(100_000)) for number in range(30)]
            for frame in sent:
                channel.connection.send(frame)
            decoder, received = Decoder(), []
            while len(received) < len(sent):
                decoder.feed(await reader.read(CHUNK))
                while (frame := decoder.next()) is not None:  # type: ignore[assignment]
                    received.append(frame)
            assert received == sent
            assert channel.connection._unsent == 0
            writer.close()
            await channel.ended.wait()

    run_in_virtual_time(scenario())


def test_only_this_user_can_reach_a_unix_socket() -> None:
    """The socket lies in a private folder, which is removed with the listener; a long TMPDIR does no harm."""
    for parent in (tempfile.gettempdir(), "x" * 200):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(Path(tempfile.gettempdir(), parent)))
            door = listener.listen(None, remote=False)
        assert isinstance(door.address, str)
        folder = Path(door.address).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.stat().st_uid == os.getuid()
        door.close()
        assert not folder.exists()


def test_where_it_listens() -> None:
    """If workers may be remote, it listens on the loopback interface unless another one is named."""
    addresses = []
    for interface, remote in ((None, True), ("lo", False), ("127.0.0.1", True)):
        door = listener.listen(interface, remote=remote)
        addresses.append(door.socket.getsockname()[0])
        door.close()
    assert addresses == ["127.0.0.1"] * 3


# ---------------------------------------------------------------------------------------------- whom the worker trusts


def impostor(said: bytes) -> tuple[Ticket, threading.Thread, list[bytes]]:
    """Start an impostor at the run's address; return also what it receives."""
    server = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def pretend() -> None:
        with server, server.accept()[0] as connection:
            heard.append(connection.recv(CHUNK))
            connection.sendall(said)
            try:
                connection.shutdown(socket.SHUT_WR)
                heard.append(connection.recv(CHUNK))
            except OSError:  # not even its message was read to the end: reset, or not connected any more
                heard.append(b"")

    thread = threading.Thread(target=pretend)
    thread.start()
    return Ticket(server.getsockname(), 1, make_key(), socket.gethostname()), thread, heard


@pytest.mark.parametrize("said", [b"", b"short", bytes(CHALLENGE_SIZE), os.urandom(CHALLENGE_SIZE + 100)])
def test_a_worker_talks_to_its_run_only(said: bytes) -> None:
    """A peer that cannot prove it has the key receives a hello and no more; the error names the address."""
    ticket, thread, heard = impostor(said)
    with pytest.raises(CommConnectError, match=r"the run is not \(or no longer\) at .*127\.0\.0\.1"):
        ticket.connect()
    thread.join()
    assert [len(words) for words in heard] == [len(WorkerHandshake(ticket.key, 1).hello), 0]


def test_nobody_is_there() -> None:
    """The error names the address and the hosts; from another host it says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address: Any = server.getsockname()
    with pytest.raises(CommConnectError, match=r"cannot reach the run at .*refused$"):
        Ticket(address, 1, make_key(), socket.gethostname()).connect()
    for place in (address, "/nowhere/comm"):
        with pytest.raises(CommConnectError, match=r"on 'elsewhere', from .*Comm\.Plugin\(interface='eth0'\)"):
            Ticket(place, 1, make_key(), "elsewhere").connect()


def test_the_key_is_not_shown() -> None:
    """What may end up in a log shows the address and not the secret."""
    ticket = Ticket("/somewhere", 1, b"secret", "here")
    assert "secret" not in repr(ticket)
    assert "/somewhere" in repr(ticket)
