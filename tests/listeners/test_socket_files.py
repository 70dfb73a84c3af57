"""Socket files that a killed process left behind."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from eventserver.listeners._socket_files import remove_own_lock, remove_stale

KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM)


def leave(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM, pid: int | None = None) -> None:
    """What a process with that number leaves behind when it is killed."""
    with socket.socket(socket.AF_UNIX, kind) as gone:
        gone.bind(str(path))
    Path(f"{path}.lock").symlink_to(str(os.getpid() if pid is None else pid))


@pytest.mark.parametrize("kind", KINDS)
def test_a_socket_that_nobody_has_is_removed(tmp_path: Path, kind: socket.SocketKind) -> None:
    path = tmp_path / "s"
    leave(path, kind)
    assert remove_stale(str(path), kind)
    assert not path.exists()
    assert remove_stale(str(path), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_one_in_use_and_other_files_stay(tmp_path: Path, kind: socket.SocketKind) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, kind) as live:
        live.bind(str(path))
        if kind == socket.SOCK_STREAM:
            live.listen(0)
        for _ in range(3):
            assert not remove_stale(str(path), kind)
        assert path.is_socket()
    other = tmp_path / "other"
    other.write_text("mine")
    assert not remove_stale(str(other), kind)
    assert other.read_text() == "mine"


def test_the_lock_of_a_killed_process_with_our_number_goes_with_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    leave(path)
    remove_own_lock(str(path))
    assert list(tmp_path.iterdir()) == []
    Path(f"{path}.lock").symlink_to(str(os.getpid()))
    remove_own_lock(str(path))
    assert list(tmp_path.iterdir()) == []


def test_other_locks_stay(tmp_path: Path) -> None:
    """Twisted knows whether these processes are there."""
    path = tmp_path / "s"
    leave(path, pid=os.getppid())
    remove_own_lock(str(path))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["s", "s.lock"]
    remove_own_lock(str(tmp_path / "nothing"))


def test_the_lock_of_a_socket_that_this_process_has_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as live:
        live.bind(str(path))
        live.listen(1)
        Path(f"{path}.lock").symlink_to(str(os.getpid()))
        remove_own_lock(str(path))
        assert Path(f"{path}.lock").is_symlink()
