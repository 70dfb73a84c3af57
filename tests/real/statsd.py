"""The original statsd, on Node, and what its tests need besides: a place that takes Graphite's lines."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real.carbon import programs
from tests.realprograms import DEADLINE, Program, find, free_port, required


def node_statsd() -> Path:
    """The folder of the package statsd; without it the test is skipped, or fails where real programs are required."""
    folder = programs() / "node_modules" / "statsd"
    if (folder / "stats.js").is_file():
        return folder
    if required():
        pytest.fail(f"{folder} has no statsd, and EVENTSERVER_REQUIRE_REAL is set", pytrace=False)
    pytest.skip(f"{folder} has no statsd")


class Statsd(Program):
    """The original, on a UDP port, flushing each second to a sink."""

    def __init__(self, folder: Path, name: str, sink: Sink, graphite: dict[str, object]) -> None:
        package = node_statsd()
        self.version: str = json.loads((package / "package.json").read_text())["version"]
        self.port = free_port(socket.SOCK_DGRAM)
        config = {
            "address": "127.0.0.1", "port": self.port, "mgmt_address": "127.0.0.1", "mgmt_port": free_port(),
            "graphiteHost": "127.0.0.1", "graphitePort": sink.port, "flushInterval": 1000, "graphite": graphite,
            "percentThreshold": [50, 90, 99.9, -10],
        }  # fmt: skip
        (folder / name).write_text(json.dumps(config))
        super().__init__([find("node"), str(package / "stats.js"), name], cwd=folder)
        self.wait_for("server is up")


class Sink:
    """Takes Graphite's plaintext over TCP, and knows which lines came with one time stamp."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.lines: list[str] = []
        self._news = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listening.close()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds for what has come."""
        with self._news:
            if not self._news.wait_for(condition, DEADLINE):
                pytest.fail("it did not come:\n" + "\n".join(self.lines[-50:]), pytrace=False)

    def flushes(self) -> Iterator[dict[str, float]]:
        """The figures of each flush by name, in order: a flush ends with `numStats`, after which others may come."""
        flush: dict[str, float] = {}
        for line in list(self.lines):
            name, value, _ = line.split(" ")
            flush[name] = float(value)
            if "numStats" in name:
                yield flush
                flush = {}

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        with connection, connection.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
