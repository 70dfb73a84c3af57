"""`eventserver send`, in every protocol, against the real server: all that it sends arrives, and it says so."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import pytest_twisted

from eventserver.cli._send_options import add_options
from eventserver.cli._send_report import as_object
from eventserver.cli.send import prepare
from tests.listeners.certificates import Authority
from tests.real.conftest import StartServer
from tests.real.server import Server
from tests.real.terminal import Terminal
from tests.realprograms import DEADLINE, TERMINATED, Program, beside_python, free_port

SETTINGS = """
[listener.text]
endpoints = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1", "unix:text.sock", "unix-datagram:text.dgram",
             "tls:0:interface=127.0.0.1"]
tls = {{cert = "{cert}", key = "{key}"}}
[listener.nul]
endpoints = ["tcp:0:interface=127.0.0.1"]
framing = "nul"
[listener.syslog]
endpoints = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1", "tls:0:interface=127.0.0.1"]
tls = {{cert = "{cert}", key = "{key}", client_ca = "{ca}"}}
decoder = "syslog"
[listener.relp]
type = "relp"
endpoints = ["tcp:0:interface=127.0.0.1", "tls:0:interface=127.0.0.1"]
tls = {{cert = "{cert}", key = "{key}"}}
decoder = "syslog"
[listener.web]
type = "http"
endpoints = ["tcp:0:interface=127.0.0.1", "tls:0:interface=127.0.0.1"]
tls = {{cert = "{cert}", key = "{key}"}}
token = "{token}"
decoder = "json"
[listener.clouds]
type = "http"
endpoints = ["tcp:0:interface=127.0.0.1"]
decoder = "cloudevents"
[listener.fluent]
type = "fluent"
endpoints = ["tcp:0:interface=127.0.0.1", "unix:fluent.sock", "tls:0:interface=127.0.0.1"]
tls = {{cert = "{cert}", key = "{key}"}}
decoder = "fluent"
[listener.keyed]
type = "fluent"
endpoints = ["tcp:0:interface=127.0.0.1"]
decoder = "fluent"
shared_key = "{token}"
users = {{ann = "secret of ann"}}
[listener.beats]
type = "lumberjack"
endpoints = ["tcp:0:interface=127.0.0.1", "tls:0:interface=127.0.0.1"]
tls = {{cert = "{cert}", key = "{key}"}}
decoder = "json"
[listener.gelf]
endpoints = ["udp:0:interface=127.0.0.1"]
decoder = "gelf"
[listener.gelf_tcp]
endpoints = ["tcp:0:interface=127.0.0.1", "tls:0:interface=127.0.0.1"]
tls = {{cert = "{cert}", key = "{key}"}}
framing = "nul"
decoder = "gelf"
[listener.gelf_web]
type = "http"
endpoints = ["tcp:0:interface=127.0.0.1"]
decoder = "gelf"
[listener.statsd]
endpoints = ["udp:0:interface=127.0.0.1", "tcp:0:interface=127.0.0.1", "unix-datagram:statsd.dgram"]
decoder = "statsd"
[listener.statsd_stream]
endpoints = ["unix:statsd.sock"]
framing = "length"
byte_order = "little"
decoder = "statsd"
[listener.graphite]
endpoints = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1"]
decoder = "graphite"
[listener.pickle]
endpoints = ["tcp:0:interface=127.0.0.1"]
framing = "length"
decoder = "graphite"
protocol = "pickle"
[listener.any]
type = "auto"
endpoints = ["tcp:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1"]
[handler.console]
type = "console"
[journal]
path = "journal"
"""
TOKEN = "0123456789abcdef" * 2


PARSER = argparse.ArgumentParser()
add_options(PARSER)


def reactor() -> Any:
    from twisted.internet import reactor

    return reactor


class World:
    """One server with a listener for each protocol, and the command."""

    def __init__(self, server: Server, authority: Authority) -> None:
        self.server = server
        self.ca = authority.ca
        self.certificate = authority.issue("sender")

    def target(self, text: str) -> str:
        """`relp:localhost:relp/tcp`, with the port of the listener for the last part; the same for paths."""
        match = re.fullmatch(r"(.*?)(\w+)/(tcp|tls|udp|unix|unix-datagram)(/.*)?", text)
        assert match is not None
        place = self.server.place(match[2], match[3])
        return f"{match[1]}{place if isinstance(place, str) else place[1]}{match[4] or ''}"

    async def send(self, to: str, *words: str, data: bytes = b"", code: int = 0) -> dict[str, Any]:
        """With the command's own process where it matters how that ends, else on this reactor, which is quicker."""
        argv = ["--to", self.target(to), *words, "--json"]
        if not (data or code):
            prepared = prepare(PARSER.parse_args(argv), reactor())
            await prepared.run.start(prepared.links)
            assert not prepared.run.failure
            return as_object(prepared.run.load.statistics)
        said = send(*argv, data=data, code=code)
        found: dict[str, Any] = json.loads(said.splitlines()[0])
        return found


