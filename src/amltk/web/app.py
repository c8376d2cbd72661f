"""The server's answers. Loaded only when Starlette is installed."""

from __future__ import annotations

import asyncio
import contextlib
import math
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from amltk.journal.live.table import Query
from amltk.web import page
from amltk.web.guard import HEADERS, Guard, is_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.datastructures import QueryParams
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from amltk.web.experiment import Experiment

EVERY = 0.5
"""The least number of seconds between two reads of a journal, and between two messages to a page."""

RARELY = 5.0
"""The same while no page is open."""

KEEP_ALIVE = 15.0
"""After how many seconds without news the server tells a page that it is still there."""

LARGEST = 2**53
"""The largest integer that JavaScript represents exactly."""

LARGEST_PAGE = 500
"""How many calls a page of the table has at most."""

LONGEST = 200
"""How many characters a search has at most."""

MOST_STATES = 5
"""How many states a query names at most."""

_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class News:
    """Reads the journals, and wakes the requests that wait for news.

    Args:
        experiments: The experiments.
    """

    def __init__(self, experiments: Sequence[Experiment]) -> None:
        self._experiments = experiments
        self._versions: list[object] = [None] * len(experiments)
        self._latest: list[bytes] = [b""] * len(experiments)
        self._turn = 0
        self._told = -math.inf  # when there was news, on the clock of the loop
        self._n_readers = 0
        self._changed = asyncio.Condition()
        self.closing: bool = False

    async def follow(self) -> None:
        """Read until the server ends."""
        loop = asyncio.get_running_loop()
        while not self.closing:
            began = loop.time()
            more = [await run_in_threadpool(experiment.advance) for experiment in self._experiments]
            if not any(more) or began - self._told >= EVERY:
                await self._tell()
            if not any(more):
                await self._pause(EVERY if self._n_readers else RARELY)

    async def _pause(self, seconds: float) -> None:
        """Wait for this long, unless a page is opened or the server ends before."""
        came = self._n_readers
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self.closing or self._n_readers > came)

    async def _tell(self) -> None:
        self._told = asyncio.get_running_loop().time()
        changed = False
        for place, experiment in enumerate(self._experiments):
            version = await run_in_threadpool(experiment.version)
            if version != self._versions[place]:
                self._latest[place] = await run_in_threadpool(experiment.overview)
                self._versions[place], changed = version, True
        if changed:
            self._turn += 1
            async with self._changed:
                self._changed.notify_all()

    async def close(self) -> None:
        """Wake everything that waits for news."""
        self.closing = True
        async with self._changed:
            self._changed.notify_all()

    async def messages(self) -> AsyncIterator[bytes]:
        """The news of all experiments, the present state first. A slow reader misses some, and gets the latest."""
        self._n_readers += 1
        try:
            async with self._changed:
                self._changed.notify_all()
            seen = [b""] * len(self._experiments)
            while not self.closing:
                turn = self._turn
                for place, latest in enumerate(self._latest):
                    if latest != seen[place]:
                        seen[place] = latest
                        yield b"id: %d\ndata: " % place + latest + b"\n\n"
                if await self._is_quiet_since(turn):
                    yield b": still there\n\n"
        finally:
            self._n_readers -= 1

    async def _is_quiet_since(self, turn: int) -> bool:
        """Wait for news. Returns whether there was none for a while."""
        try:
            async with asyncio.timeout(KEEP_ALIVE), self._changed:
                await self._changed.wait_for(lambda: self._turn != turn or self.closing)
        except TimeoutError:
            return True
        return False


