"""The metrics page: every metric by name, and how it is read off the plain counters.

The counters are added to once a batch on the hot path; all that costs time happens here, when somebody asks.
The text is Prometheus' exposition format 0.0.4, made by prometheus_client with a registry of our own.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from eventserver.admin.status import Gauge
from eventserver.counters import Timings

#: More values of one label than this are added up as `other`: a page must not grow with what peers send.
MAX_LABEL_VALUES = 200


class Reading(NamedTuple):
    """One metric: its name, its kind (`counter` or `gauge`), its labels, what it says, and where it is read."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    read: Callable[[Any], Any]


def _reading(name: str, help: str, attribute: str, *labels: str, kind: str = "counter") -> Reading:
    return Reading(name, kind, labels, help, lambda counters: getattr(counters, attribute))


#: Read off `ListenerCounters`. A second label is the key of a counter by reason or outcome.
LISTENER = (
    _reading(
        "eventserver_frames_received_total",
        "Frames cut from what peers sent, those rejected later among them.",
        "received",
        "listener",
    ),
    _reading("eventserver_frames_journaled_total", "Frames that the intake took.", "journaled", "listener"),
    _reading(
        "eventserver_frames_duplicate_total",
        "Frames that their sender sent again and that the journal has: acknowledged, and not journaled twice.",
        "duplicates",
        "listener",
    ),
    _reading(
        "eventserver_frames_acknowledged_total",
        "Frames whose sender was told that what `ack` promises is kept.",
        "acknowledged",
        "listener",
    ),
    _reading("eventserver_frames_rejected_total", "Frames refused, by reason.", "rejected", "listener", "reason"),
    _reading("eventserver_frames_truncated_total", "Frames kept, but cut at `max_frame`.", "truncated", "listener"),
    _reading(
        "eventserver_datagrams_dropped_by_kernel_total",
        "Datagrams that the kernel dropped because its buffer was full: raise `receive_buffer`.",
        "kernel_drops",
        "listener",
    ),
    _reading("eventserver_received_bytes_total", "Bytes read from peers.", "bytes", "listener"),
    _reading("eventserver_connections", "Connections open now.", "connections", "listener", kind="gauge"),
    _reading("eventserver_connections_accepted_total", "Connections accepted.", "connections_total", "listener"),
    _reading(
        "eventserver_connections_closed_total",
        "Connections that the server closed or refused, by reason.",
        "closed",
        "listener",
        "reason",
    ),
    _reading(
        "eventserver_connections_detected_total",
        'Connections by what their peers speak, where that is found out (`type = "auto"`); `tls` besides what is'
        " inside of it.",
        "protocols",
        "listener",
        "protocol",
    ),
    _reading(
        "eventserver_replies_total",
        "Replies by outcome: `sent`, `gone` (no connection any more), `repeated` (answered before); `unsent` are those"
        " of `sent` that the kernel refused.",
        "replies",
        "listener",
        "outcome",
    ),
)

#: Read off `HandlerCounters`.
HANDLER = (
    _reading("eventserver_frames_passed_total", "Frames that the handler is done with.", "passed", "handler"),
    _reading(
        "eventserver_frames_pending_at_start",
        "Frames that the journal had for the handler when the server started.",
        "pending_at_start",
        "handler",
        kind="gauge",
    ),
    _reading(
        "eventserver_frames_expired_total",
        'Frames that the handler never got, because of `when_full = "drop_oldest"`.',
        "expired",
        "handler",
    ),
    _reading(
        "eventserver_events_decoded_total",
        "Events in the frames that reached the handler (frames, where it takes frames).",
        "decoded",
        "handler",
    ),
    _reading("eventserver_events_delivered_total", "Events that the handler is done with.", "delivered", "handler"),
    _reading("eventserver_events_filtered_total", "Events that `match` or a step kept away.", "filtered", "handler"),
    _reading("eventserver_events_dead_lettered_total", "Events given up.", "dead_lettered", "handler"),
    _reading(
        "eventserver_events_parked",
        "Events that failed and wait apart for another attempt, now.",
        "parked",
        "handler",
        kind="gauge",
    ),
    _reading(
        "eventserver_events_parked_at_start",
        "Events that waited apart when the server started, and dead letters that were to be tried again since.",
        "parked_at_start",
        "handler",
        kind="gauge",
    ),
    _reading(
        "eventserver_events_redelivered_total", "Events handed over again after a failure.", "redelivered", "handler"
    ),
    _reading(
        "eventserver_dead_letters_forgotten_total",
        "Dead letters that were forgotten because `dead_letters` was full; with a journal on disk none is.",
        "forgotten",
        "handler",
    ),
    _reading("eventserver_handler_calls_total", "Calls of the handler.", "calls", "handler"),
    _reading(
        "eventserver_events_ignored_total",
        "Events among the delivered ones that the handler could make nothing of, by reason.",
        "ignored",
        "handler",
        "reason",
    ),
    _reading(
        "eventserver_handler_failures_total",
        "Failed calls by kind: `temporary`, `permanent`, `partial`, `error`, `timeout`.",
        "failures",
        "handler",
        "kind",
    ),
)

