"""Debian's syslog-ng beside rsyslog: the two packages exclude each other, so this one is unpacked and not installed.

    python -m benchmarks.syslog_ng

Fetches syslog-ng-core and the libraries that it alone needs with `apt-get download`, into benchmarks/build/syslog-ng.
Nothing outside that folder is changed; `rm -r` undoes it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.servers import UNPACKED

PACKAGES = ("syslog-ng-core", "libivykis0", "libnet1", "libpcre3", "libwrap0", "libjson-c5", "libsystemd0", "libcap2")
#: syslog-ng looks for its libraries and modules where it would be installed.
RUN = """\
#!/bin/sh
root={root}
libraries=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu:$root/usr/lib/syslog-ng
LD_LIBRARY_PATH=$libraries exec "$root/usr/sbin/syslog-ng" --module-path="$root/usr/lib/syslog-ng/{version}" "$@"
"""


def unpack(folder: Path) -> None:
    """Fetch and unpack; the folder has a script `run` in the end."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "-q", "download", *PACKAGES], cwd=folder, check=True)
    root = folder / "root"
    for package in sorted(folder.glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", str(package), str(root)], check=True)
    modules = next(path for path in (root / "usr/lib/syslog-ng").iterdir() if (path / "libaffile.so").exists())
    script = folder / "run"
    script.write_text(RUN.format(root=root, version=modules.name))
    script.chmod(0o755)


def main() -> None:
    """Where syslog-ng is not to be had, the benchmarks run without it."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise SystemExit("this needs Debian's apt-get and dpkg-deb")
    unpack(UNPACKED)
    print(f"syslog-ng is in {UNPACKED}")


if __name__ == "__main__":
    main()
