"""Endpoint strings."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventserver import options
from eventserver.listeners._endpoints import check_endpoint, parse_endpoint
from eventserver.listeners.datagram import DatagramListener
from eventserver.listeners.stream import StreamListener


@pytest.mark.parametrize(
    ("text", "kind", "args"),
    [
        ("tcp:5140", "stream", {"port": "5140"}),
        ("tcp:port=0:interface=127.0.0.1:backlog=9", "stream", {"port": "0", "interface": "127.0.0.1", "backlog": "9"}),
        (r"tcp6:514:interface=\:\:1", "stream", {"port": "514", "interface": "::1"}),
        ("udp:514:interface=::1", "datagram", {"port": "514", "interface": "::1"}),
        ("tcp:interface=fe80::1%eth0:port=5", "stream", {"port": "5", "interface": "fe80::1%eth0"}),
        ("tcp:514:interface=[2001:db8::1]", "stream", {"port": "514", "interface": "2001:db8::1"}),
        ("tls:6514", "stream", {"port": "6514"}),
        (r"unix:/run/a\:b=c:mode=660", "stream", None),
        (r"unix:/run/a\:b\=c:mode=660", "stream", {"address": "/run/a:b=c", "mode": "660"}),
        ("unix:address=/run/x=y", "stream", {"address": "/run/x=y"}),
        ("systemd:domain=INET:index=0", "stream", {"domain": "INET", "index": "0"}),
        ("systemd:INET6:name=x", "stream", {"domain": "INET6", "name": "x"}),
        ("systemd-datagram:name=syslog", "datagram", {"name": "syslog"}),
        ("unix-datagram:/dev/log", "datagram", {"address": "/dev/log"}),
    ],
)
def test_endpoint_is_taken_apart(text: str, kind: str, args: dict[str, str] | None) -> None:
    """Twisted's syntax, and IPv6 addresses written plainly besides."""
    if args is None:
        with pytest.raises(ValueError, match="unknown part"):
            parse_endpoint(text)
        return
    endpoint = parse_endpoint(text)
    assert (endpoint.kind, dict(endpoint.args)) == (kind, args)
    assert (endpoint.text, endpoint.scheme) == (text, text.partition(":")[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no scheme that is known"),
        ("5140", "right would be `tcp:5140` or `udp:5140`"),
        ("tpc:5140", "did you mean `tcp:`"),
        ("ssl:6514", "is written `tls:PORT`"),
        ("tcp", "needs a port"),
        ("tcp:", "needs a port"),
        ("tcp:syslog", "needs a port"),
        ("tcp:65536", "needs a port from 0 to 65535"),
        ("tcp:-1", "needs a port"),
        ("tcp:1:2", "names its port twice"),
        ("tcp:1:port=2", "names its port twice"),
        ("udp:1:mode=660", "unknown part `mode`"),
        ("unix:/x:mode=888", "octal"),
        ("unix:mode=660", "needs a path"),
        ("tcp:1:backlog=many", "whole number"),
        ("systemd:domain=INET", "either `index=` or `name=`"),
        ("systemd:domain=INET:index=0:name=a", "either `index=` or `name=`"),
        ("systemd:domain=IPX:index=0", "INET, INET6 or UNIX"),
        ("systemd-datagram:0", "part too many"),
    ],
)
def test_wrong_endpoint_is_refused_with_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_endpoint(text)


def test_plugins_of_twisted_are_streams() -> None:
    """`stdio:` is one that comes with Twisted; its own parser reads the rest."""
    assert parse_endpoint("stdio:").kind == "stream"


def test_haproxy_of_twisted_is_refused_for_it_trusts_everybody() -> None:
    with pytest.raises(ValueError, match=r"is written `tcp:PORT`, with `proxy_protocol = \{trusted"):
        parse_endpoint("haproxy:tcp:80")


@given(st.text(alphabet=":=\\/[]tcpudnix-0159é "))
def test_any_text_is_an_endpoint_or_a_sentence(text: str) -> None:
    """Nothing but ValueError comes out, whatever goes in."""
    with contextlib.suppress(ValueError):
        assert parse_endpoint(text).text == text


def test_each_listener_refuses_the_endpoints_of_the_other() -> None:
    StreamListener.check_endpoint("tcp:1")
    DatagramListener.check_endpoint("udp:1")
    with pytest.raises(ValueError, match="use a datagram listener"):
        StreamListener.check_endpoint("udp:1")
    with pytest.raises(ValueError, match="use a stream listener"):
        check_endpoint("tcp:1", "datagram")
    assert not set(StreamListener.schemes) & set(DatagramListener.schemes)


def test_every_problem_of_the_settings_is_named() -> None:
    """All at once, each with its key."""
    _, problems = options.parse(
        StreamListener.Options, {"endpoints": ["tcp:x", "tls:1"], "optional_endpoints": ["udp:1"]}
    )
    assert [key for key, _ in problems] == ["endpoints", "tls", "optional_endpoints"]
    _, problems = options.parse(DatagramListener.Options, {})
    assert problems == [("endpoints", "is missing")]
    _, problems = options.parse(
        DatagramListener.Options, {"endpoints": ["udp:1", "x"], "multicast_groups": ["10.0.0.1", "ff02::1", "?"]}
    )
    assert [key for key, _ in problems] == ["endpoints"] + ["multicast_groups"] * 3


def test_settings_are_read_with_their_units() -> None:
    made, problems = options.parse(
        StreamListener.Options, {"endpoints": ["tcp:1"], "idle_timeout": "5 min", "max_unread_replies": "1 MiB"}
    )
    assert problems == []
    assert made is not None
    assert (made.idle_timeout, made.max_unread_replies, made.backlog) == (300, 1 << 20, 512)
