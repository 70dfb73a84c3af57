"""What examples/README.md shows happens, with ports of its own."""

from __future__ import annotations

from pathlib import Path

from tests.docexamples import Reader
from tests.realprograms import ROOT


def test_everything_the_page_shows_happens(folder: Path) -> None:
    with Reader(ROOT / "examples" / "README.md", folder) as reader:
        for path in folder.rglob("*.toml"):
            path.write_text(reader.with_ports(path.read_text()))
        assert reader.follow() >= 6


def test_every_example_is_on_the_page() -> None:
    page = (ROOT / "examples" / "README.md").read_text()
    for path in (ROOT / "examples").iterdir():
        if path.is_dir() and path.name != "__pycache__":
            assert f"]({path.name}/)" in page
