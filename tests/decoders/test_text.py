"""The decoder `text`."""

from __future__ import annotations

import copy
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from eventserver import options
from eventserver.decoders.text import TextDecoder, TextOptions
from eventserver.testing.decoders import RECEIVED, DecoderConformance, batch


class TestTextConformance(DecoderConformance):
    """The contract of every decoder."""

    def make(self) -> TextDecoder:
        return TextDecoder()

    def samples(self) -> list[bytes]:
        return [b"hello", "grüße".encode(), b"a\tb"]


class TestLatin1Conformance(TestTextConformance):
    """The contract, with another encoding."""

    def make(self) -> TextDecoder:
        return TextDecoder(TextOptions(encoding="latin-1"))


class TestUtf16Conformance(TestTextConformance):
    """The contract, with an encoding whose frames cannot be joined."""

    def make(self) -> TextDecoder:
        return TextDecoder(TextOptions(encoding="utf-16-le"))

    def samples(self) -> list[bytes]:
        return ["hello".encode("utf-16-le"), "grüße\n".encode("utf-16-le")]


def test_the_text_of_a_frame_is_the_message() -> None:
    [event] = TextDecoder().decode(batch(b"hello, world"))
    assert (event.type, event.message, event.fields, event.time) == ("text", "hello, world", {}, RECEIVED)
    assert event.raw is UNSET
    assert event.raw_base64 is UNSET


def test_an_empty_frame_is_an_event_with_an_empty_message() -> None:
    assert [e.message for e in TextDecoder().decode(batch(b"", b"a", b""))] == ["", "a", ""]


def test_a_frame_with_line_feeds_stays_one_event() -> None:
    assert [e.message for e in TextDecoder().decode(batch(b"a\nb", b"c"))] == ["a\nb", "c"]


def test_bytes_that_are_not_utf8_are_replaced_and_kept_raw() -> None:
    """Only the frame concerned has them; its neighbours are as if nothing had happened."""
    before, bad, after = TextDecoder().decode(batch("vörher".encode(), b"caf\xe9!", b"after"))
    assert (bad.type, bad.message, bad.raw_base64, bad.raw) == ("text", "caf�!", b"caf\xe9!", UNSET)
    assert (before.message, before.raw_base64) == ("vörher", UNSET)
    assert (after.message, after.raw_base64) == ("after", UNSET)


def test_a_character_that_truncation_cut_is_left_out() -> None:
    """The mark says already that the end is missing; without it the half character is a fault."""
    cut = "café".encode()[:-1]
    [marked] = TextDecoder().decode(batch(cut, marks={0: ("truncated",)}))
    [unmarked] = TextDecoder().decode(batch(cut))
    assert (marked.message, marked.raw_base64) == ("caf", UNSET)
    assert (unmarked.message, unmarked.raw_base64) == ("caf�", cut)


def test_a_truncated_frame_that_is_wrong_elsewhere_keeps_its_bytes() -> None:
    [event] = TextDecoder().decode(batch(b"\xffabc\xc3", marks={0: ("truncated",)}))
    assert event.raw_base64 == b"\xffabc\xc3"


@pytest.mark.parametrize(
    ("encoding", "data", "text"),
    [
        ("latin-1", b"caf\xe9", "café"),
        ("cp1252", b"5 \x80", "5 €"),
        ("shift_jis", "表示".encode("shift_jis"), "表示"),
        ("utf-16-le", "a\nä".encode("utf-16-le"), "a\nä"),
    ],
)
def test_the_encoding_is_a_setting(encoding: str, data: bytes, text: str) -> None:
    first, second = TextDecoder(TextOptions(encoding=encoding)).decode(batch(data, data))
    assert (first.message, second.message, first.raw_base64) == (text, text, UNSET)


def test_an_unreadable_byte_of_a_joined_frame_does_not_eat_the_next_frame() -> None:
    """A lead byte at the end of a frame, in an encoding of two bytes a character, ends with its frame."""
    first, second = TextDecoder(TextOptions(encoding="gbk")).decode(batch(b"a\x81", b"b"))
    assert (first.message[0], second.message) == ("a", "b")


@pytest.mark.parametrize(
    "encoding", ["utf8x", "hex", "rot13", "idna", "utf-7", "unicode_escape", "undefined", "a\0b", ""]
)
def test_encodings_that_cannot_be_used_are_wrong_settings(encoding: str) -> None:
    made, problems = options.parse(TextOptions, {"encoding": encoding})
    assert made is None
    assert [key for key, _ in problems] == ["encoding"]


def test_the_type_of_the_events_is_a_setting() -> None:
    [event] = TextDecoder(TextOptions(event_type="banner")).decode(batch(b"x"))
    assert event.type == "banner"


@given(st.lists(st.binary(max_size=12), max_size=6))
def test_joined_or_not_the_text_is_the_same(frames: list[bytes]) -> None:
    """Decoding a batch in one call is only faster."""
    decoder = TextDecoder()
    assert [e.message for e in decoder.decode(batch(*frames))] == [f.decode(errors="replace") for f in frames]


def test_nobody_adds_to_the_fields_of_all_events() -> None:
    """Those without fields share one dictionary, which is read-only."""
    one, two = TextDecoder().decode(batch(b"a", b"b"))
    for add in (
        lambda: one.fields.__setitem__("a", 1),
        lambda: one.fields.update(a=1),
        lambda: one.fields.setdefault("a", 1),
        lambda: one.fields.__ior__({"a": 1}),
    ):
        with pytest.raises(TypeError, match="read-only"):
            add()
    assert (one.fields, two.fields, one.fields | {"a": 1}) == ({}, {}, {"a": 1})
    assert msgspec.json.encode(one.fields) == b"{}"
    for own in (
        one.fields.copy(),
        copy.copy(one.fields),
        copy.deepcopy(one).fields,
        pickle.loads(pickle.dumps(one.fields)),
    ):
        own["a"] = 1
        assert type(own) is dict
    assert two.fields == {}
