"""The package as users get it: installed for real, in fresh virtual environments, in each of the usual ways."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests import realprograms
from tests.realprograms import ROOT, Program

pytestmark = pytest.mark.slow

#: Installing fetches dependencies.
SLOW = 600.0
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


class Environment:
    """A fresh virtual environment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Not the tests' interpreter but the one behind it: a venv made by a venv's python works too, yet says less.
        realprograms.run([sys.executable, "-m", "venv", str(path)], timeout=SLOW).check_returncode()
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        # Compiling all of Twisted takes longer than everything else here.
        self.env["PIP_NO_COMPILE"] = "1"

    def bin(self, name: str) -> str:
        return str(self.path / "bin" / name)

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Runs a command of the environment, in its own folder and not in the project's."""
        return subprocess.run(
            [self.bin(name), *arguments], cwd=self.path, env=self.env, capture_output=True, timeout=SLOW, check=False
        )

    def pip(self, *arguments: str) -> None:
        done = self.run("python", "-m", "pip", "--disable-pip-version-check", *arguments)
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()

    def help(self) -> str:
        """What `twistd --help` prints; it has to work without a word on standard error."""
        done = self.run("twistd", "--help")
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode()

    def serve(self, *handler: str) -> Program:
        """The main job on a port of its own."""
        arguments = [
            "-n",
            "eventserver",
            "--listen",
            "tcp:0:interface=127.0.0.1",
            *(handler or ("--handler", "console")),
        ]
        return Program([self.bin("twistd"), *arguments], cwd=self.path, env=self.env)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's files without what tools left there."""
    folder = tmp_path_factory.mktemp("source") / "eventserver"
    leftovers = (".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "*.pyc", "dropin.cache", "_build", "wheels")
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*leftovers), symlinks=True)
    return folder


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    # By default `build` makes the sdist, unpacks it, and makes the wheel from that.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    done = realprograms.run(command, timeout=SLOW)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return folder


def wheel_in(folder: Path) -> Path:
    [found] = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module", params=["folder", "editable", "wheel"])
def installed(
    request: pytest.FixtureRequest, source: Path, built: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """A fresh environment with the package in it: `pip install .`, `pip install -e .`, or the wheel from the sdist."""
    environment = Environment(tmp_path_factory.mktemp(request.param) / "venv")
    what = {"folder": [str(source)], "editable": ["-e", str(source)], "wheel": [str(wheel_in(built))]}
    environment.pip("install", *what[request.param])
    yield environment
    shutil.rmtree(environment.path)


def test_twistd_knows_the_command_and_the_reactor(installed: Environment) -> None:
    assert "eventserver " in installed.help()
    done = installed.run("twistd", "--help-reactors")
    assert b"uvloop" in done.stdout


def test_the_command_knows_its_version(installed: Environment) -> None:
    done = installed.run("eventserver", "--version")
    assert done.returncode == 0, done.stderr.decode()
    assert PROJECT["project"]["version"] in done.stdout.decode()


def test_the_main_job_runs(installed: Environment) -> None:
    """A line in, a JSON line out, and a clean end."""
    with installed.serve() as server:
        port = int(server.wait_for(r"127\.0\.0\.1:(\d+)")[1])
        with socket.create_connection(("127.0.0.1", port), realprograms.DEADLINE) as peer:
            peer.sendall(b"hello\n")
            line = server.wait_for('"message":"hello"').string
        assert json.loads(line)["type"] == "text"
        assert server.stop() == realprograms.TERMINATED


def test_a_handler_of_another_package_is_found_by_its_entry_point(installed: Environment) -> None:
    """Once it is installed its name is a handler like ours; once it is not, the name is an error."""
    installed.pip("install", str(ROOT / "tests" / "plugin_package"))
    with installed.serve("--handler", "tally path=sums.json") as server:
        port = int(server.wait_for(r"127\.0\.0\.1:(\d+)")[1])
        with socket.create_connection(("127.0.0.1", port), realprograms.DEADLINE) as peer:
            peer.sendall(b"one\ntwo\n")
            peer.shutdown(socket.SHUT_WR)
            # The server closes once it has read everything.
            assert peer.recv(1) == b""
        assert server.stop() == realprograms.TERMINATED
    assert json.loads((installed.path / "sums.json").read_text()) == {"text": 2}
    assert b"tally" in installed.run("eventserver", "components").stdout
    installed.pip("uninstall", "-y", "eventserver-tally")
    with installed.serve("--handler", "tally path=sums.json") as server:
        server.wait_for("tally")
        assert server.wait() == 1


def test_uninstalling_leaves_twisted_whole(installed: Environment) -> None:
    """The last test with this environment: afterwards the package is gone, and Twisted is as it came."""
    installed.pip("uninstall", "-y", "eventserver")
    assert "eventserver " not in installed.help()
    script = (
        "import importlib.metadata as m; files = [f for f in m.files('twisted') if f.suffix == '.py'];"
        "print(len(files) > 500, [str(f) for f in files if not f.locate().is_file()])"
    )
    assert installed.run("python", "-c", script).stdout == b"True []\n"
    assert not list(installed.path.rglob("eventserver_plugin.py"))
    assert installed.run("python", "-m", "pip", "check").returncode == 0


# What is in the packages


def test_the_wheel_holds_the_package_and_the_plugin_and_nothing_else(source: Path, built: Path) -> None:
    names = set(zipfile.ZipFile(wheel_in(built)).namelist())
    files = {name for name in names if not name.endswith("/") and ".dist-info/" not in name}
    sources = [path for path in (source / "eventserver").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    expected = {str(path.relative_to(source)) for path in sources}
    assert files == expected | {"twisted/plugins/eventserver_plugin.py"}
    assert "eventserver/py.typed" in files
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_offers_every_entry_point(built: Path) -> None:
    with zipfile.ZipFile(wheel_in(built)) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
        points = ConfigParser(delimiters=("=",))
        points.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep capitals
        points.read_string(wheel.read(name).decode())
    wanted = {"console_scripts": PROJECT["project"]["scripts"], **PROJECT["project"]["entry-points"]}
    assert {group: dict(points[group]) for group in points.sections()} == wanted


def test_the_sdist_holds_what_is_needed_to_build_and_test(built: Path) -> None:
    [path] = built.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert names >= {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "tests/conftest.py"}
    assert names >= {"twisted/plugins/eventserver_plugin.py", "systemd/eventserver.service", "docker/Dockerfile"}
    assert not [name for name in names if name.endswith((".pyc", "dropin.cache")) or name.startswith(".venv")]
