r"""logfmt: `level=info msg="door opened" door=3 forced`, as Heroku, Go's kit and slog, and Grafana's programs write it.

There is no standard; this reads what the packages kr/logfmt and go-logfmt write and read:

| What the frame has | Verdict |
|---|---|
| `key=value`, `key="a text"` | a field; in quotes, backslashes are as in JSON and Go: `\x1b` |
| `key=` and `key=""` | an empty text |
| `key` alone | true |
| `=` or `"` inside a value without quotes | belongs to the value |
| a key twice | the last one wins |
| a quote that is not closed | the value goes to the end of the frame |
| `=` or `"` where a key should begin, or no pair at all | undecodable |
| only white space or NUL | no event |
| more than `max_keys` keys | undecodable |
"""

from __future__ import annotations

from typing import Any

from zope.interface import implementer

from eventserver.decoders._named import NamedDecoder, NamedOptions
from eventserver.decoders._pairs import LOGFMT, unescaped
from eventserver.interfaces import IDecoder


class LogfmtOptions(NamedOptions, frozen=True, kw_only=True):
    """The options of the decoder `logfmt`."""


@implementer(IDecoder)
class LogfmtDecoder(NamedDecoder):
    """One event for each line of logfmt."""

    Options = LogfmtOptions

    def __init__(self, options: LogfmtOptions | None = None) -> None:
        super().__init__(options or LogfmtOptions(), "logfmt")

    def values(self, text: str) -> tuple[str, dict[str, Any]] | None:
        """See `NamedDecoder.values`."""
        found = LOGFMT.findall(text)
        if not found:
            return None
        if "\\" in text:
            fields = {
                key: (unescaped(quoted, go=True) or plain) if equals else True
                for key, equals, quoted, plain, _ in found
            }
        else:
            fields = {key: (quoted or plain) if equals else True for key, equals, quoted, plain, _ in found}
        if "" in fields:
            raise ValueError("a key cannot begin with `=` or a quote")
        if "=" not in text:
            raise ValueError("there is no `key=value` in it")
        return "", fields
