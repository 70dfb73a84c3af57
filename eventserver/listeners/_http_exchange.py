"""One request and its answer: what is checked before the body, what becomes of it, and when it is acknowledged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import msgspec
from twisted.python.failure import Failure
from zope.interface import implementer

from eventserver.interfaces import AckLevel, IReplyWriter, ListenerContext
from eventserver.listeners._http_bodies import Cut, Limits, cut
from eventserver.listeners._http_body import Body, Budget
from eventserver.listeners._http_checks import Fields, check
from eventserver.listeners._http_gelf import cut_gelf, is_gelf
from eventserver.listeners._http_options import HttpOptions
from eventserver.listeners._http_refusals import Refusal, busy, malformed
from eventserver.listeners._http_repeats import Keys, sift
from eventserver.listeners._ingest import NO_MARKS, Ingest
from eventserver.thinned_log import ThinnedLog

_JSON = b"application/json"
#: Scopes of remembered keys; the listener's name stands before them.
_BY_REQUEST, _BY_EVENT = "idempotency-key", "cloudevents"


class Channel(Protocol):
    """What an exchange knows of its connection."""

    hub: Hub
    peer: str
    batch_context: dict[str, Any]

    def respond(
        self, status: int, body: bytes, content_type: bytes, headers: tuple[tuple[str, str], ...], *, close: bool
    ) -> None:
        """Write a whole response; with `close` it is the last one."""

    def requestDone(self, request: Exchange) -> None:
        """The request was read to its end, and is answered."""

    def stored(self, frames: int) -> None:
        """So many frames of this connection were taken."""

    def note_closed(self, reason: str) -> None:
        """The server ends the connection."""


class Hub(Protocol):
    """What exchanges know of their listener."""

    options: HttpOptions
    context: ListenerContext
    ingest: Ingest
    log: ThinnedLog
    budget: Budget
    keys: Keys
    ack: AckLevel
    limits: Limits

    def unavailable(self) -> tuple[str, str] | None:
        """Why nothing can be taken now: a word for the counters and a sentence; or None."""

    def in_turn(self, store: Callable[[], None]) -> None:
        """Have a request stored, after those that are about to be."""


@implementer(IReplyWriter)
class Exchange:
    """Takes the place of Twisted's `Request`, which would keep large bodies in files and parse forms.

    `begin` is called when the headers are there, `handleContentChunk` for what comes of the body, `requestReceived`
    at its end. The answer may be written before the body has ended; then the rest of it is dropped.
    """

    def __init__(self, channel: Channel, queued: bool = False) -> None:
        self.requestHeaders = Fields()
        self.answered = False
        self._channel = channel
        self._hub = channel.hub
        self.counters = self._hub.context.counters
        self._body: Body | None = None
        self._refusal: Refusal | None = None
        self._whole = False
        self._gone = False
        self._path = "/"
        self._gelf = False
        self._number = 0
        self._replies: list[bytes] = []
        self._replied = 0
        self._accepted = self._duplicates = 0
        self._waiting_since: float | None = None

    # What the channel calls

    def begin(self, method: bytes, target: bytes, version: bytes, length: int | None) -> bool:
        """The headers are there. Whether the body is wanted; if not, the request is answered, unless it has none."""
        try:
            self._path = check(self.requestHeaders, method, target, version, self._hub)
            encoding = self.requestHeaders.get("content-encoding", "")
            self._gelf = is_gelf(self._hub.context.decoder, self._path)
            self._body = Body(encoding, length, self._hub.options, self._hub.budget, gelf=self._gelf)
        except Refusal as refusal:
            self._refusal = refusal
            if length != 0:
                self._refuse(refusal)
            return False
        return True

    def handleContentChunk(self, data: bytes) -> None:
        """Some of the body came."""
        if self.answered or self._body is None:
            return
        try:
            self._body.feed(data)
        except Refusal as refusal:
            self._refuse(refusal)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The request has been read to its end."""
        self._whole = True
        if self.answered:
            self._channel.requestDone(self)
            return
        try:
            if self._refusal is not None or self._body is None:
                raise self._refusal or malformed("no request")
            headers, cut_body = self.requestHeaders, cut_gelf if self._gelf else cut
            found = cut_body(self._body.finish(), headers.get("content-type", ""), headers, self._hub.limits)
            self._hub.in_turn(partial(self._store_or_refuse, found))
        except Refusal as refusal:
            self._refuse(refusal)

    def connectionLost(self, reason: Failure) -> None:
        """Nobody waits for the answer any more; a body that had not ended is counted as refused."""
        self._gone = True
        if not self.answered and not self._whole and self._body is not None:
            self._hub.ingest.reject("incomplete")
        self._end()

    def drop(self) -> None:
        """The connection answers for it, and ends."""
        self._end()

    def sweep(self, now: float) -> None:
        """Apply what time has brought to a request that waits for its acknowledgement."""
        since = self._waiting_since
        if since is not None and now - since >= self._hub.context.ack_timeout:
            self._channel.note_closed("ack_timeout")
            self._refuse_stored("not acknowledged in time; it may be sent again", close=True)

    def time_out(self, reason: str) -> None:
        """The body took too long: 408, and the end of the connection."""
        if not self.answered:
            self._refuse(Refusal(408, reason, f"the request took too long ({reason})"))

    def stop(self) -> None:
        """The server stops: a body that has not ended is not waited for."""
        if not self.answered and not self._whole:
            self._refuse(busy("the server is stopping", "stopped", self._hub.options.retry_after))

    # What replies call

    def reply(self, payload: bytes) -> None:
        """Keep the reply for the response."""
        self._replied += len(payload)
        if self._replied > self._hub.options.max_unread_replies:
            self.counters.replies["unsent"] += 1
        else:
            self._replies.append(payload)

    # Storing

    def _store_or_refuse(self, found: Cut) -> None:
        try:
            self._store(found)
        except Refusal as refusal:
            self._refuse(refusal)

    def _store(self, found: Cut) -> None:
        """Put the frames that are new, and answer when all of them, old and new, are acknowledged."""
        hub = self._hub
        frames, keys, known = found.frames, found.keys, 0
        by_request, by_event = f"{hub.context.name}/{_BY_REQUEST}", f"{hub.context.name}/{_BY_EVENT}"
        request_keys = self._request_keys(frames) if "idempotency-key" in self.requestHeaders else []
        if request_keys and (before := self._recall(by_request, request_keys)):
            self._duplicates, known = len(frames), before
            frames, keys, request_keys = [], None, []
        elif keys is not None:
            sifted = sift(hub.keys, by_event, frames, keys)
            frames, keys, known, self._duplicates = sifted.frames, sifted.keys, sifted.known, sifted.repeated
        self._accepted = len(frames)
        position = self._put(frames) if frames else 0
        self.counters.duplicates += self._duplicates
        # In the same turn as the frames, so that the journal writes both or neither.
        if keys:
            hub.keys.remember(by_event, list(zip(keys, range(position - len(frames) + 1, position + 1), strict=True)))
        last = max(position, known)
        if request_keys and last:
            hub.keys.remember(by_request, [(key, last) for key in request_keys])
        self._release()
        self._await(last)

    def _request_keys(self, frames: list[bytes]) -> list[str]:
        """The key of the request, and that key with what it carries; each sender and path has its own keys."""
        sender = str(self._channel.batch_context.get("tls", {}).get("subject", ""))
        key = f"{len(sender)}:{sender}{self._path} {self.requestHeaders['idempotency-key']}"
        content = hashlib.blake2b(digest_size=16)
        for frame in frames:
            content.update(b"%d:" % len(frame))
            content.update(frame)
        name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        return [name, name + content.hexdigest()]

    def _recall(self, scope: str, keys: list[str]) -> int | None:
        """The position of what came under this key before. Raises `Refusal` if that was something else."""
        position = self._hub.keys.recall(scope, keys[0])
        if position is not None and self._hub.keys.recall(scope, keys[1]) is None:
            raise Refusal(422, "key_reused", "this Idempotency-Key came with another body before")
        return position

    def _put(self, frames: list[bytes]) -> int:
        """The position behind the frames, in the intake. Raises `Refusal`."""
        hub, channel = self._hub, self._channel
        context = hub.context
        if context.replies and hub.ack == "delivered":
            self._number = context.connections.add(self)
        batch_context = {**channel.batch_context, "path": self._path}
        batch = hub.ingest.batch(frames, (channel.peer,), batch_context, self._number, NO_MARKS)
        position = hub.ingest.put(batch)
        if position is None:
            word = context.intake.refusal
            raise busy("no event can be taken now", word, hub.options.retry_after, frames=len(frames))
        channel.stored(len(frames))
        return position

    def _await(self, position: int) -> None:
        hub = self._hub
        if self._gone:
            return  # a handler that ran just now has closed the connection
        if not position or hub.ack == "memory":
            self._acked(None)
            return
        self._waiting_since = hub.context.reactor.seconds()
        hub.context.intake.watch(hub.ack, position, self._acked)

    def _acked(self, failure: Failure | None) -> None:
        if self.answered or self._gone:
            return
        if failure is not None:
            self._refuse_stored(f"not acknowledged: {failure.getErrorMessage()}")
            return
        self.counters.acknowledged += self._accepted + self._duplicates
        if self._replies:
            replies = self._replies
            self._answer(200, b"\n".join(replies), _type_of(replies))
        elif self._gelf:
            self._answer(202, b"", _JSON)
        else:
            counts = {"accepted": self._accepted, "duplicates": self._duplicates}
            self._answer(200, msgspec.json.encode(counts), _JSON)

    # Answers

    def _refuse(self, refusal: Refusal) -> None:
        """Answer, and count what was refused."""
        hub = self._hub
        hub.ingest.reject(refusal.word, refusal.frames)
        hub.log.warn(refusal.word, "refused a request of {peer}: {why}", peer=self._channel.peer, why=refusal.reason)
        self._answer_refusal(refusal, close=not self._whole)

    def _refuse_stored(self, reason: str, *, close: bool = False) -> None:
        """Answer 503 though the events are stored, so counted already: what was asked for besides is not met."""
        self._answer_refusal(busy(reason, "", self._hub.options.retry_after), close=close)

    def _answer_refusal(self, refusal: Refusal, *, close: bool) -> None:
        body = msgspec.json.encode({"error": refusal.reason})
        self._answer(refusal.status, body, _JSON, refusal.headers, close=close)

    def _answer(
        self,
        status: int,
        body: bytes,
        content_type: bytes,
        headers: tuple[tuple[str, str], ...] = (),
        *,
        close: bool = False,
    ) -> None:
        if self.answered or self._gone:
            return
        self._end()
        self._channel.respond(status, body, content_type, headers, close=close)
        if self._whole:
            self._channel.requestDone(self)

    def _end(self) -> None:
        """Let go of what is held for the request."""
        self.answered = True
        self._waiting_since = None
        self._release()
        if self._number:
            self._hub.context.connections.remove(self._number)
            self._number = 0

    def _release(self) -> None:
        if self._body is not None:
            self._body.release()


def _type_of(replies: list[bytes]) -> bytes:
    """The media type of replies: JSON where a handler returned a dict."""
    if all(reply[:1] == b"{" for reply in replies):
        return _JSON if len(replies) == 1 else b"application/x-ndjson"
    return b"text/plain; charset=utf-8"
