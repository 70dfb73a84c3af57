"""`eventserver send` to servers that are not ours: they understand it as it understands them."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.real.carbon import Relay
from tests.real.conftest import StartServer
from tests.real.rsyslog import Rsyslogd, need_module
from tests.realprograms import DEADLINE, beside_python, free_port

pytestmark = pytest.mark.real

COUNT = 500


def send(*words: str) -> dict[str, Any]:
    done = subprocess.run(
        [beside_python("eventserver"), "send", *words, "--json"], capture_output=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


RSYSLOG = """
module(load="imrelp") input(type="imrelp" port="{relp}" maxDataSize="64k")
module(load="imptcp") input(type="imptcp" port="{tcp}" address="127.0.0.1")
template(name="t" type="string" string="got|%syslogseverity-text%|%app-name%|%msg%\\n")
action(type="omfile" file="/dev/stdout" template="t")
"""


def test_rsyslog_takes_relp_and_both_framings(real_program: Callable[[str], str], tmp_path: Path) -> None:
    """librelp's server, which is stricter about numbers and offers than ours."""
    program = real_program("rsyslogd")
    need_module("imrelp")
    relp, tcp = free_port(), free_port()
    with Rsyslogd(program, tmp_path / "rsyslog", RSYSLOG.format(relp=relp, tcp=tcp)) as rsyslogd:
        rsyslogd.wait_for(r"got\|.*start")
        report = send("--to", f"relp:localhost:{relp}", "--count", str(COUNT), "--window", "50", "--severity", "err")
        assert (report["acknowledged"], report["lost"], report["problems"]) == (COUNT, 0, {})
        for framing in ("lines", "octet"):
            to = f"tcp:localhost:{tcp}"
            report = send("--to", to, "--count", str(COUNT), "--format", "syslog", "--framing", framing)
            assert (report["sent"], report["cut"]) == (COUNT, 0)
            # The last message of each way has a name of its own.
            send("--to", to, "--format", "syslog", "--framing", framing, "--app-name", f"end-of-{framing}", "bye")
            rsyslogd.wait_for(rf"got\|info\|end-of-{framing}\|bye")
        for severity, times in (("err", 1), ("info", 2)):
            # Other threads of rsyslogd's may be behind the one that has taken the last message.
            found = rsyslogd.lines_like(rf"^got\|{severity}\|eventserver-send\|message ", COUNT * times)
            assert len(found) == COUNT * times
            assert len(set(found)) == COUNT


RELAY = """
[relay]
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = {plain}
PICKLE_RECEIVER_INTERFACE = 127.0.0.1
PICKLE_RECEIVER_PORT = {pickle}
RELAY_METHOD = consistent-hashing
DESTINATIONS = 127.0.0.1:{to}:a
DESTINATION_PROTOCOL = line
CARBON_METRIC_INTERVAL = 0
"""
GRAPHITE = """
[listener.plain]
endpoints = ["tcp:0:interface=127.0.0.1"]
decoder = "graphite"
[handler.console]
type = "console"
"""


def test_carbon_takes_lines_and_pickles(start: StartServer, tmp_path: Path) -> None:
    """Carbon's relay unpickles with its own unpickler, and hands on to us what it has understood."""
    server = start(GRAPHITE)
    ports = {"plain": free_port(), "pickle": free_port()}
    with Relay(tmp_path / "relay", RELAY.format(to=server.port("plain"), **ports)) as relay:
        relay.wait_for("Destination is up")
        for to in (f"graphite:localhost:{ports['plain']}", f"graphite+pickle:localhost:{ports['pickle']}"):
            assert send("--to", to, "--count", "100")["sent"] == 100
            assert [event["fields"]["value"] for event in server.events(100)] == list(range(100))


class Requests(http.server.BaseHTTPRequestHandler):
    """HTTP/1.0, as Python's server has it: a connection for each request, and no length of the answer."""

    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        # The third one is to come again.
        self.send_response(503 if len(self.bodies) == 3 else 200)
        self.end_headers()
        self.wfile.write(b"thanks")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""


def test_a_web_server_of_the_old_kind() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Requests) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        report = send("--to", f"http://127.0.0.1:{server.server_port}/x", "--count", "100", "--batch", "10")
        server.shutdown()
    assert (report["acknowledged"], report["lost"], report["resent"]) == (100, 0, 10)
    assert len(Requests.bodies) == 11
    assert Requests.bodies[2] == Requests.bodies[3], "the same again"
    numbers = [json.loads(line)["number"] for body in Requests.bodies for line in body.splitlines()]
    assert sorted(set(numbers)) == list(range(100))
