"""Records are read ahead, and yet each input is told with what was known when it came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amltk.journal.kinds import Kind
from amltk.journal.writer import Writer
from amltk.scheduling._journal.playback import Overview, Playback

if TYPE_CHECKING:
    from pathlib import Path


def test_attempts_of_later_sessions_count_from_then_on(tmp_path: Path) -> None:
    """A call that was computed once more after its first failure had not been when that was told."""
    with Writer(tmp_path) as writer:
        for call in (0, 1):
            writer.add(Kind.SUBMISSION, {"task": "train", "by": 0}, b"", call=call)
        failure = writer.add(Kind.EXCEPTION, {"type": "OSError"}, b"", call=0)
        for _ in range(2):
            writer.add(Kind.SESSION, {})
            for call in (0, 1):
                writer.add(Kind.SUBMISSION, {"task": "train"}, b"", call=call)
        result = writer.add(Kind.RESULT, {}, b"", call=0)
    overview = Overview()
    with Writer(tmp_path, survey=overview.survey):
        playback = Playback(writer.folder, overview)
        assert overview.submissions == 2
        told = []
        while (following := playback.next_input()) is not None:
            record = following.record
            assert record.call == 0
            told.append((record.number, playback.take_again(0, record.number)))
        assert told == [(failure, 0), (result, 2)]
        assert [playback.take_again(1), playback.take_again(1), playback.take_again(2)] == [2, 0, 0]
