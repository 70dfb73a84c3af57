"""What the handler `statsd` makes of metrics: sums, figures, names, and the bounds of what it holds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from eventserver.decoders.graphite import GraphiteDecoder
from eventserver.decoders.statsd import StatsdDecoder
from eventserver.event import Event
from eventserver.handlers._statsd_figures import Aggregation, Interval
from eventserver.handlers._statsd_graphite import LEGACY, Names, Path, lines, number, path_of
from eventserver.handlers._statsd_prometheus import Totals, series_of
from eventserver.handlers._statsd_timers import label, timer_figures
from eventserver.testing.decoders import batch
from tests.handlers.fakes import make_event


def metrics(*texts: str) -> list[Event]:
    return StatsdDecoder().decode(batch(*[text.encode() for text in texts]))


def aggregation(**changes: Any) -> Aggregation:
    limits = {"max_names": 1000, "max_values": 1000, "delete_idle": False, "timed": True}
    return Aggregation(path_of, changes.pop("ignored", Counter()), **limits | changes)


def by_name(series: dict[Any, Any]) -> dict[str, Any]:
    return {name + tags: value for (name, tags), value in series.items()}


def flushed(one: Aggregation, *texts: str) -> Interval:
    one.add(metrics(*texts))
    return one.flush()


class TestAggregation:
    def test_counters_are_sums_weighted_by_the_sample_rate(self) -> None:
        assert by_name(flushed(aggregation(), "n:1|c", "n:2|c|@0.5", "n:-1|c", "m:3|c").counters) == {"n": 4, "m": 3}

    def test_a_counter_never_becomes_infinite_by_one_line(self) -> None:
        """On Prometheus' page it would stay so until the server is stopped."""
        interval = flushed(aggregation(), "a:1e299|c|@1e-200", "a:2|c")
        assert (by_name(interval.counters), interval.ignored) == ({"a": 2}, 1)

    def test_gauges_keep_their_value_and_take_changes(self) -> None:
        one = aggregation()
        assert by_name(flushed(one, "g:5|g", "g:+3|g", "g:-1|g", "new:-2|g").gauges) == {"g": 7, "new": -2}
        assert by_name(flushed(one).gauges) == {"g": 7, "new": -2}
        assert by_name(flushed(one, "g:+1|g").gauges) == {"g": 8, "new": -2}

    def test_sets_count_different_members(self) -> None:
        one = aggregation()
        assert by_name(flushed(one, "s:a|s", "s:b|s", "s:a|s", "t:|s", "t:0|s").sets) == {"s": 2, "t": 1}
        assert by_name(flushed(one, "s:a|s").sets) == {"s": 1, "t": 0}

    def test_timers_histograms_and_distributions_have_values(self) -> None:
        timers = by_name(flushed(aggregation(), "t:1|ms", "t:3|ms|@0.1", "h:2|h", "d:2:3|d").timers)
        assert {name: (list(timer.values), timer.count) for name, timer in timers.items()} == {
            "t": ([1, 3], 11), "h": ([2], 1), "d": ([2, 3], 2),
        }  # fmt: skip

    def test_the_order_of_tags_is_nothing_and_their_values_are(self) -> None:
        found = flushed(aggregation(), "n:1|c|#b:2,a:1", "n:1|c|#a:1,b:2", "n:1|c|#a:1,b:3", "n:1|c")
        assert by_name(found.counters) == {"n;a=1;b=2": 2, "n;a=1;b=3": 1, "n": 1}

    def test_values_with_a_time_are_kept_by_it(self) -> None:
        found = flushed(aggregation(), "n:1|c|T5", "n:2|c|T5", "n:4|c|T6", "g:1|g|T5", "g:2|g|T5", "n:1|c", "t:1|ms|T5")
        assert {(kind, key[0], second): value for (kind, key, second), value in found.timed.items()} == {
            ("counter", "n", 5): 3, ("counter", "n", 6): 4, ("gauge", "g", 5): 2,
        }  # fmt: skip
        assert by_name(found.counters) == {"n": 1}
        assert by_name(flushed(aggregation(timed=False), "n:1|c|T5").counters) == {"n": 1}

    def test_idle_series_are_sent_with_nothing_or_not_at_all(self) -> None:
        texts = ("c:1|c", "g:1|g", "t:1|ms", "s:1|s")
        kept, dropped = aggregation(), aggregation(delete_idle=True)
        for one in (kept, dropped):
            assert flushed(one, *texts).size == 5
        idle = flushed(kept)
        assert (by_name(idle.counters), by_name(idle.gauges), by_name(idle.sets)) == ({"c": 0}, {"g": 1}, {"s": 0})
        assert flushed(dropped) == Interval({}, {}, {}, {}, {}, 0, 0)
        assert dropped.names == 0
        assert by_name(flushed(dropped, "g:+2|g").gauges) == {"g": 2}

    def test_a_gauge_of_the_interval_before_is_known_where_idle_ones_go(self) -> None:
        one = aggregation(delete_idle=True)
        flushed(one, "g:5|g")
        assert by_name(flushed(one, "g:+1|g").gauges) == {"g": 6}

    def test_there_are_at_most_max_names_series_and_idle_ones_make_room(self) -> None:
        """Of whatever type. A name that is known is taken all the time."""
        ignored: Counter[str] = Counter()
        one = aggregation(max_names=3, ignored=ignored)
        found = flushed(one, "a:1|c", "b:1|g", "c:1|ms", "d:1|c", "e:1|s", "f:1|c|T5", "a:1|c")
        assert ignored == {"too_many_names": 3}
        assert (found.received, found.ignored, found.counters) == (4, 3, {Path("a", ""): 2})
        assert one.names == 3
        # The flush above had room made: none of these is idle.
        flushed(one, "a:1|c", "d:1|c")
        assert ignored == {"too_many_names": 4}
        assert by_name(flushed(one, "d:1|c").counters) == {"a": 0, "d": 1}
        assert ignored == {"too_many_names": 4}

    def test_an_interval_has_at_most_max_values_values(self) -> None:
        ignored: Counter[str] = Counter()
        one = aggregation(max_values=3, ignored=ignored)
        found = flushed(one, "t:1|ms", "t:2|ms", "s:a|s", "s:a|s", "s:b|s", "t:3|ms", "u:1|h")
        assert ignored == {"too_many_values": 3}
        assert (found.sets, found.received) == ({Path("s", ""): 1}, 4)
        assert flushed(one, "t:1|ms", "t:2|ms").received == 2

    def test_what_is_no_metric_is_counted(self) -> None:
        ignored: Counter[str] = Counter()
        one = aggregation(ignored=ignored)
        wrong: list[dict[str, Any]] = [
            {},
            {"name": "n"},
            {"name": "n", "metric_type": "counter", "value": "1"},
            {"name": "n", "metric_type": "counter", "value": True},
            {"name": "n", "metric_type": "counter", "value": float("nan")},
            {"name": "n", "metric_type": "counter", "value": 10**400},
            {"name": "n", "metric_type": "counter", "value": 1, "sample_rate": 0},
            {"name": "n", "metric_type": "counter", "value": 1, "sample_rate": "1"},
            {"name": "n", "metric_type": "counter", "value": 1, "timestamp": "5"},
            {"name": "n", "metric_type": "meter", "value": 1},
            {"name": "n", "metric_type": ["counter"], "value": 1},
            {"name": "n", "metric_type": "set", "value": 1},
            {"name": 5, "metric_type": "counter", "value": 1},
        ]
        one.add([make_event(fields=fields) for fields in wrong])
        assert ignored == {"not_a_metric": 2, "bad_metric": len(wrong) - 2}
        one.add(metrics("/:1|c", "é:1|c", "x" * 2000 + ":1|c", "t:-1|ms", "h:-1|h", "nonsense", "_sc|x|0"))
        bad = one.flush()
        assert ignored == {"not_a_metric": 3, "bad_metric": len(wrong) - 1, "bad_name": 2, "negative_timer": 1}
        assert (bad.received, bad.ignored) == (2, ignored.total() - 3)

    def test_metrics_of_other_decoders_are_metrics(self) -> None:
        """JSON with the same fields, tags that are new objects in each event, and odd ones."""
        one = aggregation()
        fields = {"name": "n", "metric_type": "counter", "value": 2}
        one.add([make_event(fields={**fields, "tags": {"a": 1}}) for _ in range(5)])
        one.add([make_event(fields={**fields, "tags": tags}) for tags in (["a"], "a", 5, {}, None)])
        assert by_name(one.flush().counters) == {"n;a=1": 10, "n": 10}

    @given(st.lists(st.sampled_from(["a:1|c", "b:2|g", "b:+1|g", "c:3|ms", "c:x|s", "d:1|c|T7", "e:-1|ms", "bad"])))
    def test_what_is_received_and_ignored_is_everything(self, texts: list[str]) -> None:
        ignored: Counter[str] = Counter()
        one = aggregation(max_names=3, max_values=2, ignored=ignored)
        events = metrics(*texts)
        one.add(events)
        found = one.flush()
        assert found.received + found.ignored == len(events)
        assert found.ignored == ignored.total()
        assert one.names <= 3

    def test_what_is_remembered_of_names_is_bounded(self) -> None:
        one = aggregation(max_names=5)
        for number_of in range(0, 30_000, 1000):
            one.add([make_event(fields={"name": f"n{number_of + each}", "metric_type": "counter", "value": 1,
                                        "tags": {"a": "b"} if each % 2 else {}}) for each in range(1000)])  # fmt: skip
        assert len(one._keys) + len(one._tagged) <= 10_000


