"""`[handler.NAME]`, and what the halves get by default."""

from __future__ import annotations

import pytest

from eventserver.errors import SettingsError
from eventserver.settings import from_mapping, load
from tests.settings.fakes import Console, File, Json, Template, fake_registry

LISTENERS = '[listener.a]\nendpoints = ["tcp:0"]\n[listener.b]\nendpoints = ["tcp:0"]\n'


def test_the_options_of_a_part_stand_beside_the_handlers(settings_of):
    """A console with the encoder `template` has the template's options."""
    h = settings_of('[handler.h]\ntype = "console"\nencoder = "template"\ntemplate = "{message}"').handlers["h"]
    assert h.handler.component is Console
    assert h.parts["encoder"].component is Template
    assert h.part_factories()["encoder"]().arguments == (h.parts["encoder"].options,)


def test_a_part_that_is_not_named_is_the_handlers_default(settings_of):
    assert settings_of('[handler.h]\ntype = "console"\npretty = true').handlers["h"].parts["encoder"].component is Json


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("", (5000, 1 << 20)),
        ("batch = {max_events = 7}", (7, 1 << 20)),
        ('batch = {max_bytes = "2 MiB"}', (5000, 2 << 20)),
    ],
)
def test_a_handler_may_have_its_own_default_for_a_part_of_batch(settings_of, monkeypatch, keys, expected):
    monkeypatch.setattr(File, "piles", {"max_events": 5000}, raising=False)
    batch = settings_of(f'[handler.h]\ntype = "file"\npath = "x"\n{keys}').handlers["h"].batch
    assert (batch.max_events, int(batch.max_bytes)) == expected


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ('type = "console"\ntemplate = "x"', "template: is an option of encoder `template`, not of `json`"),
        ('type = "console"\nencoder = "jsn"', "encoder: no encoder is called `jsn`; did you mean `json`?"),
        ('type = "console"\npath = "x"', "path: is an option of type `file`, not of `console`"),
        ('type = "file"', "path: is missing"),
        ("", 'type: is missing; there are `console`, `file`, `python`, `sender`, or write `call = "module:function"`'),
        ('type = "file"\npath = "x"\nlisteners = []', "listeners: is empty; leave it out for all listeners"),
        ('type = "file"\npath = "x"\nwhen_full = "drop"', "when_full: 'drop' is not among 'block', 'drop_oldest'"),
        ('type = "file"\npath = "x"\nconcurrency = 0', "concurrency: 0 is too small; at least 1"),
        ('type = "sender"\nlow = 3\nhigh = 2', "low: is above `high`"),
        ('type = "sender"\nlogin = {usr = "x", user = "y"}', "login.usr: unknown key; did you mean `user`?"),
        ('call = "no_such_module_x:f"', "call: no module is called `no_such_module_x`, neither in "),
        ('call = "nothing"', "call: `nothing` names no function; write `module:function`"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_once_and_with_its_key(problems_of, keys, problem):
    (found,) = problems_of(f"[handler.h]\n{keys}")
    assert found.startswith(f"site.toml: handler.h.{problem}")


def test_a_handler_with_call_is_python(settings_of, tmp_path):
    (tmp_path / "my_handlers_1.py").write_text("def alarm(event):\n    pass\n")
    h = settings_of('[handler.h]\ncall = "my_handlers_1:alarm"').handlers["h"]
    assert h.handler.name == "python"
    assert h.handler.options.call == "my_handlers_1:alarm"


def test_a_program_may_give_a_function_as_call():
    """The handler is made with it as a third argument."""

    def alarm(event: object) -> None:
        pass

    settings = from_mapping({"handler": {"h": {"call": alarm, "match": "a == 1"}}}, registry=fake_registry())
    h = settings.handlers["h"]
    assert h.handler.make("context").arguments == (h.handler.options, "context", alarm)


def test_a_package_may_offer_a_plain_function_as_handler():
    def alarm(event: object) -> None:
        pass

    registry = fake_registry()
    registry.add("handlers", "alarm", alarm)
    h = from_mapping({"handler": {"h": {"type": "alarm", "replies": False}}}, registry=registry).handlers["h"]
    assert h.handler.make("context").arguments == (h.handler.options, "context", alarm)
    assert h.handler.options.replies is False


def test_steps_are_made_from_what_was_written(settings_of):
    h = settings_of('[handler.h]\ntype = "console"\nsteps = [{drop = "a == 1"}, {set = {b = 2}}]').handlers["h"]
    assert [type(step).__name__ for step in h.make_steps()] == ["Drop", "Set"]


def test_only_one_handler_may_answer_the_peers_of_a_listener(problems_of, settings_of, tmp_path):
    (tmp_path / "my_handlers_2.py").write_text("def one(event): ...\ndef two(event): ...\n")
    one = '[handler.one]\ncall = "my_handlers_2:one"\nreplies = true\n'
    two = '[handler.two]\ncall = "my_handlers_2:two"\nreplies = true\n'
    assert problems_of(LISTENERS + one + two + 'listeners = ["b"]') == [
        "site.toml: handler.two.replies: handler `one` answers the peers of listener `b` already; only one can"
    ]
    assert settings_of(LISTENERS + one + 'listeners = ["a"]\n' + two + 'listeners = ["b"]')


def test_replies_to_a_protocol_without_room_for_them_are_refused(tmp_path):
    (tmp_path / "answering_handlers.py").write_text("def one(event): ...\n")
    site = {
        "listener": {"a": {"type": "relp", "endpoints": ["tcp:0"]}, "b": {"type": "fluent", "endpoints": ["tcp:0"]}},
        "handler": {"h": {"call": "answering_handlers:one", "replies": True}},
    }
    with pytest.raises(SettingsError) as caught:
        from_mapping(site, cwd=tmp_path)
    assert caught.value.problems == [
        "handler.h.replies: the protocol of listener `a` has no room for replies: its peers get acknowledgements alone"
    ]
    for able in ({"endpoints": ["tcp:0"]}, {"type": "http", "endpoints": ["tcp:0"]}):
        site["listener"]["c"] = able
        assert from_mapping(site, cwd=tmp_path)


def test_nothing_at_all_is_two_listeners_and_a_console(settings_of):
    settings = settings_of()
    assert settings.assumed == {"listeners", "handlers"}
    lines, syslog = settings.listeners["lines"], settings.listeners["syslog"]
    assert (lines.decoder.name, lines.framer.name) == ("text", "lines")
    assert (syslog.decoder.name, syslog.framer.name) == ("syslog", "auto")
    assert "tcp:5140:interface=127.0.0.1" in lines.parts[0].endpoints
    assert "udp:5514:interface=127.0.0.1" in syslog.parts[1].endpoints
    assert settings.handlers["console"].handler.component is Console
    assert (settings.admin, settings.server.memory) == (None, 64 << 20)


@pytest.mark.parametrize("available", [True, False])
def test_the_default_listeners_take_ipv6_only_where_there_is_some(settings_of, monkeypatch, available):
    monkeypatch.setattr("eventserver.settings.loading.ipv6_available", lambda: available)
    endpoints = settings_of().listeners["lines"].parts[0].endpoints
    assert (r"tcp:5140:interface=\:\:1" in endpoints) is available


def test_a_missing_half_gets_its_default(settings_of):
    assert list(settings_of(LISTENERS).handlers) == ["console"]
    only_handler = settings_of('[handler.h]\ntype = "file"\npath = "x"')
    assert (list(only_handler.listeners), only_handler.handlers["h"].handler.component) == (["lines", "syslog"], File)
    assert only_handler.assumed == {"listeners"}


def test_the_defaults_work_with_the_real_components(tmp_path):
    settings = load([], environ={}, cwd=tmp_path)
    assert {part.name for part in settings.listeners["lines"].parts} == {"stream", "datagram"}


def test_an_embedding_program_gives_a_mapping(tmp_path):
    (tmp_path / "x").write_text("")
    settings = from_mapping({"listener": {"a": {"endpoints": ["tcp:0"]}}, "drain_timeout": "1 s"}, cwd=tmp_path)
    assert settings.server.drain_timeout == 1
