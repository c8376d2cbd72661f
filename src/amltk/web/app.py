"""The server's answers. Loaded only when Starlette is installed."""

from __future__ import annotations

import asyncio
import contextlib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from amltk.journal.live.table import Query
from amltk.web import page
from amltk.web.guard import HEADERS, Guard, is_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from amltk.web.experiment import Experiment

EVERY = 0.5
"""How many seconds are between two looks at a journal, and between two messages to a page, at least."""

KEEP_ALIVE = 15.0
"""After how many seconds without news a page is told that the server is still there."""

LARGEST_PAGE = 500
"""How many calls a page of the table has at most."""

LONGEST = 200
"""How many characters a search has at most."""

_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class News:
    """Reads the journals while anybody looks, and wakes those who wait for news.

    Args:
        experiments: The experiments.
    """

    def __init__(self, experiments: Sequence[Experiment]) -> None:
        self._experiments = experiments
        self._latest: list[bytes] = [b""] * len(experiments)
        self._turn = 0
        self._told = -EVERY  # when, on the clock of the loop
        self._changed = asyncio.Condition()
        self.closing: bool = False

    async def follow(self) -> None:
        """Read on and on."""
        loop = asyncio.get_running_loop()
        while not self.closing:
            began = loop.time()
            more = [await run_in_threadpool(experiment.advance) for experiment in self._experiments]
            if not any(more) or began - self._told >= EVERY:
                await self._tell()
            if not any(more):
                await asyncio.sleep(max(0.05, EVERY - (loop.time() - began)))

    async def _tell(self) -> None:
        latest = [await run_in_threadpool(experiment.overview) for experiment in self._experiments]
        self._told = asyncio.get_running_loop().time()
        if latest != self._latest:
            async with self._changed:
                self._latest, self._turn = latest, self._turn + 1
                self._changed.notify_all()

    async def close(self) -> None:
        """Let nobody wait any longer."""
        self.closing = True
        async with self._changed:
            self._changed.notify_all()

    async def messages(self) -> AsyncIterator[bytes]:
        """The news of all experiments, the present first. A slow reader misses some, and gets the latest."""
        turn, seen = -1, [b""] * len(self._experiments)
        while not self.closing:
            turn = self._turn
            for place, latest in enumerate(self._latest):
                if latest != seen[place]:
                    seen[place] = latest
                    yield b"id: %d\ndata: " % place + latest + b"\n\n"
            try:
                async with asyncio.timeout(KEEP_ALIVE), self._changed:
                    await self._changed.wait_for(lambda: self._turn != turn or self.closing)  # noqa: B023 - awaited here
            except TimeoutError:
                yield b": still there\n\n"


def make_app(experiments: Sequence[Experiment], *, key: str, names: tuple[str, ...] = ()) -> ASGIApp:
    """Make the server's answers: the page, what it asks for, and nothing that changes anything.

    Args:
        experiments: What is shown.
        key: What every address begins with.
        names: Further names by which the server may be called.
    """
    news = News(experiments)

    @contextlib.asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        following = asyncio.create_task(news.follow())
        try:
            yield
        finally:
            await news.close()
            following.cancel()
            await asyncio.wait([following])
            for experiment in experiments:
                experiment.close()

    def one(request: Request) -> Experiment | None:
        place = int(request.path_params["place"])
        return experiments[place] if place < len(experiments) else None

    async def index(_: Request) -> Response:
        return HTMLResponse(page.served([experiment.name for experiment in experiments]))

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _assets():
            return PlainTextResponse("not found", 404)
        return Response(_assets()[name], media_type=_TYPES[name[name.rindex(".") :]])

    async def events(_: Request) -> Response:
        headers = {"x-accel-buffering": "no"}
        return StreamingResponse(news.messages(), media_type="text/event-stream", headers=headers)

    async def overview(request: Request) -> Response:
        if (found := one(request)) is None:
            return PlainTextResponse("not found", 404)
        return _json(await run_in_threadpool(found.overview))

    async def calls(request: Request) -> Response:
        if (found := one(request)) is None:
            return PlainTextResponse("not found", 404)
        return _json(await run_in_threadpool(found.calls, _query(request)))

    async def call(request: Request) -> Response:
        found, number = one(request), int(request.path_params["number"])
        answer = None if found is None or number > 2**53 else await run_in_threadpool(found.call, number)
        return PlainTextResponse("there is no such call", 404) if answer is None else _json(answer)

    async def timeline(request: Request) -> Response:
        if (found := one(request)) is None:
            return PlainTextResponse("not found", 404)
        begin, end = (float(request.query_params[name]) for name in ("begin", "end"))
        if not 0 < end - begin < float("inf"):
            raise ValueError("begin must be before end")
        return _json(await run_in_threadpool(found.part_of_timeline, begin, end))

    routes = [
        Route("/", index),
        Route("/assets/{name}", asset),
        Route("/api/events", events),
        Route("/api/{place:int}/overview", overview),
        Route("/api/{place:int}/calls", calls),
        Route("/api/{place:int}/calls/{number:int}", call),
        Route("/api/{place:int}/timeline", timeline),
    ]
    handlers: Any = {ValueError: _bad_request, KeyError: _bad_request}
    app = Starlette(routes=routes, lifespan=life, exception_handlers=handlers)
    app.state.news = news
    return Guarded(app, key, Guard(names))


class Guarded:
    """Lets only those requests through that may be answered, and adds the headers of every answer.

    Args:
        app: What answers.
        key: The key.
        guard: Checks where requests come from.
    """

    def __init__(self, app: Starlette, key: str, guard: Guard) -> None:
        self.app: Starlette = app
        self._key = key
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
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
        await self.app({**scope, "root_path": f"/{key}"}, receive, send_with_headers)

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


async def _bad_request(_: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), 400)


def _query(request: Request) -> Query:
    given = request.query_params
    return Query(
        search=given.get("search", "")[:LONGEST],
        states=tuple(state for state in given.get("states", "").split(",") if state)[:5],
        task=given.get("task"),
        error=given.get("error"),
        worker=given.get("worker"),
        sort=given.get("sort", "number"),
        descending=given.get("order", "desc") == "desc",
        offset=max(0, min(int(given.get("offset", 0)), 2**53)),
        limit=max(1, min(int(given.get("limit", 50)), LARGEST_PAGE)),
    )


@cache
def _assets() -> dict[str, bytes]:
    """The files of the page that may be asked for."""
    folder = resources.files("amltk.web") / "assets"
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name.endswith(tuple(_TYPES))}

