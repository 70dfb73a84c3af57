"""From events to the names of files, which never leave their folder."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from eventserver._escaping import escape_path
from eventserver._template import Template
from eventserver.event import Batch, Event

#: A component of a path is at most this long on every common file system (NAME_MAX).
_NAME_MAX = 255
_LITERAL = re.compile(r"(?:[^{]|\{\{)*")
_TIME = re.compile(r"\{(?:time|received)(?::([^{}]*))?\}")
_FINER_THAN_HOURS = re.compile(r"%[^YmdHjyGVuwUWbBaAIp%]")


class PathTemplate:
    """A path with places for an event's values, such as `/var/log/{listener}-{time:%Y-%m-%d}.jsonl`.

    `base` is the folder before the first place; all else is relative to it. Values are escaped, so that one is part of
    one component; a component that would be empty, `.` or `..` becomes `_`. Raises `ValueError` with a sentence.
    """

    def __init__(self, text: str) -> None:
        literal = _LITERAL.match(text)
        prefix = literal[0] if literal is not None else ""
        folder, slash, start = prefix.rpartition("/")
        rest = start + text[len(prefix) :]
        if "\0" in text or rest in ("", ".", "..") or rest.endswith("/"):
            raise ValueError(f"`{text}` names no file")
        if ".." in rest.split("/"):
            raise ValueError(f"`{text}` has `..` behind the first place; the path must stay in its folder")
        self.text = text
        self.base = (folder or slash or ".").replace("{{", "{").replace("}}", "}")
        self._template = Template(rest, escape_path)
        self.names = self._template.names
        #: The one file's name, where the path has no places.
        self.literal = None if self.names else _safe(rest.replace("{{", "{").replace("}}", "}"))
        #: Without looking at events: the path depends on nothing but the listener.
        self.of_listener = self.names <= {"listener"}
        self._hourly = self.names <= {"listener", "time", "received"} and not any(
            form == "" or _FINER_THAN_HOURS.search(form) for form in _TIME.findall(rest)
        )
        self._safe = functools.lru_cache(4096)(_safe)

    def path_of(self, event: Event) -> str:
        """The file of one event, relative to `base`."""
        return self._safe(self._template.render(event))

    def group(self, events: list[Event]) -> dict[str, list[Event]]:
        """The events by file, in order."""
        if self.literal is not None:
            return {self.literal: events}
        if self._hourly and self._all_alike(events):
            return {self.path_of(events[0]): events}
        groups: dict[str, list[Event]] = {}
        render = self._template.render
        for event in events:
            path = render(event)
            group = groups.get(path)
            if group is None:
                groups[path] = [event]
            else:
                group.append(event)
        safe: dict[str, list[Event]] = {}
        for path, group in groups.items():
            safe.setdefault(self._safe(path), []).extend(group)
        return safe

    def group_batches(self, batches: Sequence[Batch]) -> dict[str, list[Batch]]:
        """The batches by file, in order; only where `of_listener`."""
        groups: dict[str, list[Batch]] = {}
        for batch in batches:
            stand_in = Event(batch.id, batch.received, batch.received, batch.listener, "", "")
            groups.setdefault(self.path_of(stand_in), []).append(batch)
        return groups

    def _all_alike(self, events: list[Event]) -> bool:
        """Whether all events have one listener, and times within one hour: then one look is enough for all."""
        listener = events[0].listener
        if "listener" in self.names and any(event.listener != listener for event in events):
            return False
        for name in self.names & {"time", "received"}:
            times = [event.time for event in events] if name == "time" else [event.received for event in events]
            first, last = min(times), max(times)
            if (first.hour, first.date()) != (last.hour, last.date()):
                return False
        return True


def _safe(path: str) -> str:
    return "/".join("_" if part in ("", ".", "..") else _cut(part) for part in path.split("/"))


def _cut(component: str) -> str:
    data = component.encode("utf-8", "surrogatepass")
    return component if len(data) <= _NAME_MAX else data[:_NAME_MAX].decode("utf-8", "ignore")
