"""The README: short, true, and all its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docexamples import Reader
from tests.realprograms import ROOT

README = ROOT / "README.md"


def test_everything_it_shows_happens(tmp_path: Path) -> None:
    with Reader(README, tmp_path) as reader:
        assert reader.follow() >= 8


def test_make_run_is_the_command_that_is_tested() -> None:
    """The reader runs `eventserver run` in its place, which is the same server without making an environment."""
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^run:.*\n\t@exec \$\(BIN\)/twistd -n eventserver$", makefile, re.MULTILINE)


def test_it_can_be_read_in_a_few_minutes() -> None:
    assert len(README.read_text().splitlines()) <= 150


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README.read_text())
    files = [link for link in links if "://" not in link]
    assert len(files) > 8
    assert [link for link in files if not (ROOT / link).is_file()] == []
