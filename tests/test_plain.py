"""Events that an encoder refuses, as values that it takes."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from eventserver._plain import dictionary_of, plain_event
from eventserver.encoders import JsonEncoder
from eventserver.testing.encoders import sample_event

Row = msgspec.defstruct(
    "Row", [("a0", object, msgspec.field(name="n")), ("a1", object), ("p0", object, msgspec.field(name="the site"))]
)


def test_fields_that_were_made_for_an_encoder_are_a_dictionary() -> None:
    row = Row(a0=[1, {"x": None}], a1=UNSET, p0="hq")
    assert dictionary_of(row) == {"n": [1, {"x": None}], "the site": "hq"}
    event = sample_event(0, fields=row, context={"labels": {"a": "\ud800"}})
    assert plain_event(event)["fields"] == {"n": [1, {"x": None}], "the site": "hq"}
    [line] = JsonEncoder(JsonEncoder.Options()).encode([event])
    assert msgspec.json.decode(line)["fields"] == {"n": [1, {"x": None}], "the site": "hq"}
