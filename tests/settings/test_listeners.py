"""`[listener.NAME]`: parts, framing, decoder and acknowledgement."""

# ruff: noqa: E501  # a table of wrong keys, and what is said about each

from __future__ import annotations

import pytest

from eventserver.errors import SettingsError
from eventserver.settings import from_mapping
from tests.settings.fakes import Acking, Datagram, Octet, Stream, fake_registry


def listener(keys: str) -> str:
    return f"[listener.a]\n{keys}\n"


def test_one_table_with_both_kinds_of_endpoints_has_two_parts(settings_of):
    """Each part has its own endpoints, and the options that its type declares."""
    a = settings_of(
        listener('endpoints = ["udp:5140", "tcp:5140", "unix:/run/x"]\nmax_connections = 7\nreceive_buffer = "1 MiB"')
    ).listeners["a"]
    stream, datagram = a.parts
    assert (stream.name, stream.component, stream.endpoints) == ("stream", Stream, ("tcp:5140", "unix:/run/x"))
    assert stream.options.endpoints == ["tcp:5140", "unix:/run/x"]
    assert stream.options.max_connections == 7
    assert (datagram.name, datagram.component, datagram.endpoints) == ("datagram", Datagram, ("udp:5140",))
    assert datagram.options.receive_buffer == 1 << 20


def test_optional_endpoints_go_to_the_part_that_serves_them(settings_of):
    a = settings_of(listener('endpoints = ["tcp:1"]\noptional_endpoints = ["tcp6:1"]')).listeners["a"]
    assert a.parts[0].options.optional_endpoints == ["tcp6:1"]


def test_a_key_that_several_components_declare_goes_to_each(settings_of):
    a = settings_of(listener('endpoints = ["tcp:1", "udp:1"]\nmax_frame = "1 KiB"')).listeners["a"]
    assert a.framer.options.max_frame == a.parts[1].options.max_frame == 1024


@pytest.mark.parametrize(("decoder", "framing"), [("text", "lines"), ("syslog", "auto")])
def test_the_default_framing_follows_the_decoder(settings_of, decoder, framing):
    a = settings_of(listener(f'endpoints = ["tcp:1"]\ndecoder = "{decoder}"')).listeners["a"]
    assert (a.framer.name, a.decoder.name, a.datagram_framer) == (framing, decoder, None)


@pytest.mark.parametrize(
    ("more", "framing"),
    [
        ({}, "lines"),
        ({"protocol": "pickle"}, "length"),
        ({"protocol": "pickle", "framing": "netstring"}, "netstring"),
    ],
)
def test_pickles_of_graphite_are_cut_by_their_length(more, framing):
    settings = from_mapping({"listener": {"a": {"endpoints": ["tcp:1"], "decoder": "graphite", **more}}})
    assert settings.listeners["a"].framer.name == framing


