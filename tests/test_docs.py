"""The documentation: what it shows happens, what it lists is what there is, and it builds without a warning."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from eventserver.decoders.json import JsonDecoder
from eventserver.delivery.retry import CONNECTION_ERRORS
from eventserver.event import EVENT_SCHEMA_VERSION, Event
from eventserver.registry import Registry
from eventserver.settings import from_mapping
from tests import realprograms
from tests.docexamples import Reader, blocks_of
from tests.realprograms import ROOT

DOCS = ROOT / "docs"
#: Pages that are made from code, and tested with it.
GENERATED = {"settings.md", "metrics.md"}
#: What `deployment.md` shows needs systemd and an engine for containers: test_systemd.py and test_docker.py. Its
#: settings are tested here.
ELSEWHERE = {"deployment.md"}
PAGES = sorted(path.name for path in DOCS.glob("*.md") if path.name not in GENERATED)
LONGEST = 230


@pytest.mark.parametrize("name", [name for name in PAGES if name not in ELSEWHERE])
def test_everything_a_page_shows_happens(name: str, tmp_path: Path) -> None:
    with Reader(DOCS / name, tmp_path) as reader:
        reader.follow()


def test_the_settings_for_deployment_are_right(tmp_path: Path) -> None:
    """They name a file of a secret, which is made here in its place."""
    (tmp_path / "admin.token").write_text("0123456789abcdef" * 2)
    page = (DOCS / "deployment.md").read_text().replace("/etc/eventserver/", f"{tmp_path}/")
    found = [from_mapping(tomllib.loads(block.text)) for block in blocks_of(page) if block.language == "toml"]
    assert [settings.admin is not None and settings.admin.token is not None for settings in found] == [False, True]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read_in_one_go(name: str) -> None:
    assert len((DOCS / name).read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize("name", PAGES)
def test_every_block_names_its_language(name: str) -> None:
    """A block without one would be passed over in silence."""
    known = {"console", "toml", "python", "pycon", "json", "text", "yaml", "sh"}
    assert {block.language for block in blocks_of((DOCS / name).read_text())} - known - {
        ""
    } == set() or name == "index.md"


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_pages_and_headings(name: str) -> None:
    for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", (DOCS / name).read_text()):
        path = DOCS / (target or name)
        assert path.exists() or path.name in GENERATED, f"{name} links to {target}"
        if heading:
            anchors = {_anchor(line) for line in path.read_text().splitlines() if line.startswith("#")}
            assert heading in anchors, f"{name} links to {target}#{heading}"


def _anchor(heading: str) -> str:
    """As GitHub makes it."""
    words = re.sub(r"[^\w\- ]", "", heading.lstrip("# ").lower())
    return words.replace(" ", "-")


def test_the_index_leads_to_every_page() -> None:
    listed = set(re.findall(r"^([a-z-]+)$", (DOCS / "index.md").read_text(), re.MULTILINE))
    assert {path.stem for path in DOCS.glob("*.md")} - {"index"} <= listed


# Lists that must not drift


def rows_of(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    text = (DOCS / page).read_text().partition(f"{heading}\n")[2]
    assert text, f"{page} has no heading {heading!r}"
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[0].splitlines()[2:]]


def schema() -> dict[str, object]:
    done = realprograms.run([realprograms.beside_python("eventserver"), "schema", "event"])
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_the_event_page_has_the_keys_of_the_schema() -> None:
    properties = schema()["properties"]
    assert isinstance(properties, dict)
    documented = [row[0].strip("`") for row in rows_of("event-schema.md", "## Keys")]
    assert documented == list(properties) == [field.encode_name for field in msgspec.structs.fields(Event)]


def test_the_event_page_has_the_version_of_the_schema() -> None:
    text = (DOCS / "event-schema.md").read_text()
    assert re.findall(r"schema version (\d+)", text) == [str(EVENT_SCHEMA_VERSION)]
    assert schema()["version"] == EVENT_SCHEMA_VERSION


def test_the_handler_page_names_the_connection_errors() -> None:
    text = (DOCS / "writing-a-handler.md").read_text()
    for error in CONNECTION_ERRORS:
        name = error.__name__ if error.__module__ in ("builtins", "eventserver.errors") else f"error.{error.__name__}"
        assert f"`{name}`" in text, f"{name} is not named"


def ours(kind: str) -> set[str]:
    registry = Registry.from_entry_points()
    return {
        name
        for name in registry.names(kind)
        if any(source.distribution == "eventserver" for source in registry.sources(kind, name))
    }


def test_the_framings_page_has_every_framing() -> None:
    text = (DOCS / "framings.md").read_text()
    assert {name for name in ours("framers") if f"\n## `{name}`" not in text} == set()


def test_the_formats_page_has_every_decoder() -> None:
    named = {re.sub(r"\[`(.*)`\].*", r"\1", row[0]) for row in rows_of("formats.md", "# Formats")}
    assert named == ours("decoders") | {"module:function"}


def test_the_formats_page_has_the_json_decoders_verdicts() -> None:
    """Row by row, what the decoder's module says."""
    import eventserver.decoders.json as module

    said = re.findall(r"^\| (?!what the frame|---)(.*?) \| (.*?) \|$", module.__doc__ or "", re.MULTILINE)
    assert len(said) > 10
    assert [tuple(row) for row in rows_of("formats.md", "### Verdicts")] == said
    assert JsonDecoder.Options.max_depth


def test_the_architecture_page_has_a_reason_for_every_dependency() -> None:
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [metadata["project"]["dependencies"], *metadata["project"]["optional-dependencies"].values()]
    groups += metadata["dependency-groups"].values()
    text = (DOCS / "architecture.md").read_text()
    for requirement in (one for group in groups for one in group):
        name = re.match(r"[\w.-]+", requirement)
        assert name is not None
        assert f"`{name[0]}`" in text, f"{name[0]} has no reason"


def test_the_architecture_page_has_every_room() -> None:
    rooms = {
        path.stem for path in (ROOT / "eventserver").iterdir() if path.name[0] != "_" and path.suffix in ("", ".py")
    }
    named = {name for row in rows_of("architecture.md", "## Rooms") for name in re.findall(r"`(\w+)`", row[0])}
    assert rooms == named


def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    done = realprograms.run(
        [realprograms.beside_python("sphinx-build"), "-q", "-W", "--keep-going", "-b", "html", str(DOCS), str(tmp_path)]
    )
    assert done.returncode == 0, done.stderr.decode()
