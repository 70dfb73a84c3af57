"""What every step promises (`IStep`), as a class of tests to inherit from::

class TestMyStep(StepConformance):
    def make(self) -> Any:
        return MyStep("argument")
"""

from __future__ import annotations

import copy
from typing import Any

from zope.interface.verify import verifyObject

from eventserver.event import Event
from eventserver.interfaces import IStep
from eventserver.testing.encoders import awkward_events, sample_event


class StepConformance:
    """Inherit, and define `make`."""

    def make(self) -> Any:
        """A new step."""
        raise NotImplementedError

    def test_provides_the_interface(self) -> None:
        assert verifyObject(IStep, self.make())

    def test_no_events_stay_none(self) -> None:
        assert self.make().apply([]) == []

    def test_gives_a_list_of_events_with_the_ids_that_came_in_order(self) -> None:
        events = [sample_event(number) for number in range(12)]
        passed = self.make().apply(tuple(events))
        assert isinstance(passed, list)
        assert all(isinstance(event, Event) for event in passed)
        ids = [event.id for event in events]
        places = [ids.index(event.id) for event in passed]
        assert places == sorted(places)

    def test_shared_events_are_not_changed(self) -> None:
        events = [sample_event(number, context={"labels": {"site": "hq"}}) for number in range(3)]
        before = copy.deepcopy(events)
        self.make().apply(events)
        assert events == before

    def test_awkward_values_never_raise(self) -> None:
        events = awkward_events()
        assert len(self.make().apply(events)) <= len(events)
