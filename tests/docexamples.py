"""The examples of a Markdown page, executed: what the README and the documentation show is what happens.

Every fenced block is dealt with by its language, in the order of the page, in one empty folder:

- `console`: lines after `$ ` are run by bash, and their output (both streams) has to be what is shown below them.
- `toml`: has to be good settings, or wrong ones below `<!-- wrong -->`.
- `pycon`: doctests, in one namespace for the page. `python`: a script that has to end well.
- `json`: has to be JSON. `text` and the rest: drawings and grammars, left alone.

A comment above a block changes that: `<!-- file: NAME -->` writes the block to a file, `<!-- server -->` starts the
command of a console block and keeps it running until the next one or the page's end, `<!-- server prints -->` waits
for these lines of it, `<!-- output -->` is what the script above printed, `<!-- types: a | b -->` names the lines of a
console block that a person types into the program above them, `<!-- tested by: FILE -->` names the test that runs the
block instead.

In what is shown `...` stands for anything (alone on a line: for any lines). Ids, times, ports of peers and durations of
pytest are compared by their form only. Ports of the server are replaced by free ones, in commands and files alike.
"""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from eventserver.errors import SettingsError
from eventserver.settings import from_mapping
from tests import realprograms
from tests.realprograms import Program

#: Programs that a page may need besides those of this package and of every system.
REAL = ("nc", "telnet", "logger", "curl", "openssl")
#: Ports that pages use for the server.
PORTS = ("5140", "5141", "5142", "5514", "5515", "6514", "8080", "9514", "24224")
#: What a running server says once everything listens.
READY = r"eventserver: handler "

