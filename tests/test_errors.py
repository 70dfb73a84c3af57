"""What logs say of an exception."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from eventserver.errors import safe_text, safe_text_and_place

HANDLER = """
import json

def on_event(text):
    return json.loads(text)
"""

OURS = """
def call(function, argument):
    return function(argument)
"""


def module(name: str, path: str, source: str) -> types.ModuleType:
    made = types.ModuleType(name)
    exec(compile(source, path, "exec"), made.__dict__)
    return made


def raised(function: Callable[..., Any], *arguments: Any) -> BaseException:
    """What a call raises, with a traceback that begins where it was called, as delivery catches it."""
    try:
        function(*arguments)
    except Exception as error:
        assert error.__traceback__ is not None  # noqa: PT017 - it is looked at by the test
        error.__traceback__ = error.__traceback__.tb_next
        return error
    raise AssertionError("nothing was raised")


def test_where_the_handlers_own_code_stood_is_said() -> None:
    handler = module("handlers", "/srv/app/handlers.py", HANDLER)
    ours = module("eventserver.handlers.python", "/lib/eventserver/handlers/python.py", OURS)
    assert safe_text_and_place(raised(ours.call, handler.on_event, "x")) == (
        "JSONDecodeError: Expecting value: line 1 column 1 (char 0) (handlers.py, line 5)"
    )


def test_nothing_is_added_where_all_of_it_is_ours() -> None:
    ours = module("eventserver.handlers.relay", "/lib/eventserver/handlers/relay.py", OURS)
    error = raised(ours.call, int, "x")
    assert safe_text_and_place(error) == safe_text(error)
    assert safe_text_and_place(KeyError("never raised")) == "KeyError: 'never raised'"
