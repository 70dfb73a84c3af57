"""Alarms to HTTP webhooks, with nothing but asyncio: each pile is one POST to every target, all at the same time.

Targets come from the environment: `WEBHOOKS=http://one.example/hook,https://two.example/hook`. A target that is down or
says 429 or 5xx is tried again with the same events, and so are the others that already have them: each request carries
an `Idempotency-Key`. Any other refusal makes the events dead letters.
"""

import asyncio
import os
from urllib.parse import urlsplit

import msgspec

from eventserver import Event, PermanentFailure, TemporaryFailure

TARGETS = [urlsplit(url) for url in os.environ["WEBHOOKS"].split(",")]
SECONDS = 10


async def on_events(events: list[Event]) -> None:
    """Send a pile. To return is to say that every target has it."""
    body = msgspec.json.encode(events)
    key = f"{events[0].id}/{events[-1].id}"
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(outcome_of(target, key, body)) for target in TARGETS]
    failures = [failure for task in tasks if (failure := task.result()) is not None]
    # As long as one target may recover, there is something to try again for.
    for failure in sorted(failures, key=lambda one: isinstance(one, PermanentFailure)):
        raise failure


async def outcome_of(target, key: str, body: bytes) -> Exception | None:
    """What went wrong with one target. Nothing is raised, as that would cancel the requests to the others."""
    try:
        async with asyncio.timeout(SECONDS):
            status = await post(target, key, body)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
        return TemporaryFailure(f"{target.netloc}: {error!r}")
    if 200 <= status < 300:
        return None
    kind = TemporaryFailure if status == 429 or status >= 500 else PermanentFailure
    return kind(f"{target.netloc} answered {status}")


async def post(target, key: str, body: bytes) -> int:
    """One request; returns the status of the answer."""
    secure = target.scheme == "https"
    port = target.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(target.hostname, port, ssl=secure or None)
    try:
        head = (
            f"POST {target.path or '/'} HTTP/1.1\r\nHost: {target.netloc}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nIdempotency-Key: {key}\r\n\r\n"
        )
        writer.write(head.encode("ascii") + body)
        await writer.drain()
        _, status, *_ = (await reader.readuntil(b"\r\n")).split()
        return int(status)
    finally:
        writer.close()
