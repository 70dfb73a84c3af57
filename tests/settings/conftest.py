"""Settings from texts, with fake components."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from eventserver.errors import SettingsError
from eventserver.settings import CommandLine, Settings, load
from tests.settings.fakes import fake_registry


class Loading:
    """Writes files into a folder, and loads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ: dict[str, str] = {}

    def settings(self, text: str | Mapping[str, str] | None = None, **command: Any) -> Settings:
        """The settings of one file, `site.toml`, or of several by name; and of the command line."""
        files = {"site.toml": text} if isinstance(text, str) else dict(text or {})
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
        paths = dict.fromkeys(name.partition("/")[0] for name in files)
        return load(
            list(paths),
            extra=CommandLine(**command),
            environ=self.environ,
            registry=fake_registry(),
            cwd=self.folder,
        )

    def problems(self, text: str | Mapping[str, str] | None = None, **command: Any) -> list[str]:
        """What is wrong with them."""
        with pytest.raises(SettingsError) as caught:
            self.settings(text, **command)
        return caught.value.problems


@pytest.fixture
def loading(tmp_path: Path) -> Loading:
    return Loading(tmp_path)


@pytest.fixture
def settings_of(loading: Loading) -> Callable[..., Settings]:
    return loading.settings


@pytest.fixture
def problems_of(loading: Loading) -> Callable[..., list[str]]:
    return loading.problems