class TestTimers:
    def test_the_figures_of_statsds_documentation(self) -> None:
        """docs/metric_types.md: 450, 120, 553, 994, 334, 844, 675, 496 with a threshold of 90."""
        figures = timer_figures([450, 120, 553, 994, 334, 844, 675, 496], 8, 10, [90])
        assert figures["mean_90"] == pytest.approx(496)
        assert figures["upper_90"] == 844
        assert figures["sum_90"] == 3472
        assert (figures["upper"], figures["lower"], figures["count"], figures["count_ps"]) == (994, 120, 8, 0.8)
        assert figures["sum"] == 4466
        assert figures["mean"] == pytest.approx(558.25)
        assert figures["median"] == 524.5

    def test_an_idle_timer_has_no_more_than_its_count(self) -> None:
        assert timer_figures([], 0, 10, [90]) == {"count": 0, "count_ps": 0}

    def test_the_largest_values_are_looked_at_below_0(self) -> None:
        figures = timer_figures(range(1, 11), 10, 1, [-20, -100])
        assert (figures["count_top20"], figures["lower_top20"], figures["sum_top20"]) == (2, 9, 19)
        assert (figures["lower_top100"], figures["sum_top100"], figures["sum_squares_top100"]) == (1, 55, 385)

    def test_a_threshold_without_a_value_has_no_figures(self) -> None:
        assert "mean_1" not in timer_figures([1, 2, 3], 3, 1, [1])
        assert timer_figures([7], 1, 1, [1])["upper_1"] == 7

    @pytest.mark.parametrize(("percentile", "text"), [(90, "90"), (99.9, "99_9"), (-5, "top5"), (-0.5, "top0_5")])
    def test_percentiles_in_names(self, percentile: float, text: str) -> None:
        assert label(percentile) == text

    @given(st.lists(st.floats(-1e300, 1e300), max_size=30), st.floats(-100, 100).filter(bool))
    def test_no_values_raise(self, values: list[float], percentile: float) -> None:
        timer_figures(values, len(values), 1, [percentile])