#: What `IStatus.gauges` may name, counters (`..._total`) among them: the labels, and what it says.
GAUGES: dict[str, tuple[tuple[str, ...], str]] = {
    "eventserver_handler_lag_frames": (("handler",), "Frames in the journal that the handler has not passed."),
    "eventserver_handler_lag_bytes": (("handler",), "Bytes in the journal that the handler has not passed."),
    "eventserver_handler_lag_seconds": (("handler",), "Age of the oldest frame that the handler has not passed."),
    "eventserver_handler_unwell": (
        ("handler",),
        "1 while the handler waits: its destination is unwell, a call does not end, or dead letters find no room.",
    ),
    "eventserver_tls_certificate_expiry_timestamp_seconds": (
        ("listener",),
        "When the certificate that clients are shown ends, in seconds since 1970. Where there is TLS.",
    ),
    "eventserver_intake_paused": ((), "1 while listeners are paused because a bound is reached."),
    "eventserver_journal_bytes": ((), "Bytes that the journal holds."),
    "eventserver_journal_max_bytes": ((), "The bound of the journal."),
    "eventserver_journal_head": ((), "The position behind the last frame that was taken; it counts frames."),
    "eventserver_journal_committed": ((), "The position behind the last frame that is committed."),
    "eventserver_journal_first": ((), "The position before the oldest frame kept. Here and below: on disk only."),
    "eventserver_journal_unwell": ((), "1 while the journal cannot store anything (disk full, ...)."),
    "eventserver_journal_accepting": ((), "0 while nothing is taken because the journal is unwell."),
    "eventserver_journal_segments": ((), "Files that hold frames."),
    "eventserver_journal_disk_bytes": ((), "Bytes that these files take."),
    "eventserver_journal_disk_errors_total": ((), "How often the disk has failed."),
    "eventserver_journal_lost_frames": ((), "Frames that were on the disk and could not be read any more."),
    "eventserver_journal_lost_dead_letters_total": ((), "Dead letters and parked events that could not be read."),
    "eventserver_journal_meta_apart_total": ((), "Copies of `meta.db` in `quarantine`, since not all could be read."),
    "eventserver_journal_keys": ((), "Names that senders gave to what they sent, remembered to recognise repeats."),
    "eventserver_journal_commits_total": ((), "Group commits."),
    "eventserver_journal_commit_seconds": (
        (),
        "How long group commits took, from when the frames were handed over until they were safe on the disk.",
    ),
    "eventserver_journal_dead_letter_bytes": ((), "Bytes that dead letters take."),
    "eventserver_journal_dead_letters": (("handler",), "Events that the handler gave up, and that are kept."),
    "eventserver_events_replayed_total": (
        ("handler", "outcome"),
        "Events of replays, which are in no sum, by outcome: `delivered`, `filtered`, `dead_lettered`; `expired` are"
        " frames that had to be freed before their turn.",
    ),
    "eventserver_journal_cursor": (("handler",), "The position of each cursor, those of removed handlers among them."),
}

#: Those among them that are histograms.
HISTOGRAMS = frozenset({"eventserver_journal_commit_seconds"})

#: Metrics about the whole server.
SERVER = {
    "eventserver_build_info": (("version", "python", "twisted"), "Always 1; the labels say what is running."),
    "eventserver_ready": ((), "1 if `/ready` answers 200, else 0."),
}


def kind_of(name: str) -> str:
    """`counter` for what only grows, and is called `..._total`; `histogram` for times; else `gauge`."""
    if name in HISTOGRAMS:
        return "histogram"
    return "counter" if name.endswith("_total") else "gauge"


class StatusCollector(Collector):
    """Reads the counters of an `IStatus` when the page is asked for."""

    def __init__(self, status: Any) -> None:
        self._status = status
        # Each is read from a file.
        self._versions = version("eventserver"), platform.python_version(), version("twisted")

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry would otherwise collect once at start, before anything runs."""
        return ()

    def collect(self) -> Iterable[Metric]:
        labels, text = SERVER["eventserver_build_info"]
        build = GaugeMetricFamily("eventserver_build_info", text, labels=labels)
        build.add_metric(self._versions, 1)
        yield build
        ready = GaugeMetricFamily("eventserver_ready", SERVER["eventserver_ready"][1], labels=())
        ready.add_metric((), int(not self._status.ready()))
        yield ready
        for reading in LISTENER:
            yield _family(reading, self._status.listeners())
        for reading in HANDLER:
            yield _family(reading, self._status.handlers())
        yield from _gauges(self._status.gauges())


def _family(reading: Reading, owners: Mapping[str, Any]) -> Metric:
    make = CounterMetricFamily if reading.kind == "counter" else GaugeMetricFamily
    family = make(reading.name, reading.help, labels=reading.labels)
    for name, counters in owners.items():
        value = reading.read(counters)
        if len(reading.labels) == 1:
            family.add_metric((name,), value)
            continue
        for key, number in _bounded(value).items():
            family.add_metric((name, key), number)
    return family


def _bounded(counter: Mapping[str, int]) -> Mapping[str, int]:
    """The counter with at most `MAX_LABEL_VALUES` keys; what is over is added up as `other`."""
    if len(counter) <= MAX_LABEL_VALUES:
        return counter
    kept = dict(list(counter.items())[: MAX_LABEL_VALUES - 1])
    kept["other"] = kept.get("other", 0) + sum(counter.values()) - sum(kept.values())
    return kept


_FAMILIES: Mapping[str, Any] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def _gauges(gauges: Iterable[Gauge]) -> Iterable[Metric]:
    families: dict[str, Any] = {}
    for name, labels, value in gauges:
        names, text = GAUGES[name]
        if name not in families:
            families[name] = _FAMILIES[kind_of(name)](name, text, labels=names)
        given = [labels[label] for label in names]
        if isinstance(value, Timings):
            families[name].add_metric(given, value.buckets(), value.sum)
        else:
            families[name].add_metric(given, value)
    return families.values()


class Page:
    """The metrics page of one service."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, status: Any) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(StatusCollector(status))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def text(self) -> bytes:
        """The page as it is now."""
        return generate_latest(self._registry)
