"""The arguments of the command, and how errors are reported."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from amltk.cli import care, pages, tables
from amltk.cli.show import show
from amltk.cli.watch import watch
from amltk.exceptions import SchedulerError
from amltk.journal.history.call import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Command = Callable[[argparse.Namespace], int]

_INTERRUPTED = 130
"""What shells report for a program that Ctrl-C has ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Its arguments; None for those of this process.

    Returns:
        The exit code: 0 if all is well, 1 if the journal is damaged or cannot be used; wrong arguments exit with 2.
    """
    options = _parser().parse_args(argv)
    command: Command = options.command
    try:
        code = command(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # who reads it has seen enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (SchedulerError, ValueError, OSError) as error:
        print(f"amltk: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="amltk", description="Show, check and repair the journals of experiments.", allow_abbrev=False
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, command: Command, text: str, *, many: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        if many:
            sub.add_argument("folders", nargs="+", metavar="folder", help="the folders of experiments")
        else:
            sub.add_argument("folder", help="the folder of the experiment")
        sub.set_defaults(command=command)
        return sub

    add("show", show, "Show a summary of an experiment.")
    _add_calls(add("calls", tables.calls, "Show a table of its calls."))
    add("watch", watch, "Show a run of another process live in this terminal, until it ends.")
    _add_serve(add("serve", pages.serve, "Serve experiments as a web page on this machine, until Ctrl-C.", many=True))
    _add_report(add("report", pages.report, "Write experiments as a web page into one file.", many=True))
    out = add("export", tables.export, "Write its calls to a file.")
    out.add_argument("file", help="the file; its name ends with .csv, .sqlite or .parquet")
    add("verify", care.verify, "Check that every byte is as it was written; exit with 1 if not.")
    add("repair", care.repair, "Keep what precedes the damage, and move the rest to cut/.")
    back = add("rewind", care.rewind, "Go back to an earlier moment, and move what came later to cut/.")
    where = back.add_mutually_exclusive_group(required=True)
    where.add_argument("--to", type=int, metavar="N", help="keep the records with numbers below N")
    where.add_argument("--to-call", type=int, metavar="N", help="keep what precedes the submission of call N")
    again = add("retry", care.retry, "Forget failures: the program, started again, computes these calls once more.")
    which = again.add_mutually_exclusive_group(required=True)
    which.add_argument("--failed", action="store_true", help="all calls that raised, or whose worker was lost")
    which.add_argument("--call", type=int, nargs="+", metavar="N", help="only the calls with these numbers")
    return parser


def _add_calls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--failed", action="store_true", help="only calls that raised, or whose worker was lost")
    parser.add_argument("--sort", choices=FIELDS, default="number", help="the column to sort by (default: number)")
    parser.add_argument("--reverse", action="store_true", help="in descending order")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as a JSON array")
    form.add_argument("--csv", action="store_true", help="as CSV")


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=int, metavar="N", help="the port; 0 for any (default: 8421, or one that follows)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="the address to listen at (default: 127.0.0.1, so that only this machine can reach it); the connection is "
        "not encrypted",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name by which the server may be called, such as that of a proxy",
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.add_argument("--ends-with", type=int, help=argparse.SUPPRESS)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the file, such as report.html")
    parser.add_argument(
        "--calls", type=int, default=2000, metavar="N", help="how many calls of each its table has (default: 2000)"
    )
