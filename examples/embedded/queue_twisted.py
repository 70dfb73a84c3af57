"""The same queue under Twisted: wait for the first reading, then take readings until it gets quiet.

python queue_twisted.py [ENDPOINT]
"""

import sys

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react

from eventserver import EventServer


async def main(reactor, endpoint: str) -> None:
    settings = {"listener": {"readings": {"endpoints": [endpoint], "decoder": "json"}}}
    async with EventServer(settings, reactor) as server:
        print("listening on", server.addresses()["readings"][0], flush=True)
        async with server.subscribe(match='has("celsius")', timeout=1) as readings:
            first = await readings.get(timeout=60)
            warmest = first.fields["celsius"]
            async for event in readings:  # ends after a second without a reading
                warmest = max(warmest, event.fields["celsius"])
            print("warmest:", warmest)


endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp:5140:interface=127.0.0.1"
react(lambda reactor: ensureDeferred(main(reactor, endpoint)))
