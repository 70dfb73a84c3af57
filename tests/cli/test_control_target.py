"""How a command finds the server or the journal that it is about, and what it says where it cannot."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import pytest_twisted

from eventserver.admin.control import Control
from eventserver.admin.service import AdminService
from eventserver.cli import _control
from eventserver.cli._printing import cell, fields, table
from eventserver.cli.main import main
from tests.admin.server import TOKEN, Status
from tests.realprograms import beside_python, run, run_beside
from tests.replaying.history import Keeper, World


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(words)
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.count("\n") == 1, "one line, no traceback"
    return code, found.err.strip()


def test_somebody_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, err = said(capsys, "journal", "info")
    assert code == 2
    assert "--journal DIR" in err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--journal", "nowhere"], 1, "there is no folder nowhere"),
        (["--journal", "empty"], 1, "empty is not the folder of a journal"),
        (["-c", "no.toml"], 2, "no.toml: cannot be read"),
        (["-c", "without.toml"], 2, "there is no `path` in [journal]"),
        (["-c", "broken.toml"], 2, "broken.toml: line 1"),
        (["-c", "with.toml"], 1, "there is no folder from-settings"),
        (["--admin", "ftp://x"], 2, "is no http://HOST:PORT"),
        (["--admin", "http://[::1"], 2, "is no http://HOST:PORT"),
        (["--admin", "unix:nowhere.sock"], 1, "nowhere.sock: No such file or directory"),
        (["--admin", "http://127.0.0.1:1", "--token-file", "no"], 2, "--token-file: no: No such file"),
        (["--admin", "http://127.0.0.1:1", "--token-file", "empty.token"], 2, "has no token"),
        (["--admin", "http://127.0.0.1:1"], 1, "http://127.0.0.1:1: "),
        (["--admin", "http://exa mple"], 1, "http://exa mple: URL can't contain control characters"),
        (["--admin", "http://a..b"], 1, "http://a..b: encoding with 'idna' codec failed"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    words: list[str],
    code: int,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WHERE", "from-settings")
    Path("empty").mkdir()
    Path("without.toml").write_text("[listener.x]\n")
    Path("broken.toml").write_text("=")
    # Nothing else has to be right, or readable by whoever asks.
    Path("with.toml").write_text('[journal]\npath = "${WHERE}"\n[admin]\ntoken = "${SECRET}"\nnonsense = 1\n')
    Path("empty.token").write_text("\n")
    found = said(capsys, "journal", "info", *words)
    assert found[0] == code
    assert text in found[1]


@pytest.mark.parametrize("words", [["deadletters", "retry", "1"], ["replay", "--handler", "h", "--from", "0"]])
def test_nothing_is_asked_of_what_has_no_control_api(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def ask(self: object, method: str, path: str, *rest: object) -> dict[str, object]:
        asked.append((method, path))
        return {"accepted": 1, "duplicates": 0}

    monkeypatch.setattr(_control.Server, "ask", ask)
    code, err = said(capsys, *words, "--admin", "http://127.0.0.1:1")
    assert code == 1
    assert err.endswith("http://127.0.0.1:1: that is no control API of eventserver")
    assert asked == [("GET", "/v1")]


def test_an_answer_that_is_nested_too_deeply_is_shown_and_not_read() -> None:
    answer = mock.Mock(status=200, reason="OK")
    answer.getheader.return_value = "application/json"
    answer.read.return_value = b'{"a":' * 200_000
    connection = mock.Mock()
    connection.getresponse.return_value = answer
    with pytest.raises(_control.CommandError, match=r'answered 200: \{"a":'):
        _control.Server(lambda: connection, "x").ask("GET", "/v1")
    connection.close.assert_called_once_with()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AdminService]:
    from twisted.internet import reactor

    world = World(tmp_path)
    world.add(Keeper())
    world.put("a", "b")
    control = Control(world.journal, world.replays, now=world.now)
    made = AdminService("tcp:0:interface=127.0.0.1", TOKEN, Status(), reactor, control)
    made.startService()
    yield made
    pytest_twisted.blockon(made.stopService())


@pytest_twisted.ensureDeferred
async def test_over_tcp_a_token_is_sent(server: AdminService, tmp_path: Path) -> None:
    [url] = server.addresses()
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    command = [beside_python("eventserver"), "journal", "cursors", "--admin", url]
    done = await run_beside([*command, "--token-file", str(tmp_path / "token")])
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines()[1].split()[:3] == ["h", "2", "0"]
    refused = await run_beside(command)
    assert refused.returncode == 1
    assert b"answered 401: a token is needed" in refused.stderr


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    """`eventserver ... | head` must not end in a traceback."""
    command = f"{beside_python('eventserver')} schema settings"
    done = run(["bash", "-c", f"({command}; echo $? >&2) | head -c 1"])
    assert done.stdout == b"{"
    assert done.stderr in (b"0\n", b"1\n")


NOW = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24 h", "2026-01-01T12:00:00Z"),
        ("90 s", "2026-01-02T11:58:30Z"),
        ("100", "100"),
        ("beginning", "beginning"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("99999999999 d", "99999999999 d"),
        (None, None),
    ],
)
def test_a_duration_is_that_long_ago(text: str | None, expected: str | None) -> None:
    assert _control.when(text, lambda: NOW) == expected


def test_tables_keep_one_thing_a_line_whatever_is_in_it() -> None:
    text = table(("NAME", "N"), [["a\nb\x1b[1m", 1], ["x" * 100, 20]])
    lines = [("NAME", " N"), ("a\\x0ab\\x1b[1m", " 1"), ("x" * 57 + "...", "20")]
    assert text.splitlines() == [f"{name:60}  {number}" for name, number in lines]
    assert cell("\u202egnp.exe") == "\\u202egnp.exe"
    assert fields({"a": {"b\n": None}, "c": True}) == "a:\n  b\\x0a  -\nc  yes\n"
