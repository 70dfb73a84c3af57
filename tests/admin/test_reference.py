"""The reference page of metrics is what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventserver.admin import reference
from eventserver.admin.metrics import GAUGES, Page, kind_of
from eventserver.counters import Timings
from tests import realprograms
from tests.admin.server import Status


def test_the_metrics_page_of_the_documentation_is_up_to_date() -> None:
    assert (realprograms.ROOT / "docs/metrics.md").read_text() == reference.page()


def test_the_reference_names_every_metric_that_the_server_exports() -> None:
    status = Status()
    gauges = [
        (name, dict.fromkeys(labels, "x"), Timings() if kind_of(name) == "histogram" else 1.0)
        for name, (labels, _) in GAUGES.items()
    ]
    status.gauges = lambda: gauges  # type: ignore[method-assign]  # all the gauges there are
    text = Page(status).text().decode()
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE eventserver")}
    assert names == {name for name in names if f"`{name}`" in reference.page()}
    assert names >= set(GAUGES)


def test_check_fails_for_a_stale_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metrics.md"
    assert reference.main(["--check", str(path)]) == 1
    assert reference.main([str(path)]) == 0
    assert reference.main(["--check", str(path)]) == 0
    path.write_text(path.read_text() + "more\n")
    assert reference.main(["--check", str(path)]) == 1
    assert "is not what the code says" in capsys.readouterr().err
