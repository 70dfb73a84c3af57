"""What the twistd plugin settles before there is a server."""

from __future__ import annotations

import time
from typing import Any

import pytest
from twisted.application.reactors import getReactorTypes
from twisted.application.service import IServiceMaker
from twisted.internet.task import Clock
from twisted.plugin import getPlugins
from twisted.python import usage

from eventserver import tap
from eventserver.cli import options as cli_options


class Parent(dict[str, Any]):
    """The options of twistd, as far as ours look at them."""

    def __init__(self, **given: Any) -> None:
        super().__init__(
            {"logger": None, "logfile": None, "syslog": 0, "nodaemon": 0, "debug": False, "pidfile": "twistd.pid"}
        )
        self.update(given)


def options_under(parent: Parent, monkeypatch: pytest.MonkeyPatch, *argv: str) -> tap.Options:
    monkeypatch.setattr("sys.argv", ["twistd", *argv, "eventserver"])
    # The reactor that runs these tests keeps its clock: timers of other tests were set by it.
    monkeypatch.setattr(tap, "install_reactor", lambda: None)
    options = tap.Options()
    options.parent = parent  # type: ignore[assignment]  # twistd's own options need the whole of twistd
    options.parseOptions([])
    return options


def test_the_plugin_names_the_service_maker_and_the_reactor():
    (maker,) = [plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "eventserver"]
    assert maker.options is tap.Options
    assert "uvloop" in [kind.shortName for kind in getReactorTypes()]


def test_in_the_foreground_the_log_is_ours_and_there_is_no_pidfile(monkeypatch):
    parent = Parent(nodaemon=1)
    options_under(parent, monkeypatch, "-n")
    assert parent["logger"] == "eventserver.logging.stderr_observer"
    assert parent["pidfile"] == ""


@pytest.mark.parametrize("given", [{"logger": "x.y"}, {"logfile": "-"}, {"syslog": 1}])
def test_a_log_that_was_asked_for_is_left_alone(monkeypatch, given):
    parent = Parent(nodaemon=1, **given)
    options_under(parent, monkeypatch, "-n")
    assert parent["logger"] == given.get("logger")


def test_a_pidfile_that_was_asked_for_is_left_alone(monkeypatch):
    parent = Parent(nodaemon=1)
    options_under(parent, monkeypatch, "-n", "--pidfile=twistd.pid")
    assert parent["pidfile"] == "twistd.pid"


def test_a_daemon_keeps_twisteds_log_and_pidfile(monkeypatch):
    """It has no standard error."""
    parent = Parent()
    options_under(parent, monkeypatch)
    assert (parent["logger"], parent["pidfile"]) == (None, "twistd.pid")


def test_the_clock_of_the_reactor_is_monotonic_unless_timers_run():
    class Reactor(Clock):
        pass

    reactor = Reactor()
    tap.make_monotonic(reactor)
    assert reactor.seconds is time.monotonic
    busy = Reactor()
    busy.callLater(1, lambda: None)
    tap.make_monotonic(busy)
    assert busy.seconds() == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bogus"], "eventserver: option --bogus not recognized (see --help)"),
        (
            ["site.toml"],
            "eventserver: `site.toml` is no option; a settings file is named with -c site.toml (see --help)",
        ),
        (["--admin", "a", "--admin", "b"], "eventserver: --admin is given twice (see --help)"),
        (["-c"], "eventserver: option -c requires argument (see --help)"),
    ],
)
def test_a_wrong_option_ends_the_program_with_one_line(words, message):
    with pytest.raises(SystemExit) as exit:
        cli_options.Options().parseOptions(words)
    assert exit.value.code == message


def test_every_wrong_setting_is_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = cli_options.Options()
    options.parseOptions(["--listen", "bogus", "--handler", "consol", "-c", "gone.toml"])
    with pytest.raises(SystemExit) as exit:
        options.settings_or_exit()
    lines = str(exit.value.code).splitlines()
    assert [line.split("`")[0] for line in lines] == [
        "eventserver: gone.toml: cannot be read: No such file or directory",
        "eventserver: --listen bogus: endpoints: ",
        "eventserver: --handler consol: type: no handler is called ",
    ]


def test_options_add_to_the_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.toml").write_text('[listener.a]\nendpoints = ["tcp:0"]\n')
    options = cli_options.Options()
    options.parseOptions(["-c", "a.toml", "--listen", "udp:0", "--handler", "null", "--handler", "null"])
    settings = options.settings()
    assert (list(settings.listeners), list(settings.handlers)) == (["a", "udp"], ["null", "null2"])


def test_help_says_what_pairs_are_and_gives_examples(capsys):
    with pytest.raises(SystemExit):
        cli_options.Options().parseOptions(["--help"])
    out = capsys.readouterr().out
    for word in ("--config=", "--listen=", "--handler=", "--journal=", "--admin=", "PAIRS", "ENDPOINTS", "EXAMPLES"):
        assert word in out
    assert "  twistd -n eventserver --listen tcp:5140 --handler console\n" in out
    assert max(map(len, out.splitlines())) <= 80


def test_our_options_are_twisteds():
    assert issubclass(tap.Options, usage.Options)
