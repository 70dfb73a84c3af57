"""The third party's package that the packaging test installs: its handler keeps the promises, and does its work."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from eventserver.errors import TemporaryFailure
from eventserver.testing.handlers import HandlerConformance
from tests.handlers.fakes import make_context, make_event

_SOURCE = Path(__file__).parent.parent / "plugin_package" / "eventserver_tally.py"


def load() -> Any:
    """The handler's class, without installing its package."""
    spec = importlib.util.spec_from_file_location("eventserver_tally", _SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.TallyHandler


TallyHandler = load()


class TestConformance(HandlerConformance):
    def make_handler(self, request: pytest.FixtureRequest) -> Any:
        path = request.getfixturevalue("tmp_path") / "tally.json"
        return TallyHandler(TallyHandler.Options(path=str(path)), make_context())


def test_it_counts_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "tally.json"
    for expected in (1, 2):
        handler = TallyHandler(TallyHandler.Options(path=str(path)), make_context())
        handler.start()
        handler.handle([make_event(type="syslog"), make_event(type="text"), make_event(type="text")])
        handler.stop()
        assert json.loads(path.read_bytes()) == {"syslog": expected, "text": 2 * expected}


def test_a_disk_that_fails_is_a_temporary_failure(tmp_path: Path) -> None:
    """What was not written does not count: the pile comes again."""
    path = tmp_path / "later" / "tally.json"
    handler = TallyHandler(TallyHandler.Options(path=str(path)), make_context())
    handler.start()
    with pytest.raises(TemporaryFailure):
        handler.handle([make_event()])
    path.parent.mkdir()
    handler.handle([make_event()])
    assert json.loads(path.read_bytes()) == {"text": 1}
