"""An event queue with a time-out, under asyncio: wait for the first reading, then take readings until it gets quiet.

python queue_asyncio.py [ENDPOINT]
"""

import asyncio
import sys

from eventserver import EventServer


async def main(endpoint: str) -> None:
    settings = {"listener": {"readings": {"endpoints": [endpoint], "decoder": "json"}}}
    async with EventServer(settings) as server:
        print("listening on", server.addresses()["readings"][0], flush=True)
        async with server.subscribe(match='has("celsius")', timeout=1) as readings:
            first = await readings.get(timeout=60)
            warmest = first.fields["celsius"]
            async for event in readings:  # ends after a second without a reading
                warmest = max(warmest, event.fields["celsius"])
            print("warmest:", warmest)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "tcp:5140:interface=127.0.0.1"))
