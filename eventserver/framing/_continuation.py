"""The rules of `multiline`: does a line go on with the event before it?"""

from __future__ import annotations

import re
from collections.abc import Callable

from eventserver._patterns import compile_pattern

#: Bytes of a line that a rule looks at.
MATCHED = 1024

#: Called with every line of a stream in order; True if the line belongs to the event before it.
Rule = Callable[[bytes], bool]

_JAVA = re.compile(rb"[\t ]+at |[\t ]*(?:Caused by|Suppressed): |[\t ]*\.\.\. [0-9]+ ")
_PYTHON_TRACEBACK = re.compile(rb"(?:  \+ Exception Group )?Traceback \(most recent call last\):")
_PYTHON_SYNTAX_ERROR = b'  File "'  # it comes without a traceback
_PYTHON_GROUP_END = re.compile(rb" +\+-+$")
_PYTHON_CHAIN = re.compile(
    rb"During handling of the above exception, another exception occurred:"
    rb"|The above exception was the direct cause of the following exception:"
)
_INDENT = (b" ", b"\t")


def start_rule(pattern: str) -> Rule:
    """A line in which `pattern` is found begins an event; every other line goes on."""
    found = compile_pattern(pattern)
    return lambda line: not found(line[:MATCHED].decode(errors="replace"))


def indented(line: bytes) -> bool:
    """Lines that begin with a space or a tab go on."""
    return line.startswith(_INDENT)


def java(line: bytes) -> bool:
    r"""The frames of a stack trace go on: `\tat ...`, `... 12 more`, `Caused by: ...`, `Suppressed: ...`."""
    return _JAVA.match(line, 0, MATCHED) is not None


class Python:
    """A traceback goes on with the line before it, which is its message where `logging` wrote it.

    The traceback is followed by the exception's line, and that by notes (indented) and by further tracebacks, each
    after an empty line, "During handling of ..." or "The above exception was the direct cause ...", and another
    empty line (where the framing returns empty lines). An exception group has no such line: it ends with a rule of
    dashes. See the documentation of the module `traceback`.
    """

    def __init__(self) -> None:
        self._rule: Rule = self._outside

    def __call__(self, line: bytes) -> bool:
        return self._rule(line)

    def _outside(self, line: bytes) -> bool:
        if _PYTHON_TRACEBACK.match(line) or line.startswith(_PYTHON_SYNTAX_ERROR):
            self._rule = self._frames
            return True
        return False

    def _frames(self, line: bytes) -> bool:
        # Either the line that names the exception, or the end of a group of them.
        if (line and not line.startswith(_INDENT)) or _PYTHON_GROUP_END.match(line, 0, MATCHED):
            self._rule = self._after
        return True

    def _after(self, line: bytes) -> bool:
        if not line:
            self._rule = self._after_empty
            return True
        if line.startswith(_INDENT) and not _PYTHON_TRACEBACK.match(line):
            return True
        return self._after_empty(line)

    def _after_empty(self, line: bytes) -> bool:
        if _PYTHON_CHAIN.match(line):
            self._rule = self._chain
            return True
        # A traceback that nothing chains to this one is an event of its own.
        self._rule = self._frames if _PYTHON_TRACEBACK.match(line) else self._outside
        return False

    def _chain(self, line: bytes) -> bool:
        if not line:
            return True
        self._rule = self._outside
        return self._outside(line)


def rule_of(start: str | None, mode: str | None) -> Rule:
    """The rule that the settings ask for; a fresh one for each stream."""
    if start is not None:
        return start_rule(start)
    if mode == "python":
        return Python()
    return java if mode == "java" else indented
