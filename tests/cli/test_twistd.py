"""The real command in a process of its own: exit codes, where output goes, what is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.realprograms import DEADLINE

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent


def comes_true(condition: Callable[[], object]) -> bool:
    """Waits until something holds; False at the deadline."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            return False
        os.sched_yield()
    return True


def catches(process: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal (proc(5))."""
    found = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    assert found is not None
    return bool(int(found[1], 16) >> (number - 1) & 1)


class Running:
    """A server in a folder; its log is read as it comes."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.log: list[str] = []
        self.process = subprocess.Popen(
            words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read the log up to a line that has the pattern."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError("".join(self.log))

    def output_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def stop(self) -> tuple[str, str]:
        """SIGTERM, and what is left of both outputs."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=DEADLINE)
        return out, "".join(self.log) + err


@pytest.fixture
def start(tmp_path: Path) -> Iterator[type[Running]]:
    started: list[Running] = []

    def start(*words: str) -> Running:
        started.append(Running(tmp_path, *words))
        return started[-1]

    yield start  # type: ignore[misc]  # called like the class, less the folder
    for running in started:
        running.process.kill()
        running.process.communicate()


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=DEADLINE, check=False)


@pytest.mark.parametrize("command", [(f"{BIN}/twistd", "-n", "eventserver"), (f"{BIN}/eventserver", "run")])
def test_wrong_settings_are_lines_on_standard_error_and_exit_code_1(tmp_path, command):
    done = run(tmp_path, *command, "--listen", "bogus", "--handler", "consol", "-c", "gone.toml")
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert lines[0] == "eventserver: gone.toml: cannot be read: No such file or directory"
    assert lines[1].startswith("eventserver: --listen bogus: endpoints: `bogus` begins with no scheme")
    assert lines[2].startswith("eventserver: --handler consol: type: no handler is called `consol`")


def test_a_wrong_option_is_one_line_and_exit_code_1(tmp_path):
    done = run(tmp_path, f"{BIN}/twistd", "-n", "eventserver", "--bogus")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "eventserver: option --bogus not recognized (see --help)\n"


def test_help_exits_with_0(tmp_path):
    done = run(tmp_path, f"{BIN}/twistd", "eventserver", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "EXAMPLES" in done.stdout


def test_check_exits_with_1(tmp_path):
    (tmp_path / "bad.toml").write_text("memry = 1\nx = 2\n")
    done = run(tmp_path, f"{BIN}/eventserver", "check", "bad.toml")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "bad.toml: memry: unknown key; did you mean `memory`?",
        "bad.toml: x: unknown key",
    ]


def test_a_port_in_use_is_named_without_traceback_and_exit_code_1(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listen = f"tcp:{port}:interface=127.0.0.1"
        done = run(tmp_path, f"{BIN}/twistd", "-n", "eventserver", "--listen", listen, "--handler", "null")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if " error " in line]
    assert str(port) in line
    assert "listener.tcp" in line


def test_a_daemon_that_cannot_start_has_one_line_in_its_log_and_no_traceback(tmp_path):
    reading, writing = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listen = f"tcp:{port}:interface=127.0.0.1"
        command = [f"{BIN}/twistd", "eventserver", "--listen", listen, "--handler", "null"]
        done = subprocess.run(command, cwd=tmp_path, pass_fds=[writing], capture_output=True, timeout=DEADLINE)
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"", "the daemon has the other end: now it is gone"
    assert done.returncode == 1
    log = (tmp_path / "twistd.log").read_text()
    assert "Traceback" not in log
    (line,) = [line for line in log.splitlines() if "error" in line]
    assert line.endswith(f"cannot listen on {listen}: Address already in use")


def test_a_server_that_fails_while_the_reactor_runs_ends_with_exit_code_1(tmp_path):
    """A handler may find out late that it cannot start; twistd itself would end with 0."""
    script = """
from eventserver import tap
tap.install_reactor()
from twisted.internet import reactor
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure
from eventserver.errors import SettingsError
from eventserver.logging import stderr_observer
globalLogBeginner.beginLoggingTo([stderr_observer()])
reactor.callLater(0, tap.give_up, Failure(SettingsError(["handler.a: no", "handler.b: nor here"])), reactor)
reactor.run()
"""
    done = run(tmp_path, sys.executable, "-c", script)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if " error " in line]
    assert [line.partition(" error ")[2] for line in lines] == [
        "eventserver: handler.a: no",
        "eventserver: handler.b: nor here",
    ]


def test_events_go_to_standard_output_and_everything_else_does_not(tmp_path, start):
    """What a handler prints becomes a line of the log; a pidfile is not left behind."""
    (tmp_path / "printing.py").write_text("def on_event(event):\n    print('seen ' + event.message)\n")
    server = start(
        f"{BIN}/twistd", "-n", "eventserver", "--listen", "tcp:0:interface=127.0.0.1", "--handler", "console",
        "--handler", "printing:on_event",
    )  # fmt: skip
    port = int(server.wait_for(r"127\.0\.0\.1:(\d+)")[1])
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(b"hello\n")
        event = json.loads(server.output_line())
        server.wait_for(r"seen hello")
        assert not list(tmp_path.glob("*.pid"))
    out, log = server.stop()
    assert (event["message"], event["listener"]) == ("hello", "tcp")
    assert out == ""
    assert "Traceback" not in log
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (info |warn ) ", line) for line in log.splitlines()), log


def test_the_reactor_is_asyncios_unless_another_is_asked_for(tmp_path, start):
    words = ["eventserver", "--listen", "tcp:0:interface=127.0.0.1", "--handler", "null"]
    for reactor, name in (([], "AsyncioSelectorReactor"), (["--reactor=epoll"], "EPollReactor")):
        server = start(f"{BIN}/twistd", "-n", *reactor, *words)
        server.wait_for(f"reactor class: .*{name}")
        server.wait_for(r"127\.0\.0\.1:\d+")
        server.stop()


def test_uvloop_can_be_asked_for(start):
    pytest.importorskip("uvloop", reason="an optional dependency")
    listen = ["--listen", "tcp:0:interface=127.0.0.1"]
    server = start(f"{BIN}/twistd", "-n", "--reactor=uvloop", "eventserver", *listen, "--handler", "null")
    server.wait_for(r"reactor class: .*AsyncioSelectorReactor")
    server.wait_for(r"127\.0\.0\.1:\d+")
    assert "uvloop" in Path(f"/proc/{server.process.pid}/maps").read_text()
    server.stop()


def test_a_log_file_that_is_asked_for_is_used(tmp_path, start):
    server = start(
        f"{BIN}/twistd", "-n", "--logfile=own.log", "--pidfile=own.pid", "eventserver",
        "--listen", "tcp:0:interface=127.0.0.1", "--handler", "console",
    )  # fmt: skip
    # Nothing says on standard error that it is ready: the console says so, once something arrives.
    own = tmp_path / "own.log"
    while not (own.exists() and (match := re.search(r"127\.0\.0\.1:(\d+)", own.read_text()))):
        assert server.process.poll() is None
    with socket.create_connection(("127.0.0.1", int(match[1]))) as peer:
        peer.sendall(b"hello\n")
        assert json.loads(server.output_line())["message"] == "hello"
    assert int((tmp_path / "own.pid").read_text()) == server.process.pid
    assert server.stop() == ("", "")


@pytest.mark.parametrize("taken", [False, True])
def test_a_daemon_says_how_it_started(tmp_path: Path, taken: bool) -> None:
    """The process that was started by hand ends at once, with 0 or 1; what is wrong is in the log."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1] if taken else 0
        words = ["--pidfile=own.pid", "--logfile=own.log", "eventserver", "--handler", "null"]
        started = subprocess.run(
            [f"{BIN}/twistd", *words, "--listen", f"tcp:{port}:interface=127.0.0.1"],
            cwd=tmp_path,
            timeout=DEADLINE,
            capture_output=True,
            text=True,
        )
    log = (tmp_path / "own.log").read_text()
    if taken:
        assert started.returncode == 1
        assert "listener.tcp" in log
        assert str(port) in log
        # The daemon has said how it started, and removes the file when it ends.
        assert comes_true(lambda: not (tmp_path / "own.pid").exists())
        return
    assert started.returncode == 0, started.stderr
    number = int((tmp_path / "own.pid").read_text())
    # Twisted says that it has started just before it looks after signals.
    assert comes_true(lambda: catches(number, signal.SIGTERM))
    os.kill(number, signal.SIGTERM)
    assert comes_true(lambda: not (tmp_path / "own.pid").exists())


SYSLOG = '[listener.syslog]\nendpoints = ["udp:0:interface=127.0.0.1"]\ndecoder = "syslog"\ntime_zone = "Asia/Tokyo"'
ADMIN = '[admin]\nendpoint = "tcp:0:interface=127.0.0.1"'
#: What only some servers need, and is not imported by those that do not: module, and a setting that needs it.
OPTIONAL = {
    "twisted.web": ADMIN,
    "prometheus_client": ADMIN,
    "eventserver.handlers.relay": '[handler.relay]\ntype = "relay"\nto = "tcp:127.0.0.1:9"',
    "eventserver.decoders.syslog": SYSLOG,
    "zoneinfo": SYSLOG,
    "re2": '[handler.re2]\ntype = "null"\nmatch = \'matches(message, "a")\'',
}
MODULES = """
import sys


def on_event(event):
    return " ".join(sorted(sys.modules))
"""


def loaded_modules(start, folder: Path, settings: str) -> set[str]:
    """What a server has imported that listens on TCP and calls a Python function."""
    (folder / "answers.py").write_text(MODULES)
    (folder / "c.toml").write_text(
        '[listener.text]\nendpoints = ["tcp:0:interface=127.0.0.1"]\n'
        f'[handler.answers]\ncall = "answers:on_event"\nreplies = true\nlisteners = ["text"]\n{settings}\n'
    )
    running = start(f"{BIN}/twistd", "-n", "eventserver", "-c", "c.toml")
    port = int(running.wait_for(r"listener\.text: listening on tcp 127\.0\.0\.1:(\d+)")[1])
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as peer:
        peer.sendall(b"what is loaded?\n")
        answer = peer.makefile().readline()
    running.stop()
    return set(answer.split())


def test_what_is_not_configured_is_not_imported(start, tmp_path):
    loaded = loaded_modules(start, tmp_path, "")
    assert "eventserver.handlers.python" in loaded
    assert not loaded & OPTIONAL.keys()


def test_what_is_configured_is_imported(start, tmp_path):
    """Else the test before could not fail."""
    settings = "\n".join(dict.fromkeys(OPTIONAL.values()))
    missing = OPTIONAL.keys() - loaded_modules(start, tmp_path, settings)
    assert missing <= {"re2"}, "re2 is an extra"


def test_a_second_sigterm_while_it_stops_is_quiet(start, tmp_path):
    """The reactor stops once; who is impatient sends SIGKILL."""
    (tmp_path / "slow_handlers.py").write_text(
        "import os\nfrom twisted.internet import reactor, task\n"
        "async def slow(event):\n    print('called', flush=True)\n"
        "    while not os.path.exists('go'):\n        await task.deferLater(reactor, 0.02)\n"
    )
    listen = "tcp:0:interface=127.0.0.1"
    server = start(f"{BIN}/twistd", "-n", "eventserver", "--listen", listen, "--handler", "slow_handlers:slow")
    port = int(server.wait_for(r"127\.0\.0\.1:(\d+)")[1])
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"hello\n")
        server.wait_for("called")
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("SIGTERM")
    server.process.send_signal(signal.SIGINT)
    (tmp_path / "go").touch()
    _, log = server.stop()
    assert "ReactorNotRunning" not in log
    assert "Traceback" not in log
    assert server.process.returncode == -signal.SIGTERM