class TestGraphite:
    @pytest.mark.parametrize(
        ("name", "tags", "path"),
        [
            ("a.b-c_d", {}, "a.b-c_d"),
            ("new  name/x", {}, "new_name-x"),
            ("ä:ö!", {}, None),
            ("n", {"b": "2", "a": "1"}, "n;a=1;b=2"),
            ("n", {"flag": ""}, "n;flag=true"),
            ("n", {"k": ["x", "y"]}, "n;k=x_y"),
            ("n", {"a;b=c": "d;e=f"}, "n;a_b_c=d_e_f"),
            ("n", {"url": "http://x/y z"}, "n;url=http--x-y_z"),
            ("n;in=name", {"k": "v"}, "n;in=name;k=v"),
            ("n;z=1;a;=;b=c=d", {"b": "tag"}, "n;a=true;b=tag;z=1"),
            ("a=b", {"": "x", "é": "y"}, "a=b"),
            ("x" * 1024, {}, "x" * 1024),
            ("x" * 1025, {}, None),
            ("n", {"k": "v" * 1024}, None),
            (";" * 1100, {}, None),
            (";k=v", {}, None),
        ],
    )
    def test_names(self, name: str, tags: dict[str, Any], path: str | None) -> None:
        found = path_of(name, tags)
        assert (None if found is None else found.name + found.tags) == path

    def test_lines_of_the_legacy_names_and_of_others(self) -> None:
        texts = ("c:4|c|#k:v", "g:0.5|g", "s:a|s", "c:1|c|T7", "g:2|g|T7")
        legacy = lines(flushed(aggregation(), *texts), LEGACY, seconds=2, time=9, percentiles=[])
        assert list(legacy) == [
            "stats.c;k=v 2 9", "stats_counts.c;k=v 4 9",
            "stats.statsd.metrics_received 2.5 9", "stats_counts.statsd.metrics_received 5 9",
            "stats.statsd.bad_lines_seen 0 9", "stats_counts.statsd.bad_lines_seen 0 9",
            "stats.gauges.g 0.5 9", "stats_counts.c 1 7", "stats.gauges.g 2 7", "stats.sets.s.count 1 9",
            "statsd.numStats 5 9",
        ]  # fmt: skip
        names = Names(False, "shop", "", "t", "g", "s", "eu")
        others = lines(flushed(aggregation(), *texts, "t:1|ms"), names, seconds=2, time=9, percentiles=[])
        found = [line for line in others if "statsd" not in line]
        assert found[:3] == ["shop.c.rate.eu;k=v 2 9", "shop.c.count.eu;k=v 4 9", "shop.t.t.std.eu 0 9"]
        assert found[-4:] == ["shop.g.g.eu 0.5 9", "shop.c.count.eu 1 7", "shop.g.g.eu 2 7", "shop.s.s.count.eu 1 9"]

    @given(
        st.lists(st.tuples(st.text(max_size=12), st.dictionaries(st.text(max_size=6), st.text(max_size=6))), max_size=9)
    )
    def test_graphite_reads_whatever_the_names_were(self, series: list[tuple[str, dict[str, str]]]) -> None:
        """The decoder `graphite` reads as carbon does: three words, and tags that are not empty."""
        one = aggregation()
        kinds = ("counter", "gauge", "timer")
        one.add([make_event(fields={"name": name, "metric_type": kind, "value": 1.5e-9, "tags": tags})
                 for name, tags in series for kind in kinds])  # fmt: skip
        found = list(lines(one.flush(), LEGACY, seconds=10, time=1767225600, percentiles=[90]))
        events = GraphiteDecoder().decode(batch(*[line.encode() for line in found]))
        assert {event.type for event in events} == {"graphite"}
        assert not [event.fields for event in events if "error" in event.fields]
        assert len(events) == len(found)

    def test_figures_that_are_no_number_are_left_out(self) -> None:
        found = flushed(aggregation(), "t:9e299|ms", "t:9e299|ms")
        assert not [line for line in lines(found, LEGACY, seconds=1, time=9, percentiles=[90]) if "inf" in line]

    @pytest.mark.parametrize(
        ("value", "text"),
        [(3.0, "3"), (-0.0, "0"), (0.1, "0.1"), (1e15, "1000000000000000"), (10**20, "1e+20"), (1.5e-7, "1.5e-07")],
    )
    def test_numbers(self, value: float, text: str) -> None:
        assert number(value) == text


