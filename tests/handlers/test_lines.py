"""How a handler that writes lines chooses between events and frames."""

from __future__ import annotations

from collections.abc import Sequence

from eventserver.event import Batch
from eventserver.handlers._lines import LineWriter
from eventserver.testing import make_event
from tests.handlers.fakes import PARTS, make_batch, make_context, make_events


def short_way(batches: Sequence[Batch]) -> bytes:
    return b"".join(b'{"short": %d}\n' % len(batch.frames) for batch in batches)


def test_raw_takes_frames() -> None:
    writer = LineWriter(PARTS["raw"](), make_context())
    assert (writer.wants, writer.wants_raw) == ("frames", False)
    assert writer.lines([make_batch(b"a", b"b"), make_batch(b"c")]) == b"a\nb\nc\n"


def test_json_takes_frames_where_there_is_a_short_way() -> None:
    writer = LineWriter(PARTS["json"](), make_context(json_lines=short_way))
    assert (writer.wants, writer.wants_raw) == ("frames", False)
    assert writer.lines([make_batch(b"a", b"b")]) == b'{"short": 2}\n'


def test_json_takes_events_where_there_is_none() -> None:
    writer = LineWriter(PARTS["json"](), make_context())
    assert (writer.wants, writer.wants_raw) == ("events", False)
    assert writer.lines(make_events(2)).count(b"\n") == 2


def test_whatever_looks_at_events_gets_events() -> None:
    """A match or steps before the handler, or the handler itself."""
    for encoder, wants_raw in (("json", False), ("raw", True), ("text", False)):
        for context, itself in (
            (make_context(json_lines=short_way, needs_events=True), False),
            (make_context(json_lines=short_way), True),
        ):
            writer = LineWriter(PARTS[encoder](), context, needs_events=itself)
            assert (writer.wants, writer.wants_raw) == ("events", wants_raw)


def test_a_frame_with_several_events_is_written_once() -> None:
    """Whichever of its events `match` has left."""
    writer = LineWriter(PARTS["raw"](), make_context(needs_events=True))
    ids = ("B-0", "B-0.1", "B-1.1", "B-1.2", "B-2", "C-2")
    pile = [make_event(id=name, raw=f"frame {name[:3]}") for name in ids]
    assert writer.lines(pile) == b"frame B-0\nframe B-1\nframe B-2\nframe C-2\n"
    assert LineWriter(PARTS["json"](), make_context(needs_events=True)).lines(pile).count(b"\n") == 6


def test_other_encoders_take_events() -> None:
    assert LineWriter(PARTS["text"](), make_context(json_lines=short_way)).wants == "events"
