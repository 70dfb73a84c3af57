"""The first words of a server: what they say to try is something that works."""

from __future__ import annotations

import re

import pytest

from eventserver.decoders.graphite import GraphiteDecoder
from eventserver.decoders.influx import InfluxDecoder
from eventserver.decoders.json import JsonDecoder
from eventserver.decoders.logfmt import LogfmtDecoder
from eventserver.decoders.statsd import StatsdDecoder
from eventserver.decoders.text import TextDecoder
from eventserver.settings import from_mapping
from eventserver.startup import commands_to_try
from eventserver.testing.decoders import batch


def commands(**keys: str) -> list[str]:
    settings = from_mapping({"listener": {"a": {"endpoints": ["tcp:5140"], **keys}}})
    return commands_to_try(settings, {"a": ["tcp:127.0.0.1:5140"]})


@pytest.mark.parametrize(
    "make", [TextDecoder, JsonDecoder, LogfmtDecoder, StatsdDecoder, GraphiteDecoder, InfluxDecoder]
)
def test_the_decoder_reads_the_line_that_is_shown(make: type) -> None:
    name = make.__name__.removesuffix("Decoder").lower()
    [command] = commands(decoder=name)
    found = re.fullmatch(r"echo '(.*)' \| nc -N 127\.0\.0\.1 5140", command)
    assert found is not None
    [event] = make().decode(batch(found[1].encode()))
    assert event.type == name


@pytest.mark.parametrize("decoder", ["csv", "cef", "leef", "gelf"])
def test_nothing_is_shown_that_would_be_undecodable(decoder: str) -> None:
    assert commands(decoder=decoder) == []