def send(*words: str, data: bytes = b"", code: int = 0) -> str:
    done = subprocess.run(
        [beside_python("eventserver"), "send", *words], input=data, capture_output=True, timeout=DEADLINE, check=False
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, (words, out, err)
    assert "Traceback" not in err, err
    return out + err


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[World]:
    cert, key = authority.server()
    settings = SETTINGS.format(cert=cert, key=key, ca=authority.ca, token=TOKEN)
    with Server(tmp_path_factory.mktemp("send"), settings) as server:
        yield World(server, authority)
        server.finish()


#: Where to, and what is said besides: in each case all events arrive, with the texts that were made up.
TEXTS: list[tuple[str, Sequence[str]]] = [
    ("tcp:localhost:text/tcp", ()),
    ("tcp:127.0.0.1:nul/tcp", ("--framing", "nul")),
    ("unix:text/unix", ()),
    ("unix-datagram:text/unix-datagram", ()),
    ("tls:localhost:text/tls", ("TLS",)),
    ("tcp:localhost:syslog/tcp", ("--format", "syslog")),
    ("tcp:localhost:syslog/tcp", ("--format", "rfc3164", "--framing", "octet")),
    ("tls:localhost:syslog/tls", ("TLS", "CLIENT", "--format", "syslog")),
    ("relp:localhost:relp/tcp", ()),
    ("relp:localhost:relp/tcp", ("--connections", "3", "--window", "7")),
    ("relp+tls:localhost:relp/tls", ("TLS",)),
    ("http://localhost:web/tcp/any?x=1", ("--token", TOKEN)),
    ("https://localhost:web/tls/", ("TLS", "--header", f"Authorization: Bearer {TOKEN}", "--compress", "gzip")),
    ("http://localhost:clouds/tcp", ("--format", "cloudevents")),
    ("fluent:localhost:fluent/tcp", ()),
    ("fluent:localhost:fluent/tcp", ("--compress", "gzip", "--batch", "20")),
    ("fluent:localhost:fluent/tcp", ("--compress", "zstd")),
    ("fluent:localhost:fluent/tcp", ("--mode", "forward")),
    ("fluent:localhost:fluent/tcp", ("--mode", "message")),
    ("fluent+unix:fluent/unix", ()),
    ("fluent+tls:localhost:fluent/tls", ("TLS", "--tag", "a.b")),
    ("fluent:localhost:keyed/tcp", ("--shared-key", TOKEN, "--user", "ann", "--password", "secret of ann")),
    ("lumberjack:localhost:beats/tcp", ()),
    ("lumberjack:localhost:beats/tcp", ("--compress", "zlib", "--batch", "30")),
    ("lumberjack1:localhost:beats/tcp", ()),
    ("lumberjack+tls:localhost:beats/tls", ("TLS",)),
    ("gelf+tcp:localhost:gelf_tcp/tcp", ()),
    ("gelf+tls:localhost:gelf_tcp/tls", ("TLS",)),
    ("gelf+http://localhost:gelf_web/tcp", ()),
]
ACKNOWLEDGED = re.compile(r"relp|http|fluent|lumberjack|gelf\+http")


@pytest.mark.parametrize(
    ("to", "words"), TEXTS, ids=lambda value: " ".join([value] if isinstance(value, str) else value)
)
@pytest_twisted.ensureDeferred
async def test_all_that_is_sent_arrives_in_order_and_is_counted(world: World, to: str, words: Sequence[str]) -> None:
    count = 100
    replaced = {"TLS": ("--ca", world.ca), "CLIENT": ("--cert", world.certificate[0], "--key", world.certificate[1])}
    options = [one for word in words for one in replaced.get(word, (word,))]
    report = await world.send(to, "--count", str(count), *options)
    events = world.server.events(count)
    texts = [event["message"] for event in events]
    expected = [f"message {number}" for number in range(count)]
    assert (sorted(texts) if "--connections" in words else texts) == (
        sorted(expected) if "--connections" in words else expected
    )
    assert {event["type"] for event in events}.isdisjoint({"undecodable"})
    assert (report["sent"], report["lost"], report["resent"]) == (count, 0, 0)
    assert report["acknowledged"] == (count if ACKNOWLEDGED.match(to) else None)
    assert report["problems"] == {}
    assert (report["latency"] is not None) == bool(ACKNOWLEDGED.match(to))


@pytest.mark.parametrize(("to", "protocol", "words"), [
    ("tcp:localhost:any/tcp", "lines", ()),
    ("tcp:localhost:any/tcp", "json", ("--format", "json")),
    ("tcp:localhost:any/tcp", "syslog", ("--format", "syslog", "--framing", "octet")),
    ("relp:localhost:any/tcp", "relp", ()),
    ("http://localhost:any/tcp", "http", ()),
    ("fluent:localhost:any/tcp", "fluent", ()),
    ("lumberjack:localhost:any/tcp", "lumberjack", ()),
    ("gelf+tcp:localhost:any/tcp", "gelf", ()),
    ("gelf+http://localhost:any/tcp", "http", ()),
    ("gelf:127.0.0.1:any/udp", None, ("--rate", "400", "--size", "2000")),
])  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_all_on_one_port(world: World, to: str, protocol: str | None, words: Sequence[str]) -> None:
    """What the listener `auto` finds out is what was spoken."""
    report = await world.send(to, "--count", "20", *words)
    assert (report["sent"], report["lost"]) == (20, 0)
    events = world.server.events(20)
    assert [event["message"][:10].strip() for event in events] == [f"message {number}" for number in range(20)]
    assert {event.get("context", {}).get("protocol") for event in events} == {protocol}
    assert {event["type"] for event in events}.isdisjoint({"undecodable"})


@pytest.mark.parametrize(("to", "words", "size"), [
    ("udp:127.0.0.1:text/udp", (), 0),
    ("udp:127.0.0.1:syslog/udp", ("--format", "rfc3164"), 0),
    ("gelf:127.0.0.1:gelf/udp", (), 0),
    ("gelf:127.0.0.1:gelf/udp", ("--compress", "gzip"), 0),
    ("gelf:127.0.0.1:gelf/udp", (), 5000),
    ("gelf:127.0.0.1:gelf/udp", ("--compress", "zlib", "--chunk-size", "64"), 3000),
])  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_datagrams_arrive_where_they_are_sent_slowly_enough(
    world: World, to: str, words: Sequence[str], size: int
) -> None:
    report = await world.send(to, "--count", "40", "--rate", "400", "--size", str(size), *words)
    messages = [event["message"] for event in world.server.events(40)]
    assert [re.match(r"message (\d+)", message)[1] for message in messages] == [str(n) for n in range(40)]  # type: ignore[index]
    assert all(len(message) >= size for message in messages)
    assert (report["sent"], report["acknowledged"], report["lost"]) == (40, None, 0)


@pytest.mark.parametrize(("to", "words"), [
    ("statsd:127.0.0.1:statsd/udp", ("--join", "1432")),
    ("statsd+tcp:localhost:statsd/tcp", ()),
    ("statsd+unix-datagram:statsd/unix-datagram", ()),
    ("statsd+unix:statsd_stream/unix", ()),
])  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_statsd(world: World, to: str, words: Sequence[str]) -> None:
    await world.send(to, "--count", "40", *words)
    fields = [event["fields"] for event in world.server.events(40)]
    kinds = [one["metric_type"] for one in fields]
    assert kinds == ["counter", "timer", "gauge", "set"] * 10


@pytest.mark.parametrize("to", [
    "graphite:localhost:graphite/tcp", "graphite+udp:127.0.0.1:graphite/udp", "graphite+pickle:localhost:pickle/tcp",
])  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_graphite(world: World, to: str) -> None:
    await world.send(to, "--count", "40")
    fields = [event["fields"] for event in world.server.events(40)]
    assert [one["value"] for one in fields] == list(range(40))
    assert fields[7]["name"] == "eventserver.send.value7"
    lines = b"a.b 1.5 1700000000\nno metric\na.c;dc=x 2 1700000001\n"
    pickled = "pickle" in to
    report = await world.send(to, data=lines, code=1 if pickled else 0)
    events = world.server.events(2 if pickled else 3)
    good = [event["fields"] for event in events if event["type"] != "undecodable"]
    assert [(one["name"], one["value"]) for one in good] == [("a.b", 1.5), ("a.c", 2)]
    assert report["refused"] == int(pickled), "what is no metric has no place in a pickle"


@pytest_twisted.ensureDeferred
async def test_the_lines_of_standard_input_are_events(world: World) -> None:
    data = b'one\n\n{"message": "two", "number": 7}\nthree is the last, without a line feed'
    report = await world.send("relp:localhost:relp/tcp", data=data)
    assert report["acknowledged"] == 3
    events = world.server.events(3)
    assert [event["message"] for event in events] == [
        "one",
        '{"message": "two", "number": 7}',
        data.split(b"\n")[-1].decode(),
    ]
    await world.send("fluent:localhost:fluent/tcp", data=data)
    assert [(e["message"], e["fields"].get("number")) for e in world.server.events(3)][1] == ("two", 7)
    await world.send("statsd:127.0.0.1:statsd/udp", data=b"hits:3|c|#page:home\n")
    assert world.server.event()["fields"]["tags"] == {"page": "home"}


def test_a_message_is_sent_as_it_is_and_with_a_severity(world: World) -> None:
    out = send("--to", world.target("relp:localhost:relp/tcp"), "--severity", "crit", "--app-name", "door",
               "--hostname", "gate", "it", "is", "open")  # fmt: skip
    fields = world.server.events(1)[0]
    assert fields["message"] == "it is open"
    assert (fields["fields"]["severity"], fields["fields"]["app_name"], fields["fields"]["hostname"]) == (
        "crit", "door", "gate",
    )  # fmt: skip
    assert re.match(r"sent +1\nacknowledged +1\nlost +0\ntime .*\nlatency +50% [\d.]+ m?s, .* max [\d.]+ m?s\n$", out)


@pytest_twisted.ensureDeferred
async def test_a_rate_is_kept(world: World) -> None:
    report = await world.send("relp:localhost:relp/tcp", "--rate", "200", "--duration", "500 ms")
    assert 40 <= report["acknowledged"] <= 120
    assert report["lost"] == 0
    assert report["seconds"] >= 0.45
    world.server.lines(report["acknowledged"])


@pytest_twisted.ensureDeferred
async def test_who_may_not_send_is_told_and_nothing_arrives(world: World) -> None:
    for to, words in (
        ("http://localhost:web/tcp", ("--token", "a wrong one")),
        ("fluent:localhost:keyed/tcp", ("--shared-key", "a wrong one")),
        ("fluent:localhost:keyed/tcp", ("--shared-key", TOKEN, "--user", "ann", "--password", "wrong")),
    ):
        report = await world.send(to, "--count", "3", *words, code=1)
        assert (report["acknowledged"], report["lost"]) == (0, report["taken"])
    said = send("--to", world.target("tls:localhost:text/tls"), "hello", code=1)
    assert "certificate" in said
    assert world.server.no_more()


def test_a_protocol_that_the_server_does_not_speak_is_named(world: World) -> None:
    for to, at in (("relp", "web/tcp"), ("http", "relp/tcp"), ("lumberjack", "relp/tcp"), ("fluent", "relp/tcp")):
        slashes = "//" if to == "http" else ""
        said = send("--to", world.target(f"{to}:{slashes}localhost:{at}"), "hello", code=1)
        assert "does not speak this protocol" in said or "does it speak this protocol?" in said, (to, said)


def test_nobody_there_is_an_error_at_once() -> None:
    port = free_port()
    assert "cannot connect" in send("--to", f"relp:127.0.0.1:{port}", "hello", code=1)
    assert "nobody listens there" in send("--to", f"udp:127.0.0.1:{free_port(socket.SOCK_DGRAM)}", "hello", code=1)
    assert "cannot send there" in send("--to", "unix-datagram:/nowhere", "hello", code=1)


RESTARTED = """
[listener.relp]
type = "relp"
endpoints = ["tcp:{relp}:interface=127.0.0.1"]
[listener.web]
type = "http"
endpoints = ["tcp:{web}:interface=127.0.0.1"]
[listener.fluent]
type = "fluent"
endpoints = ["tcp:{fluent}:interface=127.0.0.1"]
decoder = "fluent"
[listener.beats]
type = "lumberjack"
endpoints = ["tcp:{beats}:interface=127.0.0.1"]
decoder = "json"
[handler.file]
type = "file"
path = "events.jsonl"
[journal]
path = "journal"
"""


def test_nothing_is_lost_when_the_server_is_killed_and_comes_back(start: StartServer) -> None:
    """In every protocol with acknowledgements at once; those with names for what they send leave no copies."""
    ports = {name: free_port() for name in ("relp", "web", "fluent", "beats")}
    settings = RESTARTED.format(**ports)
    server = start(settings)
    targets = {
        "relp": f"relp:localhost:{ports['relp']}",
        "web": f"http://localhost:{ports['web']}/",
        "fluent": f"fluent:localhost:{ports['fluent']}",
        "beats": f"lumberjack:localhost:{ports['beats']}",
    }
    # Each of them sends for seconds, so that none has ended before the last one has begun.
    words = ("--count", "2000", "--rate", "500", "--json", "--format")
    formats = {"relp": "text", "web": "text", "fluent": "json", "beats": "json"}
    senders = {
        name: Program([beside_python("eventserver"), "send", "--to", to, *words, formats[name]])
        for name, to in targets.items()
    }
    for _ in range(2):
        for name in targets:
            server.metrics_when("frames_acknowledged_total", 100, listener=name)
        server.__exit__(None, None, None)
        server = start(settings)
    reports = {name: json.loads("".join(_output(sender))) for name, sender in senders.items()}
    server.metrics_when("handler_lag_frames", 0)
    assert server.stop() == TERMINATED
    arrived: dict[str, dict[str, str]] = {name: {} for name in targets}
    for line in (server.folder / "events.jsonl").read_text().splitlines():
        if line.endswith("}"):
            event = json.loads(line)
            arrived[event["listener"]][event["id"]] = event["message"]
    expected = {f"message {number}" for number in range(2000)}
    for name, report in reports.items():
        assert (report["acknowledged"], report["lost"]) == (2000, 0), report
        assert set(arrived[name].values()) == expected, name
        assert name in ("relp", "beats") or len(arrived[name]) == 2000, f"{name}: what came again was known by its name"
        assert report["connections"] >= 2


def _output(program: Program) -> list[str]:
    with program:
        assert program.wait() == 0, program.output()
    return program.stdout


def test_on_a_terminal_there_is_a_bar_and_ctrl_c_ends_it_with_a_report(world: World) -> None:
    command = [beside_python("eventserver"), "send", "--to", world.target("relp:localhost:relp/tcp")]
    before = world.server.balanced().total("frames_journaled_total", listener="relp")
    terminal = Terminal([*command, "--count", "100000", "--rate", "50"])
    try:
        terminal.wait_for(r"\[#*\.+\] +\d+% \d+/100000  \d+/s  \d+ unacknowledged  50% [\d.]+ m?s")
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for(r"sent +\d+\r\nacknowledged +\d+\r\nlost +0\r\n")
        assert terminal.process.wait(DEADLINE) == 130
    finally:
        terminal.close()
    after = world.server.balanced().total("frames_journaled_total", listener="relp")
    world.server.lines(after - before)


def test_lines_are_sent_as_they_come(world: World) -> None:
    """And not only when there are many of them, or when the input ends."""
    argv = [beside_python("eventserver"), "send", "--to", world.target("tcp:localhost:text/tcp"), "--quiet"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, env={**os.environ}) as sender:
        assert sender.stdin is not None
        for line in ("one", "two"):
            sender.stdin.write(f"{line}\n".encode())
            sender.stdin.flush()
            assert world.server.event()["message"] == line
        sender.stdin.close()
        assert sender.wait(DEADLINE) == 0
