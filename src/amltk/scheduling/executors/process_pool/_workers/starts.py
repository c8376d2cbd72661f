"""Starts the workers that the dispatcher wants."""

from __future__ import annotations

import faulthandler
import multiprocessing.process
import pickle
import selectors
from functools import partial
from typing import TYPE_CHECKING

from amltk._process.program import arguments, import_path
from amltk.scheduling.executors.process_pool._child.start import Start
from amltk.scheduling.executors.process_pool._io.link import Link
from amltk.scheduling.executors.process_pool._pickling import main_module
from amltk.scheduling.executors.process_pool._pickling.importable import MAIN
from amltk.scheduling.executors.process_pool._state.protocol import Kind, encode
from amltk.scheduling.executors.process_pool._system.resource_tracker import Forwarding
from amltk.scheduling.executors.process_pool._workers.starters import Starter, make_starter
from amltk.scheduling.executors.process_pool.options import AUTO, Surroundings

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from amltk.scheduling.executors.process_pool._workers.fork_server.messages import Message
    from amltk.scheduling.executors.process_pool._workers.managed_pool import ManagedPool

MAX_UNANSWERED = 64
"""How many workers may be requested before one is reported: more requests might fill the connection both ways."""


class Starts:
    """Starts workers, and has what is needed for that.

    Args:
        pool: The pool.
        variables: Returns environment variables for the workers, in addition to those of this process.
        control: For the starter's socket.
        own: Sockets of the engine, which a forked worker must not keep.
    """

    def __init__(
        self,
        pool: ManagedPool,
        *,
        variables: Callable[[], dict[str, str]],
        control: selectors.BaseSelector,
        own: list[socket.socket],
    ) -> None:
        self._pool = pool
        self._variables = variables
        self._control = control
        self._own = own
        self._starter: Starter | None = None

    def start_wanted(self) -> None:
        """Start the workers that are wanted.

        Raises:
            ConnectionError: The process that starts workers was killed.
            OSError: The system cannot start a worker now.
        """
        while True:
            with self._pool.lock:
                if not self._pool.dispatcher.wants_slot() or self.must_wait():
                    return
            self._start_one()

    def must_wait(self) -> bool:
        """Whether no worker can be started now. Requires the lock.

        The maximum number of workers was requested that are not reported yet; or their initializer would have to wait
        until what is being pickled is done, which may take long.
        """
        if self._pool.options.initialize is not None and self._pool.io.packer.is_busy():
            return True
        return sum(not link.pid for link in self._pool.links.values()) >= MAX_UNANSWERED

    def _start_one(self) -> None:
        pool = self._pool
        starter = self._make_starter()
        self.preload()
        with pool.lock:
            slot = pool.dispatcher.add_slot()
        try:
            link = Link(slot)
            try:
                payload = pickle.dumps(self._start(link))
                starter.start(link, self._descriptors())
            except BaseException:
                link.close_theirs()
                link.close()
                raise
        except BaseException:
            with pool.lock:
                pool.dispatcher.remove_slot(slot)
            raise
        link.close_theirs()
        with pool.lock:
            pool.links[slot.number] = link
            link.decoder.in_segment = partial(pool.io.segments.take_result, link)
            pool.selector.register(link.frames, selectors.EVENT_READ, link)
            pool.io.send(link, encode(Kind.INIT, payload=payload))

    def preload(self) -> None:
        """Have the modules that calls need imported before the next workers are started."""
        if self._starter is not None and self._pool.options.preload == AUTO:
            new = self._pool.io.packer.take_modules()
            if new:
                self._starter.preload(sorted(new))

    def _make_starter(self) -> Starter:
        if self._starter is None:
            options = self._pool.options
            lines = self._forwarding()
            surroundings = Surroundings(options.directory, self._variables(), lines.descriptor, lines.fileno())
            self._starter = make_starter(options.method, surroundings, self._descriptors())
            self._control.register(self._starter.control, selectors.EVENT_READ)
            if options.preload != AUTO:
                self._starter.preload(options.preload)
        return self._starter

    def _forwarding(self) -> Forwarding:
        io = self._pool.io
        with self._pool.lock:
            if io.forwarding is None:
                io.forwarding = Forwarding()
                if io.forwarding.fileno() >= 0:
                    self._pool.selector.register(io.forwarding, selectors.EVENT_READ, io.forwarding)
            return io.forwarding

    def _descriptors(self) -> list[int]:
        """The descriptors that a copy of this process must not keep open."""
        found = [sock.fileno() for sock in self._own]
        for link in list(self._pool.links.values()):
            found += (link.frames.fileno(), *link.tokens.descriptors())
        return found

    def _start(self, link: Link) -> Start:
        options = self._pool.options
        initialize = options.initialize
        return Start(
            path=import_path(),
            argv=arguments(),
            program=main_module.PROGRAM,
            main=main_module.describe(MAIN),
            directory=options.directory,
            initialize=None if initialize is None else self._pool.io.packer.pack_initializer(link, initialize),
            authkey=bytes(multiprocessing.process.current_process().authkey),
            variables=() if link.slot.binding is None else link.slot.binding.variables,
            most_memory=options.max_worker_memory,
            shares_memory=self._pool.io.segments.limit > 0,
            shows_faults=faulthandler.is_enabled(),
        )

    def reports(self) -> list[Message]:
        """What the starter reports about processes and modules.

        Raises:
            ConnectionError: The process that starts workers was killed, and its workers with it.
        """
        return [] if self._starter is None else self._starter.reports()

    def await_room(self) -> None:
        """Be woken when there is room for the rest of a request, if there is one; see `Starter.is_sending`."""
        starter = self._starter
        if starter is not None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if starter.is_sending else 0)
            if self._control.get_key(starter.control).events != events:
                self._control.modify(starter.control, events)

    def abandon(self, link: Link) -> None:
        """Give up a worker, if it was requested but not started yet."""
        if not link.pid and self._starter is not None:
            self._starter.abandon(link.slot.number)

    def drop_starter(self) -> None:
        """Release a starter that was killed; the next worker gets a new one."""
        starter, self._starter = self._starter, None
        if starter is not None:
            self._control.unregister(starter.control)
            starter.close()

    def close(self) -> None:
        """End what was needed to start workers, once the workers have ended."""
        if self._starter is not None:
            self._starter.close()
            self._starter = None
        if self._pool.options.initialize is not None:
            self._pool.options.initialize.close()
        with self._pool.lock:  # the loop may be making a turn, which forwards as well
            forwarding, self._pool.io.forwarding = self._pool.io.forwarding, None
            if forwarding is not None and forwarding.fileno() >= 0:
                self._pool.selector.unregister(forwarding)
        if forwarding is not None:
            forwarding.close()

    def disown(self) -> None:
        """Release the starter in a forked copy of the process."""
        if self._starter is not None:
            self._starter.disown()
            self._starter = None
