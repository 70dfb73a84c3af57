"""An alarm when one address fails to log in by ssh too often: `THRESHOLD` times within `WINDOW` seconds.

What a handler prints becomes a line of the server's log. Replace `alarm` with whatever wakes you up.
"""

import re
from collections import OrderedDict, deque

from eventserver import Event

THRESHOLD = 5
WINDOW = 60.0
MAX_ADDRESSES = 10_000

#: sshd's own words, such as `Failed password for invalid user admin from 203.0.113.9 port 4711 ssh2`.
FAILED = re.compile(r"Failed \S+ for (?:invalid user )?(?P<user>.*) from (?P<address>\S+) port \d+")

#: The times of the latest failures of each address, in seconds; the address that was quiet longest is forgotten first.
failures: OrderedDict[str, deque[float]] = OrderedDict()


def on_event(event: Event) -> None:
    """Count one line. Times are those of the lines, so late ones count where they belong."""
    found = FAILED.search(event.message)
    if found is None:
        return
    address, now = found["address"], event.time.timestamp()
    recent = failures.setdefault(address, deque(maxlen=THRESHOLD))
    failures.move_to_end(address)
    if len(failures) > MAX_ADDRESSES:
        failures.popitem(last=False)
    recent.append(now)
    if len(recent) == THRESHOLD and now - recent[0] <= WINDOW:
        # Begin anew: one alarm for each run of failures, not one for each line from now on.
        recent.clear()
        alarm(f"{address} failed to log in {THRESHOLD} times within {WINDOW:g} s, last as {found['user']!r}", event)


def alarm(text: str, event: Event) -> None:
    """Tell somebody."""
    print(f"ALARM on {event.fields.get('hostname', event.peer)}: {text}")