def page(*intervals: tuple[str, ...], percentiles: tuple[float, ...] = (50, 90), **changes: Any) -> dict[str, float]:
    """The samples of the page after these intervals, as Prometheus' parser reads them."""
    one = Aggregation(
        series_of, Counter(), **{"max_names": 1000, "max_values": 1000, "delete_idle": False, "timed": False} | changes
    )
    totals = Totals(percentiles)
    for texts in intervals:
        one.add(metrics(*texts))
        totals.update(totals.figures_of(one.flush()))
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(totals.page().decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sample.labels.items())
            name = f"{sample.name}{{{labels}}}"
            assert name not in found, "a series is there twice"
            found[name] = sample.value
    return found


class TestPrometheus:
    def test_counters_grow_and_gauges_are_the_last_ones(self) -> None:
        found = page(("page.views:2|c|#env:prod,beta", "g:5|g", "s:a|s"), ("page.views:3|c|#beta,env:prod", "g:+1|g"))
        assert found == {"page_views_total{beta=true,env=prod}": 5, "g{}": 6, "s{}": 0}

    def test_a_timer_is_a_summary(self) -> None:
        found = page(("t:1:2|h", "t:3|h|@0.5"), ("t:5:7:9|h",))
        assert found == {
            "t{quantile=0.5}": 7, "t{quantile=0.9}": 9, "t_count{}": 7, "t_sum{}": pytest.approx(2 * 4 + 21),
        }  # fmt: skip

    def test_names_and_labels_are_made_fit(self) -> None:
        found = page(("1.a-b/ü:1|c|#quantile:x,__k:1,9:2,a.b:3,:4",))
        assert found == {"_1_a_b___total{a_b=3,k=1,tag=4,tag_9=2,tag_quantile=x}": 1}

    def test_two_types_of_one_name_are_two_families(self) -> None:
        found = page(("n:1|c", "n:2|g", "n:3|s", "n:4|ms", "n_total:8|c", "m_total:1|g", "m:2|c"))
        assert found["n_total{}"] == 9
        assert (found["n_gauge{}"], found["n_set{}"], found["n_count{}"]) == (2, 1, 1)
        assert (found["m_total{}"], found["m_total_gauge{}"]) == (2, 1)

    def test_idle_series_go_where_they_are_deleted(self) -> None:
        assert page(("n:1|c", "t:1|ms", "g:1|g", "s:1|s"), ("m:1|c",), delete_idle=True) == {"m_total{}": 1}

    def test_what_is_too_long_is_no_series(self) -> None:
        assert series_of("n", {"k": "v" * 1024}) is None
        assert series_of("n" * 1025, {}) is None
        assert series_of("...", {}) is None

    @given(
        st.lists(st.text(min_size=1, max_size=8), max_size=6), st.dictionaries(st.text(max_size=4), st.text(max_size=4))
    )
    def test_any_name_and_tags_make_a_page_that_can_be_read(self, names: list[str], tags: dict[str, str]) -> None:
        one = Aggregation(series_of, Counter(), max_names=99, max_values=99, delete_idle=False, timed=False)
        kinds = ("counter", "gauge", "timer", "histogram")
        one.add([
            make_event(fields={"name": name, "metric_type": kind, "value": 1, "tags": tags})
            for name in names for kind in kinds
        ])  # fmt: skip
        totals = Totals([90])
        totals.update(totals.figures_of(one.flush()))
        list(text_string_to_metric_families(totals.page().decode()))
