"""The options of `eventserver send`: what is wrong with them is told before anything is sent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from eventserver.cli.main import _parser, main
from eventserver.sending.sources import Lines
from tests.realprograms import DEADLINE


@pytest.mark.parametrize(("words", "said"), [
    ("--to tpc:localhost:1", "did you mean `tcp:`?"),
    ("--to tcp:localhost:1 --token x", "--header and --token are for HTTP"),
    ("--to tcp:localhost:1 --ca x", "are for targets with TLS"),
    ("--to relp:localhost:1 --framing octet", "--framing is for plain streams"),
    ("--to relp:localhost:1 --compress gzip", "can be packed with nothing"),
    ("--to fluent:localhost:1 --compress zlib", "can be packed with gzip or zstd"),
    ("--to fluent:localhost:1 --compress gzip --mode message", "only the mode `packed` can be compressed"),
    ("--to fluent:localhost:1 --format syslog", "its format is `json`"),
    ("--to fluent:localhost:1 --user x", "--user needs --shared-key"),
    ("--to relp:localhost:1 --shared-key x", "are for fluent"),
    ("--to statsd+tcp:localhost:1 --join 9", "--join is for datagrams"),
    ("--to gelf+tcp:localhost:1 --compress gzip", "can be packed with nothing"),
    ("--to tls:localhost:1 --ca /nowhere", "/nowhere: No such file or directory"),
    ("--to tls:localhost:1 --cert x", "a certificate and its key go together"),
    ("--to http://localhost:1 --token t\u00f6ken", "--token: a token is printable ASCII"),
    ("--to http://localhost:1 --token file:/nowhere", "/nowhere: No such file or directory"),
])  # fmt: skip
def test_what_does_not_fit_together(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", *words.split(), "hello"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert all(line.startswith("eventserver send: ") for line in err.splitlines())


@pytest.mark.parametrize("words", [
    "", "--to x --rate 0", "--to x --rate nan", "--to x --count -1", "--to x --count 0", "--to x --format y",
    "--to x --duration 5", "--to x --header x", "--to x --header a:b\nc", "--to x --hostname a\x7f",
    "--to x --chunk-size 1", "--to x --connections 0", "--to x --severity loud",
])  # fmt: skip
def test_wrong_values_are_wrong_usage(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["send", *words.split(" "), "hello"])
    assert exit.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_secret_can_be_in_a_file(tmp_path: Path) -> None:
    from eventserver.cli.send import _secret

    file = tmp_path / "token"
    file.write_text("abc\n")
    assert _secret(f"file:{file}") == "abc"
    assert _secret("abc") == "abc"
    file.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="no text"):
        _secret(f"file:{file}")


def test_a_closed_standard_input_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert main(["send", "--to", "relp:localhost:1"]) == 2
    assert "standard input is closed" in capsys.readouterr().err


@pytest.mark.parametrize(("stdout", "said"), [
    (">/dev/full", "eventserver components: standard output: No space left on device\n"),
    (">&-", ""),
    ("2>&- | cat >/dev/null", ""),
])  # fmt: skip
def test_an_output_that_takes_nothing_is_told_in_one_line(stdout: str, said: str) -> None:
    command = f"set -o pipefail; {sys.executable} -m eventserver.cli.main components {stdout}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.returncode, done.stderr) == (1 if said else 0, said)


def test_a_line_that_was_cut_is_in_the_report() -> None:
    from eventserver.cli.send import _feed, prepare

    prepared = prepare(_parser().parse_args(["send", "--to", "unix:/nowhere"]), Clock())
    source = prepared.run.source
    assert isinstance(source, Lines)
    source._more = lambda: None  # nobody reads
    _feed(source, prepared.run, b"x" * (1 << 20) + b"more\ny\n")
    assert prepared.run.load.statistics.problems == {"a line of more than 1 MiB was sent without its rest": 1}
