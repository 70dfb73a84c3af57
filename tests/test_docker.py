"""The container image: built and run for real, without a container engine and without root inside.

Debian's buildah builds it, on a base image made from a debootstrap folder, with wheels fetched beforehand. It is then
run twice: by buildah, and as an orchestrator would: alone in its namespaces, without capabilities, on a read-only root.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import realprograms
from tests.realprograms import ROOT, Program

DOCKER = ROOT / "docker"
#: Seconds: a Debian is put together, and an image built.
SLOW = 900.0
RELEASE = dict(line.rstrip().split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)

#: What a container engine does with the image's file system before it starts process 1 there. Run as root, in
#: namespaces of its own; afterwards nothing of root is left: another user, no capabilities, nothing new by exec.
CONTAIN = """
set -eu
root=$1; user=$2; shift 2
ip link set lo up
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777,size=16m tmpfs "$root/tmp"
mount -o remount,bind,ro "$root"
exec chroot "$root" /usr/bin/setpriv --reuid="${user%:*}" --regid="${user#*:}" --clear-groups \\
    --bounding-set=-all --inh-caps=-all --no-new-privs /usr/bin/env -i -C "$WORKDIR" "$@"
"""


class Buildah:
    """buildah with a storage of its own."""

    def __init__(self, folder: Path) -> None:
        # Plain folders and chroot isolation: no engine, no overlay file system, no user namespaces.
        self.storage = ["--storage-driver", "vfs", "--root", str(folder / "root"), "--runroot", str(folder / "run")]
        self.env = {**os.environ, "BUILDAH_ISOLATION": "chroot", "TMPDIR": str(folder)}
        self.program = realprograms.find("buildah")

    def argv(self, command: str, *arguments: str) -> list[str]:
        return [self.program, *self.storage, command, *arguments]

    def __call__(self, command: str, *arguments: str) -> str:
        """Runs a command to its end; what it prints."""
        done = realprograms.run(self.argv(command, *arguments), env=self.env, timeout=SLOW)
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        return done.stdout.decode().strip()


def mirror() -> list[str]:
    """Where this machine gets Debian from: the first source of its own release; else debootstrap knows one."""
    form = "$(REPO_URI) $(RELEASE)"
    done = realprograms.run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"])
    for line in done.stdout.decode().splitlines():
        uri, release = line.split()
        if release == RELEASE["VERSION_CODENAME"]:
            return [uri]
    return []


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    if os.geteuid() != 0:
        (pytest.fail if realprograms.required() else pytest.skip)("images are made and run by root here")
    folder = tmp_path_factory.mktemp("buildah")
    yield Buildah(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def base(buildah: Buildah, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A base image with Debian's python3 and python3-venv, and the folder that it was made from."""
    folder = tmp_path_factory.mktemp("debian")
    command = [realprograms.find("debootstrap"), "--variant=minbase", "--include=python3,python3-venv"]
    done = realprograms.run([*command, RELEASE["VERSION_CODENAME"], str(folder), *mirror()], timeout=SLOW)
    assert done.returncode == 0, done.stdout.decode()[-2000:] + done.stderr.decode()
    # A third of it is never read here, and all of it is copied for every layer.
    for part in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
        shutil.rmtree(folder / part)
    container = buildah("from", "scratch")
    buildah("add", "-q", container, str(folder), "/")
    buildah("commit", "-q", "--rm", "--format", "docker", container, "localhost/base")
    yield "localhost/base", folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def image(buildah: Buildah, base: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, built from a copy of the project with the wheels beside it."""
    name, folder = base
    context = tmp_path_factory.mktemp("context") / "eventserver"
    leftovers = (".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "_build", "wheels")
    shutil.copytree(ROOT, context, ignore=shutil.ignore_patterns(*leftovers), symlinks=True)
    _fetch_wheels(context / "docker" / "wheels", (folder / "usr/bin/python3").readlink().name.removeprefix("python"))
    arguments = ["--format", "docker", "--build-arg", f"BASE={name}", "-f", "docker/Dockerfile", "-t", "eventserver"]
    done = subprocess.run(
        buildah.argv("bud", *arguments, "."),
        cwd=context,
        env=buildah.env,
        capture_output=True,
        timeout=SLOW,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return "localhost/eventserver"


def _fetch_wheels(folder: Path, python: str) -> None:
    """What the project needs to be built and to run, for the base image's Python."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [*settings["project"]["dependencies"], *settings["build-system"]["requires"]]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q", "-d", str(folder)]
    done = realprograms.run([*pip, "--only-binary=:all:", "--python-version", python, *needed], timeout=SLOW)
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture(scope="module")
def config(buildah: Buildah, image: str) -> dict[str, Any]:
    """The image's configuration, as an engine reads it."""
    found: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
    return found


@pytest.fixture
def container(buildah: Buildah, image: str) -> Iterator[str]:
    name = buildah("from", image)
    yield name
    buildah("rm", name)


def processes_below(pid: int) -> Iterator[int]:
    """The children of a process, and theirs; a child belongs to the thread that started it."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield int(child)
            yield from processes_below(int(child))


def server_below(program: Program) -> int:
    """The twistd process that a program started."""
    for pid in processes_below(program.pid):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"/python" in words[0] and words[1].endswith(b"/twistd"):
            return pid
    pytest.fail(f"no twistd below {program.pid}\n{program.output()}", pytrace=False)


# The image


@pytest.mark.real
@pytest.mark.slow
def test_the_image_has_no_root_and_no_shell_and_checks_its_health(config: Mapping[str, Any]) -> None:
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["twistd", "-n", "eventserver"]
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert set(config["ExposedPorts"]) == {"5140/tcp", "5140/udp", "5514/tcp", "5514/udp"}
    assert config["Healthcheck"]["Test"][:3] == ["CMD", "python3", "-c"]
    assert not config.get("Volumes")


@pytest.mark.real
@pytest.mark.slow
def test_the_image_holds_nothing_of_the_build(buildah: Buildah, container: str) -> None:
    root = Path(buildah("mount", container))
    assert not (root / "src").exists()
    [plugins] = (root / "opt/eventserver/lib").glob("python3.*/site-packages/twisted/plugins")
    assert {"dropin.cache", "eventserver_plugin.py"} <= {path.name for path in plugins.iterdir()}


@pytest.mark.real
@pytest.mark.slow
def test_events_come_out_as_json_and_sigterm_ends_it(
    buildah: Buildah, container: str, config: Mapping[str, Any]
) -> None:
    """Run by buildah, on this machine's network: so with a port of its own instead of the default settings."""
    settings = ["--listen", "tcp:0:interface=127.0.0.1", "--handler", "console"]
    command = buildah.argv("run", "--user", config["User"], container, "--", *config["Entrypoint"], *settings)
    with Program(command, env=buildah.env) as server:
        port = server.wait_for(r"127\.0\.0\.1:(\d+)")[1]
        realprograms.run([realprograms.find("nc"), "-N", "127.0.0.1", port], b"hello container\n").check_returncode()
        event = json.loads(server.wait_for('"message":"hello container"').string)
        assert event["type"] == "text"
        os.kill(server_below(server), signal.SIGTERM)
        server.wait_for("Server Shut Down")
        # As everywhere but as process 1, twistd ends by the signal; buildah makes an exit code of its own of that.
        server.wait_for("exited on terminated")
        server.wait()


class Contained:
    """The image's own command as process 1, in namespaces of its own, on a read-only root."""

    def __init__(self, root: Path, config: Mapping[str, Any]) -> None:
        self.root, self.config = root, config
        command = [*config["Env"], *config["Entrypoint"], *config["Cmd"]]
        namespaces = ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
        contain = ["/bin/sh", "-c", CONTAIN, "sh", str(root), config["User"], *command]
        self.program = Program(
            [realprograms.find("unshare"), *namespaces, *contain], env={**os.environ, "WORKDIR": config["WorkingDir"]}
        )

    def beside(self, argv: Sequence[str], data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Runs a program of this machine on the container's network."""
        pid = str(server_below(self.program))
        return realprograms.run([realprograms.find("nsenter"), "--target", pid, "--net", *argv], data)

    def check_health(self) -> int:
        """What an engine does every ten seconds: the exit code of the image's health check, run inside."""
        pid = str(server_below(self.program))
        inside = ["--target", pid, "--net", "--pid", "--mount", f"--root={self.root}"]
        path = [word for word in self.config["Env"] if word.startswith("PATH=")]
        check = ["/usr/bin/env", *path, *self.config["Healthcheck"]["Test"][1:]]
        return realprograms.run([realprograms.find("nsenter"), *inside, *check]).returncode


@pytest.mark.real
@pytest.mark.slow
def test_it_runs_read_only_without_capabilities_as_process_1(
    buildah: Buildah, container: str, config: Mapping[str, Any]
) -> None:
    """The default settings, with everything that a careful orchestrator takes away."""
    contained = Contained(Path(buildah("mount", container)), config)
    with contained.program as server:
        server.wait_for("try: ")
        nc, logger = realprograms.find("nc"), realprograms.find("logger")
        status = Path(f"/proc/{server_below(server)}/status").read_text()
        assert re.search(r"^NSpid:\s+\d+\s+1$", status, re.MULTILINE), "it is process 1 of its namespace"
        assert re.search(r"^Uid:\s+10001\s+10001\s+10001\s+10001$", status, re.MULTILINE)
        assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
        assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
        assert contained.check_health() == 0
        contained.beside([nc, "-N", "127.0.0.1", "5140"], b"over tcp\n").check_returncode()
        contained.beside([nc, "-u", "-q", "0", "127.0.0.1", "5140"], b"over udp\n").check_returncode()
        sent = ["--server", "127.0.0.1", "--port", "5514", "--udp", "--rfc5424", "--tag", "app", "a syslog message"]
        contained.beside([logger, *sent]).check_returncode()
        server.wait_for('"message":"over tcp"')
        server.wait_for('"message":"over udp"')
        assert json.loads(server.wait_for('"message":"a syslog message"').string)["fields"]["app_name"] == "app"
        os.kill(server_below(server), signal.SIGTERM)
        assert server.wait() == 0, server.output()
    assert not [line for line in server.stderr if "Traceback" in line or "rror" in line], server.output()


@pytest.mark.real
@pytest.mark.slow
def test_the_health_check_fails_when_nothing_answers(
    buildah: Buildah, container: str, config: Mapping[str, Any]
) -> None:
    """On a network without the server: the same command says no."""
    root = buildah("mount", container)
    path = [word for word in config["Env"] if word.startswith("PATH=")]
    command = ["chroot", root, "/usr/bin/env", *path, *config["Healthcheck"]["Test"][1:]]
    assert realprograms.run([realprograms.find("unshare"), "--net", *command]).returncode != 0


# The files beside it


def test_the_compose_file_says_what_the_image_says() -> None:
    yaml = pytest.importorskip("yaml")
    service = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["eventserver"]
    dockerfile = (DOCKER / "Dockerfile").read_text()
    exposed = set(re.search(r"^EXPOSE (.*)$", dockerfile, re.MULTILINE)[1].split())
    assert {port.split(":")[1] for port in service["ports"]} == exposed
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    [check] = re.findall(r'"(import http.client.*)"\]', dockerfile)
    assert service["healthcheck"]["test"] == ["CMD", "python3", "-c", check]
    assert re.search(r"--interval=10s --timeout=5s --start-period=10s --retries=3", dockerfile)
    assert [service["healthcheck"][key] for key in ("interval", "timeout", "start_period", "retries")] == [
        "10s",
        "5s",
        "10s",
        3,
    ]


def test_the_build_context_holds_only_what_the_image_needs() -> None:
    """Secrets, the history and the environment of whoever builds stay outside: names are let in one by one."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert let_in == {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "eventserver",
        "twisted",
        "docker/eventserver.toml",
        "docker/wheels",
    }
