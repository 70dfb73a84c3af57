"""The commands that ask a server, run against a server's middle: what they print, and how they end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eventserver.admin.control import Control
from eventserver.cli._control import Local, Target
from eventserver.cli.main import main
from tests.replaying.history import World


class Commands:
    """`run(*words)` runs `eventserver *words` against a world, and gives code, standard output and standard error."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = World(folder)
        self.live = True
        self._capsys = capsys

        @contextmanager
        def target(arguments: Any) -> Iterator[Target]:
            control = Control(self.world.journal, self.world.replays, now=self.world.now)
            yield Local(control, lambda: self.world.run(0.1), live=self.live)

        for command in ("deadletters", "replay", "journal"):
            monkeypatch.setattr(f"eventserver.cli.{command}.target", target)
        # Of that module alone: whatever thread sleeps besides must not move this clock.
        monkeypatch.setattr("eventserver.cli.replay.time", SimpleNamespace(sleep=self.world.run))

    def run(self, *words: str) -> tuple[int, str, str]:
        try:
            code = main(words)
        except SystemExit as error:
            code = int(error.code or 0)
        found = self._capsys.readouterr()
        return code, found.out, found.err

    def prints(self, *words: str) -> str:
        """What a command prints that ends well."""
        code, out, err = self.run(*words)
        assert (code, err) == (0, "")
        return out
