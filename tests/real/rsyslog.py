"""rsyslogd as a foreground process with its own configuration, pid file and working folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.realprograms import Program, required


class Rsyslogd(Program):
    """rsyslogd with a configuration; it touches no file outside `folder`.

    With an action that writes to /dev/stdout, its own word that it started and what it gets are lines of its output.
    """

    def __init__(self, program: str, folder: Path, configuration: str) -> None:
        folder.mkdir(exist_ok=True)
        path = folder / "rsyslog.conf"
        # Its own words would else go to the machine's log.
        own = f'global(workDirectory="{folder}" localHostname="forwarder" processInternalMessages="on")\n'
        path.write_text(own + configuration)
        super().__init__([program, "-n", "-f", str(path), "-i", str(folder / "rsyslogd.pid")], cwd=folder)


def need_driver(driver: str) -> None:
    """Skips the test (or fails it, as `realprograms.find` does) if rsyslog has not this TLS driver: a package apart."""
    need_module(f"lmnsd_{driver}")


def need_module(name: str) -> None:
    """Skips the test (or fails it, as `realprograms.find` does) if rsyslog has not this module."""
    if list(Path("/usr/lib").glob(f"*/rsyslog/{name}.so")):
        return
    said = f"rsyslog's module {name} is not installed"
    if required():
        pytest.fail(f"{said}, and EVENTSERVER_REQUIRE_REAL is set", pytrace=False)
    pytest.skip(said)


def tls_globals(driver: str, ca: str, cert: str, key: str) -> str:
    """The default certificates of rsyslog's TLS, for one of its drivers (`gtls`, `ossl`)."""
    return (
        f'global(defaultNetstreamDriver="{driver}" defaultNetstreamDriverCAFile="{ca}"'
        f' defaultNetstreamDriverCertFile="{cert}" defaultNetstreamDriverKeyFile="{key}")\n'
    )
