"""Carbon, the daemons of Graphite, from a folder of their own: they bring plugins for twistd, and old ways to install.

The folder is `carbon` in EVENTSERVER_TEST_PROGRAMS (default: ~/.cache/eventserver-tests); `.ci/run` fills it.
"""

from __future__ import annotations

import os
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.realprograms import Program, beside_python, required


def programs() -> Path:
    """Where programs are that belong neither to the system nor to the environment of the tests."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("EVENTSERVER_TEST_PROGRAMS") or f"{cache}/eventserver-tests")


def need_carbon() -> Path:
    """The folder that carbon is in; without it the test is skipped, or fails as `realprograms.find` does."""
    folder = programs() / "carbon"
    if (folder / "carbon" / "__init__.py").is_file():
        return folder
    if required():
        pytest.fail(f"carbon is not in {folder}, and EVENTSERVER_REQUIRE_REAL is set", pytrace=False)
    pytest.skip(f"carbon is not in {folder}")


def carbon_version() -> str:
    """The version that is installed; empty without one."""
    found = distributions(name="carbon", path=[str(programs() / "carbon")])
    return next((distribution.version for distribution in found), "")


class Relay(Program):
    """`carbon-relay.py` with a configuration, on the Twisted of the tests; it writes to no file outside `folder`."""

    def __init__(self, folder: Path, configuration: str) -> None:
        carbon = need_carbon()
        (folder / "conf").mkdir(parents=True)
        (folder / "storage" / "log").mkdir(parents=True)
        (folder / "conf" / "carbon.conf").write_text(configuration)
        (folder / "conf" / "storage-schemas.conf").write_text("[all]\npattern = .*\nretentions = 60s:1d\n")
        command = [beside_python("python"), str(carbon / "bin" / "carbon-relay.py"), "--nodaemon"]
        super().__init__(
            [*command, f"--config={folder}/conf/carbon.conf", f"--pidfile={folder}/relay.pid", "start"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(carbon), "GRAPHITE_ROOT": str(folder)},
        )