def test_framings_of_streams_and_of_datagrams_are_two_keys(settings_of):
    a = settings_of(
        listener('endpoints = ["tcp:1", "udp:1"]\nframing = "octet"\ndatagram_framing = "lines"\ndelimiter = ";"')
    ).listeners["a"]
    assert a.framer.component is Octet
    assert a.datagram_framer.options.delimiter == ";"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ('endpoints = ["tcp:1"]\nframing = "octet"\ndelimiter = ";"', "delimiter: is an option of framing `auto` and `lines`, not of `octet`"),
        ('endpoints = ["tcp:1"]\ntime_zone = "UTC"', "time_zone: is an option of decoder `syslog`, not of `text`"),
        ('endpoints = ["tcp:1"]\nreceive_buffer = "1 KiB"', "receive_buffer: is an option of type `datagram`, not of `stream`"),
        ('endpoints = ["tcp:1"]\nlable = {a = "b"}', "lable: unknown key; did you mean `labels`?"),
        ('endpoints = ["udp:1"]\nframing = "octet"', "framing: is for streams, and this listener has none; for datagrams there is `datagram_framing`"),
        ('endpoints = ["udp:1"]\nmultiline = {mode = "indented"}', "multiline: is for streams, and this listener has none"),
        ('endpoints = ["tcp:1"]\ndatagram_framing = "lines"', "datagram_framing: is for datagrams, and this listener has none; write `framing`"),
        ("", 'endpoints: name at least one endpoint, such as ["tcp:5140", "udp:5140"]'),
        ("endpoints = []", 'endpoints: name at least one endpoint, such as ["tcp:5140", "udp:5140"]'),
        ('endpoints = "tcp:1"', "endpoints: expected `array`, got a text"),
        ('endpoints = ["tcp:1"]\ndecoder = 3', "decoder: expected a text, got an integer"),
        ('endpoints = ["tcp:1"]\nack = "delivered"', "ack: this type of listener cannot acknowledge: its protocol has no acknowledgement"),
        ('type = "acking"\nendpoints = ["tcp:1"]\nack = "durable"', 'ack: "durable" needs a journal on disk; without one there are "delivered" and "memory"'),
        ('endpoints = ["tcp:1"]\nlabels = {a = 1}', "labels: expected a text, got an integer at `[...]`"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_once_and_with_its_key(problems_of, keys, problem):
    assert problems_of(listener(keys)) == [f"site.toml: listener.a.{problem}"]


def test_a_wrong_endpoint_makes_no_key_unknown(problems_of):
    """What it was meant for cannot be known; so only the endpoint is wrong."""
    problems = problems_of(listener('endpoints = ["upd:1"]\nmax_connections = 3\ndelimiter = ";"'))
    assert problems == [
        "site.toml: listener.a.endpoints: `upd:1` begins with no scheme that is known; did you mean `udp:`?"
    ]


def test_multiline_gets_the_listeners_bound_and_its_own_keys(settings_of, problems_of):
    a = settings_of(listener('endpoints = ["tcp:1"]\nmax_frame = "2 KiB"\nmultiline = {mode = "python"}')).listeners[
        "a"
    ]
    assert (a.multiline.options.max_frame, a.multiline.options.mode) == (2048, "python")
    assert problems_of(listener('endpoints = ["tcp:1"]\nmultiline = {start = "^a", max_line = 3}')) == [
        "site.toml: listener.a.multiline.max_line: unknown key; did you mean `max_lines`?"
    ]


def test_an_acknowledging_type_gets_delivered_by_default(settings_of):
    a = settings_of(listener('type = "acking"\nendpoints = ["tcp:1"]\nack_timeout = "5 s"')).listeners["a"]
    assert (a.parts[0].component, a.ack, a.ack_timeout) == (Acking, "delivered", 5)
    assert settings_of(listener('endpoints = ["tcp:1"]')).listeners["a"].ack is None


def test_no_two_endpoints_listen_in_the_same_place(problems_of, settings_of):
    text = (
        '[listener.a]\nendpoints = ["tcp:5140", "udp:5140"]\n[listener.b]\nendpoints = ["tls:05140", "tcp:1", "udp:1"]'
    )
    assert problems_of(text) == ["site.toml: listener.b.endpoints: `tls:05140` is an endpoint of `listener.a` already"]
    free = '[listener.a]\nendpoints = ["tcp:0", "tcp:0", "tcp:1:interface=127.0.0.1", "tcp:1:interface=127.0.0.2"]'
    assert settings_of(free).listeners["a"].parts[0].endpoints[:2] == ("tcp:0", "tcp:0")


def test_a_decoder_may_be_a_function_from_the_current_directory(settings_of, problems_of, tmp_path):
    (tmp_path / "my_decoders_1.py").write_text("def decode(frame):\n    return {'message': frame.decode().upper()}\n")
    a = settings_of(listener('endpoints = ["tcp:1"]\ndecoder = "my_decoders_1:decode"')).listeners["a"]
    assert a.decoder.name == "my_decoders_1:decode"
    assert type(a.make_decoder()).__name__ == "FunctionDecoder"
    assert problems_of(listener('endpoints = ["tcp:1"]\ndecoder = "my_decoders_1:decod"')) == [
        "site.toml: listener.a.decoder: module `my_decoders_1` has no `decod`; did you mean `decode`?"
    ]


def test_a_decoder_that_waits_is_refused(problems_of, tmp_path):
    (tmp_path / "my_decoders_2.py").write_text("async def decode(frame): ...\n")
    (problem,) = problems_of(listener('endpoints = ["tcp:1"]\ndecoder = "my_decoders_2:decode"'))
    assert problem.startswith("site.toml: listener.a.decoder: ")
    assert "async def" in problem


def test_a_program_may_give_a_function_as_decoder():
    def decode(frame: bytes) -> None:
        return None

    mapping = {"listener": {"a": {"endpoints": ["tcp:0"], "decoder": decode}}}
    settings = from_mapping(mapping, registry=fake_registry())
    assert settings.listeners["a"].decoder.component is decode


def test_a_function_is_no_framer():
    registry = fake_registry()
    registry.add("framers", "lines", len)
    with pytest.raises(SettingsError, match=r"listener\.a\.framing: `lines` is no class; only decoders and handlers"):
        from_mapping({"listener": {"a": {"endpoints": ["tcp:0"], "framing": "lines"}}}, registry=registry)


def test_the_factories_make_new_objects(settings_of):
    a = settings_of(listener('endpoints = ["tcp:1"]')).listeners["a"]
    first, second = a.make_framer(), a.make_framer()
    assert first is not second
    assert first.arguments == (a.framer.options,)
    assert a.make_decoder().arguments == (a.decoder.options,)
