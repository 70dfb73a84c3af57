"""Sockets that systemd opened for the service (socket activation, sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket

from twisted.internet import endpoints
from twisted.python.systemd import ListenFDs

from eventserver.listeners._endpoints import CannotListen, Endpoint

_FAMILIES = {"INET": socket.AF_INET, "INET6": socket.AF_INET6, "UNIX": socket.AF_UNIX}


def inherited() -> ListenFDs:
    """The descriptors that systemd passed, with their names."""
    # Reading them removes the variables from the environment, and Twisted's endpoints do so when they are imported:
    # what they found is kept in the parser of `systemd:`, and nowhere else.
    return endpoints._SystemdParser._sddaemon


def adopt(endpoint: Endpoint) -> list[socket.socket]:
    """The sockets that an endpoint `systemd:` or `systemd-datagram:` means, non-blocking and closed on exec.

    A name may stand for several sockets (systemd names all sockets of a unit alike): those of the right type are
    taken. They are duplicates; the inherited descriptors stay open, so a listener can be started again.
    Raises `CannotListen` if there are none, or if the one that `index` names is of another type.
    """
    wanted = socket.SOCK_STREAM if endpoint.kind == "stream" else socket.SOCK_DGRAM
    found = []
    for descriptor in _descriptors(endpoint):
        try:
            sock = socket.socket(fileno=os.dup(descriptor))
        except OSError as error:
            raise CannotListen(f"{endpoint.text}: descriptor {descriptor} is no socket: {error.strerror}") from error
        if sock.type != wanted or sock.family != _FAMILIES.get(endpoint.args.get("domain", ""), sock.family):
            sock.close()
            continue
        os.set_inheritable(sock.fileno(), False)
        sock.setblocking(False)
        found.append(sock)
    if not found:
        raise CannotListen(f"{endpoint.text}: systemd passed no {endpoint.kind} socket of that {_key(endpoint)}")
    return found


def _key(endpoint: Endpoint) -> str:
    return "index" if "index" in endpoint.args else "name"


def _descriptors(endpoint: Endpoint) -> list[int]:
    passed = inherited()
    descriptors = passed.inheritedDescriptors()
    if "index" in endpoint.args:
        return descriptors[int(endpoint.args["index"]) :][:1]
    # Not `inheritedNamedDescriptors()`: of several with one name it knows only the last.
    return [d for d, name in zip(descriptors, passed._names, strict=False) if name == endpoint.args["name"]]
