"""A plain callback: a function that is called with every event, in a program of its own.

python callback.py [ENDPOINT]
"""

import asyncio
import sys

from eventserver import Event, EventServer


def on_event(event: Event) -> None:
    print(f"{event.peer.rpartition(':')[0]} says {event.message!r}", flush=True)


async def main(endpoint: str) -> None:
    settings = {"listener": {"lines": {"endpoints": [endpoint]}}}
    server = EventServer(settings)
    server.add_handler(on_event, match='message != ""')
    async with server:
        print("listening on", server.addresses()["lines"][0], flush=True)
        # The program's own work; the example ends when its first visitor says so.
        async with server.subscribe(match='message == "that is all"') as ends:
            await ends.get()


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "tcp:5140:interface=127.0.0.1"))
