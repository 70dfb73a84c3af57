"""Steps between match and handler."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventserver.errors import ExpressionError
from eventserver.steps import Drop, Pipeline, Set, build_step
from eventserver.testing.encoders import AWKWARD_VALUES, awkward_events, sample_event
from eventserver.testing.steps import StepConformance

KNOWN = {"drop": Drop, "set": Set}


class TestDrop(StepConformance):
    def make(self) -> Any:
        return Drop("severity_code == 3 and endswith(id, '2')")


class TestSet(StepConformance):
    def make(self) -> Any:
        argument = {"team": "ops", "short": {"expr": "lower(x) + app_name"}, "message": {"expr": "x"}, "type": "new"}
        return Set(argument)


def test_drop_removes_the_events_for_which_its_expression_is_true() -> None:
    events = [sample_event(0, message=""), sample_event(1, message="x"), sample_event(2, message="")]
    assert Drop('message == ""').apply(events) == [events[1]]
    assert Drop("missing").apply(events) == events


def test_set_adds_plain_and_computed_values_to_the_fields() -> None:
    event = sample_event(0, fields={"app_name": "SSHD", "team": "old"})
    step = Set({"team": "ops", "short": {"expr": "lower(app_name)"}, "level": 3, "tags": ["a"]})
    (changed,) = step.apply([event])
    assert changed.fields == {"app_name": "SSHD", "team": "ops", "short": "sshd", "level": 3, "tags": ["a"]}
    assert changed.replace(fields={}) == event.replace(fields={})
    assert event.fields == {"app_name": "SSHD", "team": "old"}


def test_set_changes_the_message_and_the_type_of_the_event() -> None:
    event = sample_event(0, fields={"x": 1})
    (changed,) = Set({"message": {"expr": '"was: " + message'}, "type": "login"}).apply([event])
    assert (changed.message, changed.type) == ("was: message 0", "login")
    assert changed.fields is event.fields
    (changed,) = Set({"message": "new", "team": "ops"}).apply([event])
    assert (changed.message, changed.fields) == ("new", {"x": 1, "team": "ops"})


def test_a_message_that_cannot_be_computed_stays_and_a_field_is_none() -> None:
    event = sample_event(0)
    (changed,) = Set({"message": {"expr": "1 + 1"}, "sum": {"expr": "message + 1"}}).apply([event])
    assert changed.message == event.message
    assert changed.fields["sum"] is None


def test_all_expressions_of_a_set_see_the_event_as_it_came() -> None:
    event = sample_event(0, fields={"a": 1, "b": 2})
    (changed,) = Set({"a": {"expr": "b"}, "b": {"expr": "a"}}).apply([event])
    assert changed.fields == {"a": 2, "b": 1}


def test_a_broken_value_is_none_and_its_neighbours_are_right() -> None:
    events = [sample_event(0, fields={"x": 1}), sample_event(1, fields={"x": AWKWARD_VALUES[10]})]
    changed = Set({"y": {"expr": "x == 1"}}).apply([*events, events[0]])
    assert [event.fields["y"] for event in changed] == [True, None, True]


@pytest.mark.parametrize("name", ["id", "time", "received", "listener", "peer", "context", "fields"])
def test_what_the_server_saw_cannot_be_set(name: str) -> None:
    with pytest.raises(ValueError, match=f"cannot set `{name}`"):
        Set({name: "x"})
    with pytest.raises(ValueError, match=f"cannot set `{name}`"):
        Set({name: {"expr": "message"}})


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"drop": "a ="}, "write `==`"),
        ({"drop": 3}, "is an expression"),
        ({"set": {}}, "is a table"),
        ({"set": "x"}, "is a table"),
        ({"set": {"message": 3}}, "`message` in `set` is a text"),
        ({"set": {"x": {"exp": "y"}}}, "`x` in `set` is a plain value"),
        ({"set": {"x": {"expr": 3}}}, "`x` in `set` is a plain value"),
        ({"set": {"x": {"expr": "a", "b": 1}}}, "`x` in `set` is a plain value"),
        ({"set": {"x": {"expr": "a."}}}, "`x` in `set`: the expression cannot be read"),
        ({"dorp": "x"}, "did you mean `drop`"),
        ({"zzz": "x"}, "the steps are drop, set"),
        ({}, "a table with one key"),
        ({"drop": "x", "set": {"a": 1}}, "a table with one key"),
        ("drop", "a table with one key"),
    ],
)
def test_a_wrong_step_is_refused_with_a_sentence(table: Any, sentence: str) -> None:
    with pytest.raises((ValueError, ExpressionError), match=sentence):
        build_step(table, KNOWN)


def test_a_step_is_built_by_its_name() -> None:
    assert isinstance(build_step({"drop": "x"}, KNOWN), Drop)
    assert isinstance(build_step({"set": {"a": 1}}, KNOWN), Set)


def test_a_pipeline_matches_first_and_then_steps_in_order() -> None:
    events = [sample_event(number, fields={"n": number}) for number in range(6)]
    steps = [build_step(table, KNOWN) for table in ({"set": {"m": {"expr": "n * 2"}}}, {"drop": "m == 8"})]
    pipeline = Pipeline("n >= 3", steps)
    assert [event.fields for event in pipeline(events)] == [{"n": 3, "m": 6}, {"n": 5, "m": 10}]
    assert Pipeline("n > 10", steps)(events) == []
    assert Pipeline(None, [])(events) == events
    assert Pipeline("n < 1")(events) == events[:1]
    assert Pipeline(None, steps[1:])(events) == events
    with pytest.raises(ExpressionError):
        Pipeline("n >", steps)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.booleans(), min_size=1, max_size=3)
)
def test_any_plain_table_sets_its_values_or_is_refused(argument: dict[str, Any]) -> None:
    try:
        step = Set(argument)
    except ValueError:
        return
    events = awkward_events()[::40]
    for event, changed in zip(events, step.apply(events), strict=True):
        expected = {name: value for name, value in argument.items() if name not in ("message", "type")}
        assert changed.fields.keys() == {**event.fields, **expected}.keys()
        assert all(value is {**event.fields, **expected}[name] for name, value in changed.fields.items())
        assert changed.id == event.id


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], True),
        ([Set({"a": [1, "x"]})], True),
        ([Set({"a": object()})], False),
        ([Set({"a": 1}), Set({"b": 2})], False),
        ([Set({"message": "x"})], False),
        ([Drop("a")], False),
    ],
)
def test_it_is_known_whether_all_that_is_done_can_be_done_while_events_are_made(steps: Any, expected: bool) -> None:
    assert Pipeline("a == 1", steps).only_plain is expected
