"""The shape of the project: rooms and who may know whom, interfaces that hold, and what is public."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from zope.interface import implementedBy
from zope.interface.verify import verifyClass, verifyObject

import eventserver
from eventserver import options
from eventserver.interfaces import IDecoder, IEncoder, IFramer, IHandler, IListener, IStep
from eventserver.registry import KINDS, Registry
from tests import realprograms

ROOT = realprograms.ROOT
SOURCES = sorted(path for path in (ROOT / "eventserver").rglob("*.py") if path.stat().st_size)
LONGEST_FILE = 400

INTERFACES = {
    "framers": IFramer,
    "decoders": IDecoder,
    "encoders": IEncoder,
    "steps": IStep,
    "listeners": IListener,
    "handlers": IHandler,
}
#: Options without a default, for components that have such.
NEEDED: dict[str, dict[str, Any]] = {
    "encoders.template": {"template": "{message}"},
    "decoders.regex": {"pattern": "(?P<word>.)"},
}
STEPS: dict[str, object] = {"drop": "severity_code > 3", "set": {"team": "ops"}}


def ours(kind: str) -> Iterator[str]:
    registry = Registry.from_entry_points()
    for name in registry.names(kind):
        if any(source.distribution == "eventserver" for source in registry.sources(kind, name)):
            yield name


def components() -> list[tuple[str, str]]:
    return [(kind, name) for kind in KINDS for name in ours(kind)]


# Rooms


def test_imports_run_downwards_only() -> None:
    """The contracts of import-linter, in pyproject.toml."""
    done = realprograms.run([realprograms.beside_python("lint-imports"), "--config", str(ROOT / "pyproject.toml")])
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_can_be_read_in_one_go(path: Path) -> None:
    """It says what it is for, and is no longer than a few screens."""
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    assert ast.get_docstring(ast.parse(text)), "a docstring says what the module is for"


def reactor_imports(tree: ast.AST) -> list[int]:
    """The lines of a module that import the reactor when the module is imported."""
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "twisted.internet":
            found += [node.lineno for name in node.names if name.name == "reactor"]
        if isinstance(node, ast.Import):
            found += [node.lineno for name in node.names if name.name == "twisted.internet.reactor"]
        found += reactor_imports(node)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_imports_the_reactor(path: Path) -> None:
    assert reactor_imports(ast.parse(path.read_text())) == []


def test_the_search_for_reactor_imports_finds_them() -> None:
    text = "try:\n    from twisted.internet import defer, reactor\nexcept E:\n    import twisted.internet.reactor\n"
    assert reactor_imports(ast.parse(text)) == [2, 4]
    assert reactor_imports(ast.parse("def f():\n    from twisted.internet import reactor\n")) == []


def test_importing_everything_installs_no_reactor() -> None:
    """Also not by way of a library: `--reactor` keeps its meaning."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in SOURCES]
    script = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'twisted.internet.reactor' not in sys.modules, name\n"
    )
    done = realprograms.run([realprograms.beside_python("python"), "-c", script])
    assert done.returncode == 0, done.stderr.decode()


def test_the_plugin_folder_belongs_to_twisted() -> None:
    """With an `__init__.py` below twisted/ this folder would hide Twisted itself, or be hidden by it."""
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "twisted").rglob("*.py")}
    assert files == {"twisted/plugins/eventserver_plugin.py"}


def test_the_plugin_imports_nothing_heavy() -> None:
    """twistd reads every plugin whenever it starts, for whatever service."""
    script = (
        "import sys, twisted.application.service, twisted.application.reactors\n"
        "before = set(sys.modules)\n"
        "import twisted.plugins.eventserver_plugin\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    done = realprograms.run([realprograms.beside_python("python"), "-c", script])
    assert done.stdout.decode().strip() == "['twisted.plugins', 'twisted.plugins.eventserver_plugin']"


# Components


@pytest.mark.parametrize(("kind", "name"), components())
def test_a_component_implements_its_interface(kind: str, name: str) -> None:
    component = Registry.from_entry_points().get(kind, name)
    assert INTERFACES[kind] in implementedBy(component), "it is declared with @implementer"
    assert verifyClass(INTERFACES[kind], component, tentative=True)
    assert inspect.getdoc(component)


@pytest.mark.parametrize(("kind", "name"), [c for c in components() if c[0] in ("framers", "decoders", "encoders")])
def test_what_is_made_from_options_alone_provides_its_interface(kind: str, name: str) -> None:
    component = Registry.from_entry_points().get(kind, name)
    made = component(component.Options(**NEEDED.get(f"{kind}.{name}", {})))
    assert verifyObject(INTERFACES[kind], made)


@pytest.mark.parametrize("name", list(ours("steps")))
def test_a_step_provides_its_interface(name: str) -> None:
    assert verifyObject(IStep, Registry.from_entry_points().get("steps", name)(STEPS[name]))


@pytest.mark.parametrize(("kind", "name"), [c for c in components() if c[0] != "steps"])
def test_every_option_of_a_component_is_described(kind: str, name: str) -> None:
    """The descriptions are the reference page and what `eventserver schema settings` prints."""
    cls = Registry.from_entry_points().get(kind, name).Options
    assert issubclass(cls, options.Options)
    for field, (_, doc) in options.field_types(cls).items():
        assert doc is not None, field
        assert (doc.description or "").endswith("."), field


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_components(kind: str) -> None:
    """A missing entry point would make the tests above pass for want of anything to look at."""
    assert list(ours(kind))


# What is public


def test_the_public_names_are_exactly_these() -> None:
    assert eventserver.__all__ == [
        "Batch",
        "Event",
        "EventServer",
        "EventServerError",
        "PartialFailure",
        "PermanentFailure",
        "SettingsError",
        "TemporaryFailure",
    ]
    for name in eventserver.__all__:
        assert getattr(eventserver, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Evnt'"):
        eventserver.Evnt  # type: ignore[attr-defined]  # noqa: B018  # that is the point
