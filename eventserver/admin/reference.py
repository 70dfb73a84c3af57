"""The reference page of metrics, made from the code: `python -m eventserver.admin.reference docs/metrics.md`.

With `--check` nothing is written: the exit code is 1 if the page is not what the code says.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from eventserver.admin.metrics import GAUGES, HANDLER, LISTENER, SERVER, kind_of

_HEAD = """\
# Metrics

With `[admin] endpoint = "tcp:9514:interface=127.0.0.1"` the server answers `GET /metrics` in Prometheus' text format.
Counters start at zero with the process. They balance, which makes losses visible:

- frames, by listener: received = journaled + the sum of rejected;
- frames, by handler: pending at start + journaled (of all listeners) = passed + expired + lag;
- events, by handler: decoded + parked at start = delivered + filtered + dead-lettered + parked now.

A label has at most 200 values; what is over is added up as `other`.
"""

_TAIL = """\
## The process

`process_*` (CPU, memory, descriptors, start time) and `python_gc_*` are those of `prometheus_client`.

## An example for Prometheus

```yaml
scrape_configs:
  - job_name: eventserver
    authorization: {credentials_file: /etc/prometheus/eventserver.token}   # only with a `token`
    static_configs: [{targets: ["127.0.0.1:9514"]}]
```
"""


def page() -> str:
    """The page, as it should be."""
    server = [(name, "gauge", labels, text) for name, (labels, text) in SERVER.items()]
    gauges = [(name, kind_of(name), labels, text) for name, (labels, text) in GAUGES.items()]
    listener = [(r.name, r.kind, r.labels, r.help) for r in LISTENER]
    handler = [(r.name, r.kind, r.labels, r.help) for r in HANDLER]
    sections = (
        ("Listeners", listener),
        ("Handlers", handler + [row for row in gauges if row[2]]),
        ("The server", server + [row for row in gauges if not row[2]]),
    )
    tables = [f"## {title}\n\n{_table(rows)}" for title, rows in sections]
    return "\n".join([_HEAD, *tables, _TAIL])


def _table(rows: Iterable[tuple[str, str, Sequence[str], str]]) -> str:
    lines = ["| Metric | Kind | Labels | Meaning |", "|---|---|---|---|"]
    for name, kind, labels, text in rows:
        lines.append(f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {text} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Writes the page, or with `--check` compares it; returns the exit code."""
    check = "--check" in arguments
    path = Path(next(a for a in arguments if not a.startswith("-")))
    if not check:
        path.write_text(page())
        return 0
    if path.is_file() and path.read_text() == page():
        return 0
    sys.stderr.write(f"{path} is not what the code says; run: python -m eventserver.admin.reference {path}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
