"""A reader for the pickles that Graphite's senders write. It understands data, and can do nothing.

Carbon's pickle protocol is a list of `(path, (timestamp, value))` in Python's pickle format. A pickle is a program for
a small stack machine, and unpickling runs it: opcodes such as GLOBAL and REDUCE import and call whatever they name.
Here only those exist that put texts, numbers, None, tuples and lists on the stack; the first other one ends the
reading. What each opcode is and has behind it: Lib/pickletools.py of CPython, protocols 0 to 5.

Memory is bounded by the length of the pickle: each text and number is copied once, and whatever the memo repeats is
one more reference to the same object.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, Final

_HIGHEST_PROTOCOL = 5
#: No number of these needs more: bytes of a binary integer, characters of a decimal one.
_LONGEST_NUMBER = 40
_MARK: Final = object()

_i4 = struct.Struct("<i")
_u2 = struct.Struct("<H")
_u4 = struct.Struct("<I")
_u8 = struct.Struct("<Q")
_f8 = struct.Struct(">d")
#: An escape in a quoted text of protocol 0, which is what `repr` of Python 2 wrote.
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.?)", re.DOTALL)
_ESCAPED = {b"\\": b"\\", b"'": b"'", b'"': b'"', b"n": b"\n", b"r": b"\r", b"t": b"\t"}


class NotPlainData(ValueError):
    """The bytes are no pickle, no whole one, or one that is more than data. The text says what and where."""


def read_pickle(data: bytes, max_opcodes: int) -> Any:
    """The value that a pickle holds, of texts, bytes, numbers, None, tuples and lists. Raises only `NotPlainData`.

    The pickle has to end where the bytes end. Its lists may hold each other, and themselves.
    """
    reader = _Reader(data)
    opcode = start = 0
    try:
        for _ in range(max_opcodes):
            start = reader.at
            opcode = reader.byte()
            if opcode == _STOP:
                return reader.result()
            value = _VALUES.get(opcode)
            if value is not None:
                reader.stack.append(value(reader))
            else:
                _ACTIONS[opcode](reader)
    except KeyError:
        name = _NOT_DATA.get(opcode)
        said = f"{name}, which is more than data" if name else f"0x{opcode:02x}, which is no opcode of data"
        raise NotPlainData(f"byte {start} of the pickle is {said}") from None
    except (IndexError, struct.error):
        raise NotPlainData("the pickle is not whole") from None
    except (ValueError, OverflowError) as error:
        raise NotPlainData(f"byte {start} of the pickle: {str(error)[:200]}") from None
    raise NotPlainData(f"the pickle has more than {max_opcodes} opcodes")


class _Reader:
    """The bytes, how far they are read, the stack and the memo.

    Methods raise `IndexError` or `struct.error` at the end of the bytes or of the stack, `ValueError` for nonsense.
    """

    def __init__(self, data: bytes) -> None:
        self.at = 0
        self.stack: list[Any] = []
        self._data = data
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        """The one value that is left."""
        if len(self.stack) != 1 or self.stack[0] is _MARK:
            raise ValueError("not exactly one value is left at its end")
        if self.at != len(self._data):
            raise ValueError(f"{len(self._data) - self.at} bytes follow its end")
        return self.stack[0]

    # What stands behind an opcode

    def byte(self) -> int:
        """An unsigned integer of one byte."""
        self.at += 1
        return self._data[self.at - 1]

    def number(self, form: struct.Struct) -> Any:
        """A number of that form."""
        value = form.unpack_from(self._data, self.at)[0]
        self.at += form.size
        return value

    def take(self, count: int) -> bytes:
        """So many bytes."""
        taken = self._data[self.at : self.at + count]
        if len(taken) != count:
            raise IndexError
        self.at += count
        return taken

    def line(self, longest: int | None = None) -> bytes:
        """What comes before the next LF."""
        end = self._data.find(b"\n", self.at)
        if end < 0:
            raise IndexError
        line = self._data[self.at : end]
        if longest is not None and len(line) > longest:
            raise ValueError("a number that is too long")
        self.at = end + 1
        return line

    def integer_line(self) -> int:
        """A decimal integer; `00` and `01` are false and true."""
        line = self.line(_LONGEST_NUMBER)
        return line == b"01" if line in (b"00", b"01") else int(line.removesuffix(b"L"))

    def long(self) -> int:
        """An integer with its length in one byte."""
        count = self.byte()
        if count > _LONGEST_NUMBER:
            raise ValueError("a number that is too long")
        return int.from_bytes(self.take(count), "little", signed=True)

    def text_line(self) -> str:
        """A text in the encoding of protocol 0. One with lone surrogates is none."""
        text = self.line().decode("raw-unicode-escape")
        text.encode()
        return text

    def quoted_line(self) -> bytes:
        """Bytes as protocol 0 quotes them."""
        line = self.line()
        if len(line) < 2 or line[:1] not in b"'\"" or line[:1] != line[-1:]:
            raise ValueError("a text without its quotes")
        return _ESCAPE.sub(_unescape, line[1:-1])

    # The stack and the memo

    def top(self) -> Any:
        """The value on top."""
        if self.stack[-1] is _MARK:
            raise ValueError("a mark where a value should be")
        return self.stack[-1]

    def marked(self) -> list[Any]:
        """Takes what lies above the topmost mark, and the mark."""
        stack = self.stack
        position = len(stack) - 1
        while stack[position] is not _MARK:
            position -= 1
            if position < 0:
                raise ValueError("there is no mark")
        values = stack[position + 1 :]
        del stack[position:]
        return values

    def tuple_of(self, count: int) -> tuple[Any, ...]:
        """Takes so many values."""
        values = tuple(self.stack[-count:])
        if len(values) != count or _MARK in values:
            raise ValueError("too few values for a tuple")
        del self.stack[-count:]
        return values

    def extend(self, values: list[Any]) -> None:
        """Append to the list on top, from which the values were taken."""
        found = self.stack[-1]
        if not isinstance(found, list):
            raise ValueError("values for a list, and no list")
        found.extend(values)

    def keep(self, key: int) -> None:
        """Put the value on top into the memo."""
        self._memo[key] = self.top()

    def memoize(self) -> None:
        """As `keep`, under the next number."""
        self.keep(len(self._memo))

    def kept(self, key: int) -> Any:
        """A value from the memo."""
        if key not in self._memo:
            raise ValueError(f"nothing was kept under {key}")
        return self._memo[key]


def _unescape(found: re.Match[bytes]) -> bytes:
    code = found[1]
    if code[:1] == b"x" and len(code) == 3:
        return bytes([int(code[1:], 16)])
    if code not in _ESCAPED:
        raise ValueError("an escape that is not known")
    return _ESCAPED[code]


def _protocol(reader: _Reader) -> None:
    if (version := reader.byte()) > _HIGHEST_PROTOCOL:
        raise ValueError(f"protocol {version} is not known")


_STOP = ord(".")
#: Opcodes that put a value on the stack.
_VALUES: dict[int, Callable[[_Reader], Any]] = {
    ord("("): lambda reader: _MARK,
    ord("N"): lambda reader: None,
    0x88: lambda reader: True,
    0x89: lambda reader: False,
    ord("K"): _Reader.byte,
    ord("M"): lambda reader: reader.number(_u2),
    ord("J"): lambda reader: reader.number(_i4),
    0x8A: _Reader.long,
    ord("I"): _Reader.integer_line,
    ord("L"): _Reader.integer_line,
    ord("G"): lambda reader: reader.number(_f8),
    ord("F"): lambda reader: float(reader.line(_LONGEST_NUMBER)),
    0x8C: lambda reader: reader.take(reader.byte()).decode(),
    ord("X"): lambda reader: reader.take(reader.number(_u4)).decode(),
    0x8D: lambda reader: reader.take(reader.number(_u8)).decode(),
    ord("V"): _Reader.text_line,
    ord("U"): lambda reader: reader.take(reader.byte()),
    ord("C"): lambda reader: reader.take(reader.byte()),
    ord("T"): lambda reader: reader.take(reader.number(_u4)),
    ord("B"): lambda reader: reader.take(reader.number(_u4)),
    ord("S"): _Reader.quoted_line,
    ord("]"): lambda reader: [],
    ord(")"): lambda reader: (),
    ord("l"): _Reader.marked,
    ord("t"): lambda reader: tuple(reader.marked()),
    0x85: lambda reader: reader.tuple_of(1),
    0x86: lambda reader: reader.tuple_of(2),
    0x87: lambda reader: reader.tuple_of(3),
    ord("h"): lambda reader: reader.kept(reader.byte()),
    ord("j"): lambda reader: reader.kept(reader.number(_u4)),
    ord("g"): lambda reader: reader.kept(reader.integer_line()),
}
#: Opcodes that do something with what is there.
_ACTIONS: dict[int, Callable[[_Reader], Any]] = {
    0x80: _protocol,
    0x95: lambda reader: reader.number(_u8),  # the length of a frame of protocol 4, which only helps to read files
    ord("a"): lambda reader: reader.extend(list(reader.tuple_of(1))),
    ord("e"): lambda reader: reader.extend(reader.marked()),
    ord("q"): lambda reader: reader.keep(reader.byte()),
    ord("r"): lambda reader: reader.keep(reader.number(_u4)),
    ord("p"): lambda reader: reader.keep(reader.integer_line()),
    0x94: _Reader.memoize,
}
#: Opcodes that a message about data has no need of, by the names that people know.
_NOT_DATA = {
    ord("c"): "GLOBAL",
    0x93: "STACK_GLOBAL",
    ord("R"): "REDUCE",
    ord("i"): "INST",
    ord("o"): "OBJ",
    0x81: "NEWOBJ",
    0x92: "NEWOBJ_EX",
    ord("b"): "BUILD",
    ord("P"): "PERSID",
    ord("Q"): "BINPERSID",
    0x82: "EXT1",
    0x83: "EXT2",
    0x84: "EXT4",
}
