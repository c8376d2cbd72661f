"""`verify`, `repair`, `rewind` and `retry`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amltk import journal

if TYPE_CHECKING:
    import argparse

    from amltk.journal import Cut


def verify(options: argparse.Namespace) -> int:
    """Report whether everything is as it was written."""
    findings = journal.verify(options.folder)
    for damage in (findings.damage, *findings.values):
        if damage is not None:
            print(damage)
    if findings.torn:
        print(f"{findings.torn:,} bytes at the end are an incomplete record; the next program that writes removes it")
    print(f"{options.folder}: {findings.end.number:,} whole records; {'sound' if findings.sound else 'damaged'}")
    return 0 if findings.sound else 1


def repair(options: argparse.Namespace) -> int:
    """Make a damaged journal usable."""
    return _tell(options.folder, journal.repair(options.folder))


def rewind(options: argparse.Namespace) -> int:
    """Go back to an earlier moment."""
    return _tell(options.folder, journal.rewind(options.folder, to=options.to, call=options.to_call))


def retry(options: argparse.Namespace) -> int:
    """Forget failures."""
    done = journal.retry(options.folder, options.call)
    if not done.calls:
        print(f"{options.folder}: nothing to do: no call has failed")
        return 0
    print(f"{options.folder}: start the program again to compute {len(done.calls):,} failed calls once more")
    if done.answered:
        print(
            f"Callbacks had submitted calls when call {done.answered[0]} failed. From there on they may do something "
            "else now; recorded results of equal calls are used"
        )
    return 0


def _tell(folder: str, cut: Cut) -> int:
    if cut.aside is None:
        print(f"{folder}: nothing to do: all {cut.kept:,} records are whole")
    else:
        print(f"{folder}: {cut.kept:,} records kept; {cut.size:,} bytes moved to {cut.aside}")
    return 0
