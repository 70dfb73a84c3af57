"""Endpoints as the settings look at them: where two of them get in each other's way."""

from __future__ import annotations

from eventserver.listeners._endpoints import Endpoint, parse_endpoint

__all__ = ["Endpoint", "parse_endpoint", "place_of"]

_TRANSPORTS = {"tcp": "tcp", "tcp6": "tcp", "tls": "tcp", "udp": "udp"}


def place_of(endpoint: Endpoint) -> tuple[str, ...] | None:
    """What two endpoints cannot share: transport, port and address, or the socket file. None for any free port."""
    transport = _TRANSPORTS.get(endpoint.scheme)
    if transport is None:
        if not endpoint.args:
            return endpoint.scheme, endpoint.text
        return (endpoint.scheme, *(f"{key}={value}" for key, value in sorted(endpoint.args.items())))
    if endpoint.port == 0:
        return None
    return transport, str(endpoint.port), endpoint.interface or ("::" if endpoint.scheme == "tcp6" else "")
