"""Real lines and what they become: `README.md` beside this file says how to add some."""

from __future__ import annotations

import datetime as dt
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from eventserver import options
from eventserver.event import Batch, Event
from eventserver.registry import Registry

FOLDER = Path(__file__).parent
#: When all that is in the corpus was received.
RECEIVED = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
#: What an event has besides its content: the same for all, or told by `frame`.
_LEFT_OUT = ("id", "received", "listener", "peer", "context")


@dataclass(frozen=True)
class Case:
    """One file of lines, `FOLDER/DECODER/NAME.txt` or `.hex`, and what is beside it."""

    decoder: str
    name: str

    def __str__(self) -> str:
        return f"{self.decoder}/{self.name}"

    def path(self, suffix: str) -> Path:
        """The file with that suffix, which need not be there."""
        return FOLDER / self.decoder / f"{self.name}{suffix}"

    def frames(self) -> list[bytes]:
        """The frames, in order: the lines of `.txt` without their LF, or those of `.hex`, decoded."""
        if self.path(".hex").exists():
            lines = self.path(".hex").read_text("utf-8").splitlines()
            return [bytes.fromhex(line) for line in lines if not line.startswith("#")]
        return self.path(".txt").read_bytes().removesuffix(b"\n").split(b"\n")

    def make_decoder(self) -> Any:
        """A new decoder, with the options of `.toml` if there is one."""
        component = Registry.from_entry_points().get("decoders", self.decoder)
        table = tomllib.loads(self.path(".toml").read_text("utf-8")) if self.path(".toml").exists() else {}
        made, problems = options.parse(component.Options, table)
        assert made is not None, f"{self.path('.toml')}: {problems}"
        return component(made)

    def batch(self) -> Batch:
        """All the frames, from one peer."""
        return Batch(
            id="01KDYD1DW80000000000000000",
            listener="corpus",
            decoder=self.decoder,
            received=RECEIVED,
            peers=["192.0.2.7:51123"],
            frames=self.frames(),
        )

    def expected(self) -> list[dict[str, Any]]:
        """The events in `.jsonl`."""
        # Not `splitlines`: JSON may hold U+2028 and others of its ends of lines as they are.
        lines = self.path(".jsonl").read_text("utf-8").split("\n")
        return [json.loads(line) for line in lines if line.strip()]


def cases(decoder: str | None = None) -> Iterator[Case]:
    """All cases, or those of one decoder, sorted."""
    for path in sorted(FOLDER.glob(f"{decoder or '*'}/*")):
        if path.suffix in (".txt", ".hex"):
            yield Case(path.parent.name, path.stem)


def line_of(event: Event) -> dict[str, Any]:
    """An event as the corpus writes it: `frame` first, `time` only where it is not that of receipt."""
    form: dict[str, Any] = json.loads(msgspec.json.encode(event))
    number = form["id"].rpartition("-")[2].partition(".")[0]
    if event.time == RECEIVED:
        del form["time"]
    return {"frame": int(number), **{key: value for key, value in form.items() if key not in _LEFT_OUT}}