_FENCE = re.compile(r"^(`{3,})(\w*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
_MARKERS = re.compile(r"((?:<!-- .*? -->\n)+)\Z")
_MARKER = re.compile(r"<!-- (.*?)(?:: (.*?))? -->")
_PORT = re.compile(rf"(?<![\d.])(?:{'|'.join(PORTS)})(?!\d)")
#: Parts of a line that differ from run to run, as they look in escaped text.
_FORMS = (
    (re.compile(r"\\\.\\\.\\\."), ".*?"),
    (re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b"), "[0-9A-Z]{26}"),
    (re.compile(r"\b\d{4}\\-\d\d\\-\d\dT\d\d:\d\d:\d\d(?:\\\.\d+)?Z"), r"[0-9-]{10}T[0-9:.]+Z"),
    (re.compile(r"(?<=127\\\.0\\\.0\\\.1:)[3-6]\d{4}\b"), r"\\d+"),
    (re.compile(r"in \d+\\\.\d+s"), r"in [0-9.]+s"),
)


@dataclass(frozen=True)
class Block:
    """One fenced block: `markers` are the comments right above it, `line` is where it begins in the page."""

    language: str
    text: str
    markers: dict[str, str]
    line: int


def blocks_of(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    for fence in _FENCE.finditer(page):
        comments = _MARKERS.search(page, 0, fence.start())
        markers = dict(_MARKER.findall(comments[1])) if comments is not None else {}
        yield Block(fence[2], fence[3], markers, page.count("\n", 0, fence.start()) + 1)


def pattern_of(line: str) -> str:
    """A regular expression for a line as it is shown."""
    escaped = re.escape(line.rstrip()).replace(r"\ ", " ")
    for form, pattern in _FORMS:
        escaped = form.sub(pattern, escaped)
    return escaped


def pattern_of_lines(text: str) -> re.Pattern[str]:
    """A regular expression for a whole output as it is shown."""
    lines = [r"(?:.*\n)*?" if line.strip() == "..." else pattern_of(line) + r"[ ]*\n" for line in text.splitlines()]
    return re.compile("".join(lines))


def commands_of(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output that is shown for it."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif found and not found[-1][1] and (found[-1][0].endswith("\\") or line.startswith("> ")):
            found[-1] = (f"{found[-1][0]}\n{line.removeprefix('> ')}", "")
        else:
            assert found, f"a console block begins with a command, not with {line!r}"
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found


class Reader:
    """Follows one page. Use it in a `with` block: servers end with it."""

    def __init__(self, page: Path, folder: Path) -> None:
        self._page = page
        self._folder = folder
        self._server: Program | None = None
        self._printed = ""
        self._names: dict[str, object] = {}
        self._ports = {port: str(realprograms.free_port()) for port in PORTS}
        beside = Path(realprograms.beside_python("python")).parent
        self._env = {**os.environ, "PATH": f"{beside}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
        self._env.pop("PYTEST_ADDOPTS", None)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_server()

    def follow(self) -> int:
        """Do all that the page says; returns the number of blocks that were executed."""
        page = self._page.read_text()
        count = 0
        for block in blocks_of(page):
            for program in REAL:
                if block.language == "console" and re.search(rf"^\$ (?:.*\| )?{program} ", block.text, re.MULTILINE):
                    realprograms.find(program)
            try:
                count += self._do(block)
            except (AssertionError, SettingsError, ValueError) as error:
                raise AssertionError(f"{self._page.name}:{block.line}: {error}") from error
        return count

    def with_ports(self, text: str) -> str:
        """A text with the ports that are free now in the place of the page's."""
        return _PORT.sub(lambda port: self._ports[port[0]], text)

    def _do(self, block: Block) -> bool:
        text = self.with_ports(block.text)
        if "tested by" in block.markers:
            test = block.markers["tested by"]
            assert (realprograms.ROOT / test).is_file(), f"there is no {test}"
        elif "file" in block.markers:
            path = self._folder / block.markers["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if "wrong" in block.markers:
                with pytest.raises(SettingsError):
                    self._check_settings(text)
            elif block.language == "toml":
                self._check_settings(text)
        elif "server prints" in block.markers:
            self._server_prints(text)
        elif "output" in block.markers:
            self._compare(self._printed, text)
        elif block.language == "console":
            self._console(block, text)
        elif block.language == "toml":
            self._check_settings(text)
        elif block.language == "pycon":
            self._doctest(block, text)
        elif block.language == "python":
            self._script(text)
        elif block.language == "json":
            for line in text.splitlines():
                json.loads(line)
        else:
            return False
        return True

    # One for each kind

    def _check_settings(self, text: str) -> None:
        before = Path.cwd()
        os.chdir(self._folder)
        try:
            from_mapping(tomllib.loads(text), cwd=self._folder)
        finally:
            os.chdir(before)

    def _script(self, text: str) -> None:
        done = subprocess.run(
            [realprograms.beside_python("python"), "-W", "error", "-c", text],
            cwd=self._folder, env=self._env, capture_output=True, text=True, timeout=realprograms.DEADLINE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        self._printed = done.stdout

    def _doctest(self, block: Block, text: str) -> None:
        parsed = doctest.DocTestParser().get_doctest(text, self._names, self._page.name, str(self._page), block.line)
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        said: list[str] = []
        before = Path.cwd()
        os.chdir(self._folder)
        try:
            result = runner.run(parsed, out=said.append, clear_globs=False)
        finally:
            os.chdir(before)
        self._names = parsed.globs
        assert not result.failed, "".join(said)

    def _console(self, block: Block, text: str) -> None:
        commands = commands_of(text)
        if "server" in block.markers:
            [(command, shown)] = commands
            self._start_server(command)
            if shown:
                self._server_prints(shown)
        elif "types" in block.markers:
            [(command, shown)] = commands
            self._session(command, shown, block.markers["types"].split(" | "))
        else:
            # One shell for the block, so that `echo $?` means what it says.
            script = "".join(f"{command}\n(c=$?; printf '\\036'; exit $c)\n" for command, _ in commands)
            done = subprocess.run(
                ["bash", "-c", f"exec 2>&1\n{script}"],
                cwd=self._folder, env=self._env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                timeout=realprograms.DEADLINE, check=False,
            )  # fmt: skip
            outputs = done.stdout.split("\036")[:-1]
            assert len(outputs) == len(commands), f"the shell ended early: {done.stdout}"
            for (_, shown), output in zip(commands, outputs, strict=True):
                self._compare(output, shown)

    def _compare(self, output: str, shown: str) -> None:
        output = output if not output or output.endswith("\n") else f"{output}\n"
        assert pattern_of_lines(shown).fullmatch(output), f"shown:\n{shown}\nprinted:\n{output}"

    def _session(self, command: str, shown: str, typed: list[str]) -> None:
        """A dialogue: lines that are typed go in when all that is shown above them has come out."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command} 2>&1"], cwd=self._folder, env=self._env, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for line in shown.splitlines():
                if typed and line == typed[0]:
                    process.stdin.write(f"{typed.pop(0)}\n".encode())
                    continue
                said = process.stdout.readline().decode().rstrip()
                assert re.fullmatch(pattern_of(line), said), f"shown: {line!r}, printed: {said!r}"
            assert not typed, f"not shown: {typed}"
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()

    # The server

    def _start_server(self, command: str) -> None:
        self._stop_server()
        if "--listen" not in command and " -c " not in command:
            # The main job by itself: the same listeners as the real defaults, elsewhere.
            defaults = self._folder / "defaults.toml"
            defaults.write_text(
                '[listener.lines]\nendpoints = ["tcp:{0}:interface=127.0.0.1", "udp:{0}:interface=127.0.0.1"]\n'
                '[listener.syslog]\ndecoder = "syslog"\n'
                'endpoints = ["tcp:{1}:interface=127.0.0.1", "udp:{1}:interface=127.0.0.1"]\n'
                .format(self._ports["5140"], self._ports["5514"])
            )  # fmt: skip
            command = command.replace("make run", "eventserver run") + " -c defaults.toml"
        before, _, last = command.rpartition("&& ")
        command = f"{before}&& exec {last}" if before else f"exec {last}"
        self._server = Program(["bash", "-c", command], cwd=self._folder, env=self._env)
        self._server.wait_for(READY)

    def _server_prints(self, text: str) -> None:
        assert self._server is not None, "no server runs"
        for line in text.splitlines():
            if line.strip() != "...":
                self._server.wait_for(rf"^{pattern_of(line)}$")

    def _stop_server(self) -> None:
        if self._server is not None:
            code = self._server.stop()
            assert code == realprograms.TERMINATED, self._server.output()
            self._server = None
