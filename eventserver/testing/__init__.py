"""What people test their handlers, decoders and listeners with.

- `Harness`: bytes in, what the handler did out; no socket, no waiting.
- `make_event`, `make_batch`: data for tests. `AckListener`: a listener whose protocol acknowledges, without a network.
- The conformance suites, one for each interface: inherit one in a test module, say how to make your object, and pytest
  runs it: `FramerConformance`, `DecoderConformance`, `EncoderConformance`, `StepConformance`, `ListenerConformance`,
  `HandlerConformance`, `JournalConformance`, `IntakeConformance`. They need pytest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from eventserver.testing.data import make_batch, make_event

if TYPE_CHECKING:
    from eventserver.testing.acking import AckListener
    from eventserver.testing.decoders import DecoderConformance
    from eventserver.testing.encoders import EncoderConformance
    from eventserver.testing.framers import FramerConformance
    from eventserver.testing.handlers import HandlerConformance
    from eventserver.testing.harness import Harness
    from eventserver.testing.journals import IntakeConformance, JournalConformance
    from eventserver.testing.listeners import ListenerConformance
    from eventserver.testing.steps import StepConformance

__all__ = [
    "AckListener",
    "DecoderConformance",
    "EncoderConformance",
    "FramerConformance",
    "HandlerConformance",
    "Harness",
    "IntakeConformance",
    "JournalConformance",
    "ListenerConformance",
    "StepConformance",
    "make_batch",
    "make_event",
]

_HOMES = {
    "AckListener": "acking",
    "DecoderConformance": "decoders",
    "EncoderConformance": "encoders",
    "FramerConformance": "framers",
    "HandlerConformance": "handlers",
    "Harness": "harness",
    "IntakeConformance": "journals",
    "JournalConformance": "journals",
    "ListenerConformance": "listeners",
    "StepConformance": "steps",
}


def __getattr__(name: str) -> Any:
    # Each is imported when it is asked for: the suites need pytest, a test of one handler should not.
    if name in _HOMES:
        return getattr(importlib.import_module(f"eventserver.testing.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
