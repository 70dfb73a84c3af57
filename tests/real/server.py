"""The real server for tests: `twistd -n eventserver` in a process, its events, its log and its counters."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.realprograms import DEADLINE, TERMINATED, Program, beside_python

#: The last start-up line that is sure to come: the server listens and every handler has started.
READY = r"frames are kept in "
#: What a clean run never logs.
TROUBLE = re.compile(r"^\S+ (error|fatal) |Traceback|Unhandled|never awaited|ResourceWarning")
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')

ADMIN = '\n[admin]\nendpoint = "tcp:0:interface=127.0.0.1"\n'


class Metrics:
    """One answer of `/metrics`."""

    def __init__(self, text: str) -> None:
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        for line in text.splitlines():
            if found := _SAMPLE.match(line):
                self._samples[found[1]].append((dict(_LABEL.findall(found[2] or "")), float(found[3])))

    def total(self, name: str, **labels: str) -> int:
        """The sum of a metric (named without `eventserver_`) over all samples that have these labels."""
        samples = self._samples[f"eventserver_{name}"]
        return int(sum(value for found, value in samples if labels.items() <= found.items()))

    def names(self, metric: str, label: str) -> set[str]:
        """The values of a label."""
        return {found[label] for found, _ in self._samples[f"eventserver_{metric}"]}

    def problems(self, gets: Mapping[str, Sequence[str]]) -> list[str]:
        """Which sums of the counters do not hold, at rest. `gets`: by handler, the listeners it is narrowed to."""
        wrong = []
        for name in self.names("frames_received_total", "listener"):
            received, journaled, rejected = (
                self.total(f"frames_{what}_total", listener=name) for what in ("received", "journaled", "rejected")
            )
            if received != journaled + rejected:
                wrong.append(f"listener {name}: {received} received, {journaled} journaled, {rejected} rejected")
        journaled = self.total("frames_journaled_total")
        for name in self.names("frames_passed_total", "handler"):
            passed, expired, lag = (
                self.total(what, handler=name)
                for what in ("frames_passed_total", "frames_expired_total", "handler_lag_frames")
            )
            before = self.total("frames_pending_at_start", handler=name)
            if lag or passed + expired != before + journaled:
                wrong.append(
                    f"handler {name}: {journaled} journaled, {passed} passed, {expired} expired, {lag} pending"
                )
            decoded, *settled = (
                self.total(f"events_{what}", handler=name)
                for what in ("decoded_total", "delivered_total", "filtered_total", "dead_lettered_total", "parked")
            )
            # Dead letters that somebody had tried again among them.
            if decoded + self.total("events_parked_at_start", handler=name) != sum(settled):
                wrong.append(f"handler {name}: {decoded} decoded; delivered, filtered, dead, parked: {settled}")
            wanted = sum(self.total("frames_journaled_total", listener=each) for each in gets.get(name, ()))
            if name in gets and decoded < wanted - expired:
                wrong.append(f"handler {name}: {decoded} decoded of {wanted} frames of its listeners")
        return wrong


class Server(Program):
    """`twistd -n eventserver` with settings of the test, in a folder; ready when this returns.

    Console events are the lines of its standard output. Leaving the `with` block kills it; `finish` is the gentle end.
    """

    def __init__(
        self, folder: Path, settings: str, *, before: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "settings.toml").write_text(settings + ADMIN)
        command = [beside_python("twistd"), "-n", "eventserver", "-c", "settings.toml"]
        super().__init__([*before, *command], cwd=folder, env=env)
        self.folder = folder
        self._taken = 0
        if not before:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Waits for the last start-up line; kills the server and fails the test if it does not come."""
        try:
            self.wait_for(READY)
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def address(self, listener: str, scheme: str) -> str:
        """Where a listener listens, from the start-up lines: `"127.0.0.1:34321"`, or a path."""
        return self.wait_for(rf"listener\.{re.escape(listener)}: listening on {scheme} (\S+)")[1]

    def port(self, listener: str, scheme: str = "tcp") -> int:
        """The port of a listener."""
        return int(self.address(listener, scheme).rpartition(":")[2])

    def place(self, listener: str, scheme: str) -> Any:
        """Where a listener listens, as Python's sockets want it: host and port, or an absolute path."""
        if scheme.startswith("unix"):
            return str(self.folder / self.address(listener, scheme))
        host, _, port = self.address(listener, scheme).rpartition(":")
        return host.strip("[]"), int(port)

    def lines(self, number: int = 1, *, timeout: float = DEADLINE) -> list[str]:
        """The next lines of standard output, once that many more have come; fails the test at the deadline."""
        deadline = time.monotonic() + timeout
        wanted = self._taken + number
        with self._news:
            while len(self.stdout) < wanted:
                left = deadline - time.monotonic()
                if left <= 0 or not self._readers[0].is_alive():
                    break
                self._news.wait(min(left, 1.0))
            taken = self.stdout[self._taken : wanted]
        self._taken += len(taken)
        if len(taken) < number:
            pytest.fail(f"{len(taken)} lines of {number} came\n{self.output()}", pytrace=False)
        return taken

    def events(self, number: int = 1) -> list[dict[str, Any]]:
        """The next events of the console."""
        return [json.loads(line) for line in self.lines(number)]

    def event(self) -> dict[str, Any]:
        """The next event of the console."""
        return self.events()[0]

    def lines_left(self) -> list[str]:
        """The lines of standard output that were not taken, once the server has ended."""
        taken = self.stdout[self._taken :]
        self._taken += len(taken)
        return taken

    def no_more(self) -> bool:
        """Whether standard output has no line that the test did not take."""
        return len(self.stdout) == self._taken

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a page of the admin endpoint."""
        port = int(self.wait_for(r"admin: http://127\.0\.0\.1:(\d+)")[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError as error:
            pytest.fail(f"{path}: {error}\n{self.output()}", pytrace=False)
        finally:
            connection.close()

    def metrics(self) -> Metrics:
        """The counters now."""
        return Metrics(self.get("/metrics")[1])

    def metrics_when(self, name: str, at_least: int, **labels: str) -> Metrics:
        """The counters once one of them has come so far; asking is the waiting."""
        deadline = time.monotonic() + DEADLINE
        while True:
            metrics = self.metrics()
            if metrics.total(name, **labels) >= at_least:
                return metrics
            if time.monotonic() > deadline:
                pytest.fail(f"{name} did not come to {at_least}\n{self.output()}", pytrace=False)

    def balanced(self, **gets: Sequence[str]) -> Metrics:
        """The counters at rest; fails the test if their sums do not hold then.

        Keyword arguments name handlers that are narrowed to some listeners.
        """
        deadline = time.monotonic() + DEADLINE
        while problems := (metrics := self.metrics()).problems(gets):
            if time.monotonic() > deadline:
                pytest.fail("\n".join([*problems, self.output()]), pytrace=False)
        return metrics

    def finish(self, *, allowed: str = "", farewell: bool = False, **gets: Sequence[str]) -> Metrics:
        """The end of a test: the sums hold, SIGTERM ends the server, and its log has no trouble.

        `allowed` is a pattern of log lines that are expected in this test. With `farewell` there may be events that
        the test did not take: what a client says of itself when it ends.
        """
        metrics = self.balanced(**gets)
        assert self.stop() == TERMINATED, self.output()
        assert self.trouble(allowed) == [], self.output()
        assert farewell or self.no_more(), self.output()
        return metrics

    def trouble(self, allowed: str = "") -> list[str]:
        """Lines of the log that no clean run has."""
        lines = [line for line in self.stderr if TROUBLE.search(line)]
        return [line for line in lines if not (allowed and re.search(allowed, line))]
