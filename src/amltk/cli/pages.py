"""`serve` and `report`: experiments as a web page."""

from __future__ import annotations

import os
import webbrowser
from typing import TYPE_CHECKING, Any

from amltk import _extras

if TYPE_CHECKING:
    import argparse


def serve(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    server: Any = _extras.load("amltk.web.serve", needs=("starlette", "uvicorn"), extra="web")

    def ready(link: str) -> None:
        print(link, flush=True)
        if options.ends_with is None:
            print(_hint(link), flush=True)
        if options.open:
            webbrowser.open(link)

    server.serve(
        options.folders,
        host=options.host,
        port=options.port,
        names=tuple(options.name),
        ready=ready,
        ends_with=options.ends_with,
    )
    return 0


def _hint(link: str) -> str:
    there = os.environ.get("SSH_CONNECTION", "").split()
    port = link.split(":")[2].partition("/")[0]
    if len(there) > 2 and "//127.0.0.1:" in link:  # noqa: PLR2004 - the third is the address of this machine
        return (
            f"It answers on this machine only. On yours: ssh -N -L {port}:127.0.0.1:{port} {there[2]}, "
            "then open the link there. Ctrl-C ends it"
        )
    return "Whoever has this link sees everything. Ctrl-C ends it; the runs go on"


def report(options: argparse.Namespace) -> int:
    """Write the page as one file."""
    from amltk.web.report import write_report  # only this command needs it

    write_report(options.folders, options.output, most=options.calls)
    print(f"{options.output}: {os.path.getsize(options.output) / 1e6:.1f} MB")  # noqa: PTH202 - a text is given
    return 0
