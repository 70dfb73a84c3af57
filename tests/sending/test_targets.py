"""What `--to` may say, and what is wrong with anything else."""

from __future__ import annotations

import pytest

from eventserver.sending.targets import SCHEMES, parse_target


@pytest.mark.parametrize(("text", "protocol", "kind", "host", "port", "path"), [
    ("tcp:localhost:5140", "plain", "tcp", "localhost", 5140, ""),
    ("tcp:[::1]:5140", "plain", "tcp", "::1", 5140, ""),
    ("unix:/run/es.sock", "plain", "unix", "/run/es.sock", 0, ""),
    ("relp+tls:logs.example:2514", "relp", "tls", "logs.example", 2514, ""),
    ("http://localhost:8080", "http", "tcp", "localhost", 8080, "/"),
    ("https://logs.example/a?b=c", "http", "tls", "logs.example", 443, "/a?b=c"),
    ("http://[::1]/", "http", "tcp", "::1", 80, "/"),
    ("gelf:localhost:12201", "gelf", "udp", "localhost", 12201, ""),
    ("gelf+http://localhost:8080", "gelf", "tcp", "localhost", 8080, "/gelf"),
    ("statsd+unix:/run/statsd", "statsd", "unix", "/run/statsd", 0, ""),
    ("graphite+pickle:localhost:2004", "graphite-pickle", "tcp", "localhost", 2004, ""),
    ("lumberjack1:localhost:5044", "lumberjack1", "tcp", "localhost", 5044, ""),
])  # fmt: skip
def test_a_target(text: str, protocol: str, kind: str, host: str, port: int, path: str) -> None:
    target = parse_target(text)
    assert (target.protocol, *target.destination, target.path) == (protocol, kind, host, port, path)
    assert target.datagrams == (kind == "udp")
    assert target.secure == (kind == "tls")
    assert target.http == bool(path)


@pytest.mark.parametrize(("text", "said"), [
    ("", "it begins with one of tcp, tls,"),
    ("5140", "it begins with one of"),
    ("tpc:localhost:1", "did you mean `tcp:`?"),
    ("relp", "did you mean `relp:`?"),
    ("relp:localhost", "right would be `relp:localhost:5140`"),
    ("relp:localhost:0", "right would be"),
    ("relp:localhost:70000", "right would be"),
    ("unix:", "right would be `unix:/run/es.sock`"),
    ("unix:/" + "x" * 107, "the path of a socket has at most 107 bytes"),
    ("statsd+unix-datagram:/" + "ä" * 54, "the path of a socket has at most 107 bytes"),
    ("http:localhost:8080", "right would be `http://localhost:8080/`"),
    ("http://", "is no URL"),
    ("http://localhost:x/", "is no URL"),
    ("http://user@localhost/", "is no URL"),
    ("http://localhost/\r\nX: y", "is no URL"),
    ("gelf+http:localhost:1", "right would be `gelf+http://localhost:8080/gelf`"),
])  # fmt: skip
def test_what_is_no_target_is_told_what_would_be(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"(?s)`.*` is no (target|URL)") as error:
        parse_target(text)
    assert said in str(error.value)


def test_the_help_names_every_scheme() -> None:
    from eventserver.cli._send_options import EPILOG

    for scheme in SCHEMES:
        assert f"{scheme}:" in EPILOG or scheme in EPILOG.replace(",", " ").replace(")", " ").split(), scheme
