"""What `file` and `console` write: a pile as lines, from events or from frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from eventserver.blocks import ended
from eventserver.encoders import JsonEncoder, one_a_frame
from eventserver.event import Batch, Event
from eventserver.interfaces import HandlerContext, IEncoder, Wants


class LineWriter:
    """A pile to the bytes of its lines. Settles at start whether the handler wants frames or events.

    Frames, where neither match and steps nor the handler itself (`needs_events`) look at events, and the encoder takes
    frames or is `json` and there is a shorter way to it (`HandlerContext.json_lines`).
    """

    def __init__(self, encoder: IEncoder, context: HandlerContext, *, needs_events: bool = False) -> None:
        from_frames: Callable[[Sequence[Any]], bytes] | None = None
        if not (needs_events or context.needs_events):
            if encoder.wants == "frames":
                from_frames = partial(_lines_of_frames, encoder)
            elif type(encoder) is JsonEncoder:
                from_frames = context.json_lines
        self.wants: Wants = "events" if from_frames is None else "frames"
        self.wants_raw: bool = from_frames is None and encoder.wants_raw
        #: See `IHandler`.
        self.only_encodes = type(encoder) is JsonEncoder and not needs_events
        from_events: Callable[[Sequence[Any]], bytes] = encoder.encode_lines
        if encoder.wants == "frames":
            from_events = partial(_lines_of_their_frames, encoder)
        #: The lines of events, or of batches.
        self.lines: Callable[[Sequence[Any]], bytes] = from_frames or from_events


def _lines_of_frames(encoder: IEncoder, batches: Sequence[Batch]) -> bytes:
    return ended(encoder.encode_frames(batches))


def _lines_of_their_frames(encoder: IEncoder, events: Sequence[Event]) -> bytes:
    return encoder.encode_lines(one_a_frame(events))
