"""Why a request is refused: the status for its sender, a word for the counters, a sentence for people."""

from __future__ import annotations

from collections.abc import Sequence

#: Reason phrases of the statuses that are used here (RFC 9110, section 15; RFC 6585).
PHRASES = {
    200: b"OK",
    202: b"Accepted",
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    417: b"Expectation Failed",
    422: b"Unprocessable Content",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}


class Refusal(Exception):
    """The request is answered with `status` and this reason.

    `word` is the label of `eventserver_frames_rejected_total`, `frames` the number of frames that it counts there;
    `headers` are further ones of the response.
    """

    def __init__(
        self, status: int, word: str, reason: str, *, frames: int = 1, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.word = word
        self.reason = reason
        self.frames = frames
        self.headers = tuple(headers)


def malformed(reason: str) -> Refusal:
    """400: the request is not what it says it is."""
    return Refusal(400, "malformed", reason)


def oversize(reason: str) -> Refusal:
    """413: a body, a frame or their number is over its limit."""
    return Refusal(413, "oversize", reason)


def busy(reason: str, word: str, retry_after: float, *, status: int = 503, frames: int = 1) -> Refusal:
    """503 or 429: not now."""
    return Refusal(status, word, reason, frames=frames, headers=[("Retry-After", str(max(1, round(retry_after))))])
