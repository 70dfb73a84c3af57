"""Batches that carry the decoder which their frames are for, where the settings leave that open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventserver.decoders._kinds import kind_of_all
from eventserver.event import Batch, PerFrame
from eventserver.interfaces import ListenerContext
from eventserver.listeners._ingest import Ingest, Marks


class FindingIngest(Ingest):
    """Writes into each batch the decoder that its frames are for; `auto` where they are for several."""

    def __init__(self, context: ListenerContext) -> None:
        super().__init__(context)
        self._mixed = context.decoder

    def batch(
        self,
        frames: Sequence[bytes],
        peers: PerFrame,
        context: dict[str, Any],
        connection: int | list[int],
        marks: Marks,
    ) -> Batch:
        """A batch of frames that were read just now."""
        self._decoder = kind_of_all(frames) or self._mixed
        return super().batch(frames, peers, context, connection, marks)


def make_ingest(context: ListenerContext) -> Ingest:
    """What a listener does with its frames, by the decoder that its settings name."""
    return FindingIngest(context) if context.decoder == "auto" else Ingest(context)