class Pages:
    """Answers the requests of the page. No request changes anything.

    Args:
        experiments: What is shown.
    """

    def __init__(self, experiments: Sequence[Experiment]) -> None:
        self._experiments = experiments
        self.news: News = News(experiments)
        self.routes: list[Route] = [
            Route("/", self.index),
            Route("/assets/{name}", self.asset),
            Route("/api/events", self.events),
            Route("/api/{place:int}/overview", self.overview),
            Route("/api/{place:int}/calls", self.calls),
            Route("/api/{place:int}/calls/{number:int}", self.call),
            Route("/api/{place:int}/timeline", self.timeline),
        ]

    @contextlib.asynccontextmanager
    async def life(self, _: Starlette) -> AsyncIterator[None]:
        """What lasts from the start of the server to its end."""
        following = asyncio.create_task(self.news.follow())
        try:
            yield
        finally:
            await self.news.close()
            await following
            for experiment in self._experiments:
                experiment.close()

    def _experiment(self, request: Request) -> Experiment:
        place = int(request.path_params["place"])
        if place >= len(self._experiments):
            raise HTTPException(404, "there is no such experiment")
        return self._experiments[place]

    async def index(self, _: Request) -> Response:
        """The page."""
        return HTMLResponse(page.served([experiment.name for experiment in self._experiments]))

    async def asset(self, request: Request) -> Response:
        """One of its files."""
        name = request.path_params["name"]
        if name not in _assets():
            raise HTTPException(404, "there is no such file")
        return Response(_assets()[name], media_type=_TYPES[name[name.rindex(".") :]])

    async def events(self, _: Request) -> Response:
        """The news of all experiments, as a stream."""
        headers = {"x-accel-buffering": "no"}
        return StreamingResponse(self.news.messages(), media_type="text/event-stream", headers=headers)

    async def overview(self, request: Request) -> Response:
        """Everything but single calls, once."""
        return _json(await run_in_threadpool(self._experiment(request).overview))

    async def calls(self, request: Request) -> Response:
        """A part of the table of calls."""
        return _json(await run_in_threadpool(self._experiment(request).calls, _query(request.query_params)))

    async def call(self, request: Request) -> Response:
        """A call."""
        number = int(request.path_params["number"])
        answer = None
        if number <= LARGEST:
            answer = await run_in_threadpool(self._experiment(request).call, number)
        if answer is None:
            raise HTTPException(404, f"there is no call {number}")
        return _json(answer)

    async def timeline(self, request: Request) -> Response:
        """A part of the timeline."""
        try:
            begin, end = (float(request.query_params.get(name, "nan")) for name in ("begin", "end"))
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        if not 0 < end - begin < math.inf:
            raise HTTPException(400, "begin must be before end, both in seconds")
        return _json(await run_in_threadpool(self._experiment(request).part_of_timeline, begin, end))


def make_app(experiments: Sequence[Experiment], *, key: str, names: tuple[str, ...] = ()) -> Guarded:
    """Make the application.

    Args:
        experiments: What is shown.
        key: The key with which every address begins.
        names: Further host names under which the server answers.
    """
    pages = Pages(experiments)
    return Guarded(Starlette(routes=pages.routes, lifespan=pages.life), pages.news, key, Guard(names))


class Guarded:
    """Lets only permitted requests through, and adds the headers of every answer.

    Args:
        app: The application that answers.
        news: The news for open pages.
        key: The key.
        guard: Checks where requests come from.

    Attributes:
        news: As given.
    """

    def __init__(self, app: Starlette, news: News, key: str, guard: Guard) -> None:
        self._app = app
        self.news: News = news
        self._key = key
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no web sockets: the server closes them

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name.encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        refused = self._refusal(scope)
        if refused is not None:
            await refused(scope, receive, send_with_headers)
            return
        key = scope["path"][1:].partition("/")[0]
        await self._app({**scope, "root_path": f"/{key}"}, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["method"] not in {"GET", "HEAD"}:
            return PlainTextResponse("this server only shows", 405, {"allow": "GET, HEAD"})
        why = self._guard.refusal(
            headers.get("host"), headers.get("origin"), headers.get("sec-fetch-site"), headers.get("sec-fetch-mode")
        )
        if why:
            return PlainTextResponse(why, 403)
        key, slash, _ = scope["path"][1:].partition("/")
        if not is_key(key, self._key) or not slash:
            return PlainTextResponse("not found: use the whole link that `amltk serve` has printed", 404)
        return None


def _json(data: bytes) -> Response:
    return Response(data, media_type="application/json")


def _query(given: QueryParams) -> Query:
    """The query of the table of calls that a request makes.

    Raises:
        HTTPException: It is invalid.
    """
    try:
        return Query(
            search=given.get("search", "")[:LONGEST],
            states=tuple(state for state in given.get("states", "").split(",") if state)[:MOST_STATES],
            task=given.get("task"),
            error=given.get("error"),
            worker=given.get("worker"),
            sort=given.get("sort", "number"),
            descending=given.get("order", "desc") == "desc",
            offset=max(0, min(int(given.get("offset", 0)), LARGEST)),
            limit=max(1, min(int(given.get("limit", 50)), LARGEST_PAGE)),
        )
    except ValueError as error:
        raise HTTPException(400, str(error)) from error


@cache
def _assets() -> dict[str, bytes]:
    """The files of the page that may be requested."""
    folder = resources.files("amltk.web") / "assets"
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name.endswith(tuple(_TYPES))}
