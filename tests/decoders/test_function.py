"""A plain function as a decoder."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from eventserver.decoders.function import FunctionDecoder
from eventserver.testing.decoders import RECEIVED, DecoderConformance, batch


def words(frame: bytes) -> dict[str, Any]:
    """An example: a key and a number."""
    key, number = frame.split()
    return {"message": key.decode(), "number": int(number)}


class TestFunctionConformance(DecoderConformance):
    """The contract of every decoder."""

    def make(self) -> FunctionDecoder:
        return FunctionDecoder(words, "words")

    def samples(self) -> list[bytes]:
        return [b"load 7", b"temp 19"]


def decode(function: Any, *frames: bytes) -> list[Any]:
    return FunctionDecoder(function, "mine").decode(batch(*frames or (b"x",)))


def test_a_dict_is_an_event_and_unknown_keys_are_fields() -> None:
    [event] = decode(lambda frame: {"message": "m", "type": "t", "fields": {"a": 1, "b": 1}, "b": 2})
    assert (event.message, event.type, event.fields, event.time) == ("m", "t", {"a": 1, "b": 2}, RECEIVED)


def test_an_empty_dict_is_an_event_named_after_the_decoder() -> None:
    [event] = decode(lambda frame: {})
    assert (event.message, event.type, event.fields, event.time) == ("", "mine", {}, RECEIVED)


def test_a_list_is_several_events_with_numbered_ids() -> None:
    events = decode(lambda frame: [{"n": n} for n in range(3)], b"a", b"b")
    stem = batch().id
    assert [e.id for e in events] == [f"{stem}-{n}" for n in ("0", "0.1", "0.2", "1", "1.1", "1.2")]
    assert [e.fields["n"] for e in events] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("nothing", [None, []])
def test_none_and_an_empty_list_are_no_event(nothing: Any) -> None:
    assert decode(lambda frame: nothing) == []


@pytest.mark.parametrize(
    "time",
    [
        dt.datetime(2026, 11, 22, 10, 0, tzinfo=dt.UTC),
        dt.datetime(2026, 11, 22, 10, 0),
        dt.datetime(2026, 11, 22, 11, 0, tzinfo=dt.timezone(dt.timedelta(hours=1))),
        "2026-11-22T10:00:00Z",
        1795341600,
        1795341600000,
    ],
)
def test_a_time_may_be_a_datetime_text_or_number(time: Any) -> None:
    [event] = decode(lambda frame: {"time": time})
    assert event.time == dt.datetime(2026, 11, 22, 10, 0, tzinfo=dt.UTC)
    assert event.time.tzinfo is dt.UTC


def _raise(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda frame: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda frame: _raise(RecursionError("deep")), "RecursionError: deep"),
        (lambda frame: _raise(ValueError("\ud800")), "ValueError: ?"),
        (lambda frame: "text", "TypeError: the decoder returned str, not a dict, a list of them or None"),
        (lambda frame: [{}, 7], "TypeError: the decoder returned a list with int in it, not a dict"),
        (lambda frame: {"message": b"x"}, "TypeError: message is bytes, not str"),
        (lambda frame: {"fields": []}, "TypeError: fields is list, not dict"),
        (lambda frame: {1: 2}, "TypeError: a field's name is not a text"),
        (lambda frame: {"time": "yesterday"}, "ValueError: time 'yesterday' cannot be read"),
        (lambda frame: {"x": object()}, "TypeError: Encoding objects of type object is unsupported"),
    ],
)
def test_what_goes_wrong_makes_the_frame_undecodable_with_the_reason(function: Any, reason: str) -> None:
    [event] = decode(function)
    assert (event.type, event.message, event.raw, event.fields) == ("undecodable", "x", "x", {"error": reason})


def test_text_that_json_cannot_carry_is_undecodable() -> None:
    [event] = decode(lambda frame: {"message": "\ud800"})
    assert event.type == "undecodable"


def test_an_exception_whose_text_fails_is_undecodable_too() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    [event] = decode(lambda frame: _raise(Odd()))
    assert event.fields == {"error": "Odd: ?"}


def test_one_bad_frame_leaves_the_others_alone() -> None:
    events = FunctionDecoder(words, "words").decode(batch(b"a 1", b"bad", b"b 2"))
    assert [e.type for e in events] == ["words", "undecodable", "words"]


def test_what_the_function_keeps_of_its_result_is_not_the_events() -> None:
    """A function may reuse one dict; the events have their own."""
    kept: dict[str, Any] = {"fields": {"a": 1}}
    [event] = decode(lambda frame: kept)
    kept["fields"]["a"] = 2
    assert event.fields == {"a": 1}
    assert kept == {"fields": {"a": 2}}


def test_an_async_function_is_refused() -> None:
    async def later(frame: bytes) -> None:
        """Too late."""

    with pytest.raises(TypeError, match="plain `def`"):
        FunctionDecoder(later, "later")  # type: ignore[arg-type]  # that is what is tested
    [event] = decode(lambda frame: later(frame))
    assert event.fields["error"].startswith("TypeError: the decoder returned coroutine")
