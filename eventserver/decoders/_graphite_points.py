"""One datapoint of Graphite, from a line of text or from a pickle: message, time and fields."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from functools import lru_cache, partial
from math import isfinite, isnan, nan
from typing import Any, TypeAlias

from eventserver.decoders._graphite_pickle import NotPlainData, read_pickle
from eventserver.decoders._graphite_series import Series, is_tagged, read_series

#: Message, time and fields of an event; or what is wrong; or None where there is no event.
Point: TypeAlias = tuple[str, dt.datetime, dict[str, Any]] | str | None

#: How many tagged paths are remembered, and how long they may be for that.
_PATHS_REMEMBERED, _LONGEST_REMEMBERED = 8192, 512
#: What a datapoint of a pickle may need: opcodes (11 in protocol 0, the longest form), and characters of its path on
#: the average, since a pickle can repeat a long one with two bytes.
_OPCODES_EACH, _OPCODES_BESIDES, _CHARACTERS_EACH = 16, 64, 256
#: The longest text of a number in a pickle, which can repeat it: what `%f` makes of the largest double has 316.
_LONGEST_NUMBER = 400


class Times(dict[str, dt.datetime]):
    """The time of each time stamp of a batch, remembered. Raises `ValueError` for what is none."""

    def __init__(self, received: dt.datetime) -> None:
        super().__init__()
        self._received = received

    def __missing__(self, stamp: str) -> dt.datetime:
        self[stamp] = time = self.of(_number(stamp, "time stamp"))
        return time

    def of(self, seconds: float) -> dt.datetime:
        """The time of so many seconds since 1970; -1 is when it was received. Raises `ValueError` if there is none."""
        try:
            # Carbon, too, compares the integer part.
            return self._received if int(seconds) == -1 else dt.datetime.fromtimestamp(seconds, dt.UTC)
        except (OverflowError, OSError, ValueError):
            raise ValueError(f"the time stamp {seconds!r} is out of range") from None


class Points:
    """Reads datapoints. No method raises but where it says so."""

    def __init__(self, *, keep_nan: bool, max_tags: int, max_datapoints: int) -> None:
        self._keep_nan = keep_nan
        self._max_datapoints = max_datapoints
        self._read_series = partial(read_series, max_tags=max_tags)
        self._remembered = lru_cache(maxsize=_PATHS_REMEMBERED)(self._read_series)

    def fields(self, path: str, value: float | None) -> dict[str, Any]:
        """The fields of an event."""
        if not is_tagged(path):
            return {"name": path, "value": value}
        read = self._remembered if len(path) <= _LONGEST_REMEMBERED else self._read_series
        series: Series = read(path)
        fields: dict[str, Any] = {"name": series.name, "value": value}
        if series.tags:
            fields["tags"] = series.tags
        if series.error:
            fields["error"] = series.error
        return fields

    def of_text(self, line: str, times: Times) -> Point:
        """The datapoint of a line."""
        # A fourth part is as far as a wrong line has to be cut up.
        parts = line.split(None, 3)
        if not parts:
            return None
        if len(parts) != 3:
            return "a line is a path, a value and a time stamp"
        path, number, stamp = parts
        try:
            return self._point(path, number, _number(number, "value"), times[stamp])
        except ValueError as error:
            return str(error)

    def of_bytes(self, line: bytes, times: Times) -> Point:
        """The datapoint of a line."""
        try:
            text = line.decode()
        except UnicodeDecodeError:
            return "it is not UTF-8"
        return self.of_text(text, times)

    def of_pickle(self, data: bytes, times: Times) -> list[Point]:
        """The datapoints of a pickle. Raises `NotPlainData` where it cannot be read at all."""
        most = self._max_datapoints
        items = read_pickle(data, _OPCODES_EACH * most + _OPCODES_BESIDES)
        if not isinstance(items, (list, tuple)):
            raise NotPlainData("a pickle that is no list of datapoints")
        if len(items) > most:
            raise NotPlainData(f"{len(items)} datapoints, and {most} are allowed in a pickle")
        return list(self._of_items(items, times))

    def _of_items(self, items: list[Any] | tuple[Any, ...], times: Times) -> Iterator[Point]:
        characters = _CHARACTERS_EACH * self._max_datapoints
        for item in items:
            match item:
                case ((str() | bytes()) as path, (stamp, value)) if path:
                    characters -= len(path)
                    if characters < 0:
                        raise NotPlainData("the paths of a pickle are too long together")
                    yield self._of_item(path, stamp, value, times)
                case _:
                    yield "it is not `(path, (timestamp, value))`"

    def _of_item(self, path: str | bytes, stamp: object, value: object, times: Times) -> Point:
        for part in (stamp, value):
            if isinstance(part, (str, bytes)) and len(part) > _LONGEST_NUMBER:
                return "a number that is too long"
        try:
            text = path if isinstance(path, str) else path.decode()
            # Carbon, too, has no datapoint for None.
            number = nan if value is None else _number(value, "value")
            return self._point(text, repr(number), number, times.of(_number(stamp, "time stamp")))
        except UnicodeDecodeError:
            return "its path is not UTF-8"
        except ValueError as error:
            return str(error)

    def _point(self, path: str, number: str, value: float, time: dt.datetime) -> Point:
        """Raises `ValueError` for a value that no event can carry."""
        if isnan(value):
            return (f"{path} {number}", time, self.fields(path, None)) if self._keep_nan else None
        if not isfinite(value):
            raise ValueError("the value is infinite")
        return f"{path} {number}", time, self.fields(path, value)


def _number(value: object, what: str) -> float:
    """A number, or the text of one, as a double. Raises `ValueError`."""
    try:
        if isinstance(value, (float, int, str, bytes)):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"the {what} is no number")
