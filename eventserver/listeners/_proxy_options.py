"""The settings of the PROXY protocol, and which peers may speak it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Annotated, Any

from eventserver import options
from eventserver.options import Doc, Duration, Size

#: What stands for peers on unix sockets among the trusted networks.
UNIX = "unix"


class ProxyOptions(options.Options, frozen=True, kw_only=True):
    """How a listener behind proxies learns who its real peers are."""

    trusted: Annotated[
        tuple[str, ...],
        Doc(
            "The proxies: addresses and networks, and `unix` for all that may connect to its unix sockets. "
            "Nobody else may connect.",
            ["10.0.0.0/8"],
        ),
    ] = ()
    header_timeout: Annotated[
        Duration, Doc("How long a connection may take to bring its PROXY header.", "5 s", ge=1)
    ] = Duration(5)
    max_header: Annotated[
        Size,
        Doc("The largest header of version 2, extensions included; the specification allows 65551 bytes.",
            "4 KiB", ge=232, le=65551),
    ] = Size(4 << 10)  # fmt: skip

    def problems(self) -> Iterable[tuple[str, str]]:
        """Networks that are none; and that nobody is trusted, for then nobody could connect."""
        if not self.trusted:
            yield "trusted", 'is missing; it names the proxies, such as ["10.0.0.0/8"]'
        for text in self.trusted:
            try:
                _network(text)
            except ValueError:
                yield "trusted", f"{text!r} is no network; one is 10.0.0.0/8, another 2001:db8::/32, or `unix`"


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    return None if text == UNIX else ipaddress.ip_network(text)


class Trust:
    """Tells who is a proxy. What it found out about addresses is remembered, for so many as `remembered` says."""

    def __init__(self, settings: ProxyOptions, remembered: int = 1024) -> None:
        self._networks = [network for network in map(_network, settings.trusted) if network is not None]
        self._unix = UNIX in settings.trusted
        self._remembered = remembered
        self._known: dict[str, bool] = {}

    def of(self, host: str | None) -> bool:
        """Whether this address is that of a proxy; None is a peer on a unix socket."""
        if host is None:
            return self._unix
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= self._remembered:
                self._known.clear()
            self._known[host] = known = self._look(host)
        return known

    def _look(self, host: str) -> bool:
        try:
            ip: Any = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False  # a plugin's endpoint may have addresses of its own kind
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return any(ip in network for network in self._networks)
