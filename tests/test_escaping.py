"""Text from peers, made harmless."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventserver._escaping import escape_path, escape_text

#: Any text at all, lone surrogates included.
anything = st.text(st.characters(exclude_categories=()))
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, é 漢 \U0001f600", "plain text, é 漢 \U0001f600"),
        ("two\nlines\r\n", "two\\x0alines\\x0d\\x0a"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("tab\tnul\0del\x7f", "tab\\x09nul\\x00del\\x7f"),
        ("C1 \x85\x9b", "C1 \\x85\\x9b"),
        ("line\u2028paragraph\u2029", "line\\u2028paragraph\\u2029"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("no\u00a0break", "no\u00a0break"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_what_is_unsafe_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert escape_text(text) == shown


def test_every_bidirectional_control_is_escaped() -> None:
    assert escape_text(BIDI) == "".join(f"\\u{ord(c):04x}" for c in BIDI)


@settings(max_examples=200, deadline=None)
@given(anything)
def test_escaped_text_is_one_line_without_control_characters(text: str) -> None:
    escaped = escape_text(text)
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in BIDI for c in escaped)
    assert len(escaped.splitlines()) <= 1
    escaped.encode()


@pytest.mark.parametrize(
    ("text", "component"),
    [
        ("web-1.example_x", "web-1.example_x"),
        ("", "_"),
        (".", "%2E"),
        ("..", "%2E."),
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
        (".hidden", "%2Ehidden"),
        ("a/b\\c\0d", "a%2Fb%5Cc%00d"),
        ("100%", "100%25"),
        ("é", "%C3%A9"),
        ("\ud800", "%ED%A0%80"),
        ("a b\n", "a%20b%0A"),
    ],
)
def test_a_text_becomes_one_component_of_a_path(text: str, component: str) -> None:
    assert escape_path(text) == component


def test_a_component_is_cut_at_the_limit_but_never_within_an_escape() -> None:
    assert escape_path("x" * 100) == "x" * 64
    assert escape_path("x" * 63 + "/") == "x" * 63
    assert escape_path("x" * 62 + "/") == "x" * 62
    assert escape_path("x" * 61 + "/") == "x" * 61 + "%2F"
    assert escape_path("é" * 30) == "%C3%A9" * 10 + "%C3"
    assert escape_path("//", limit=2) == "_"


@settings(max_examples=200, deadline=None)
@given(anything, st.integers(1, 80))
def test_a_component_is_always_safe(text: str, limit: int) -> None:
    """Whatever the text, no separator, no leading dot, within the limit, and only whole escapes."""
    component = escape_path(text, limit)
    assert re.fullmatch(r"(?:[A-Za-z0-9_-]|%[0-9A-F]{2})(?:[A-Za-z0-9._-]|%[0-9A-F]{2})*", component)
    assert len(component) <= limit


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=7), st.text(max_size=7))
def test_different_short_texts_give_different_components(one: str, other: str) -> None:
    assert (escape_path(one, 1000) == escape_path(other, 1000)) == (one == other) or {one, other} == {"", "_"}
