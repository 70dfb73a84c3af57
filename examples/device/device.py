"""Heaters that ask what to do: each line is a command, and each gets an answer.

    HELLO kitchen      OK kitchen
    TEMP 17.5          HEAT ON
    TEMP 21.0          HEAT OFF
    STATUS             kitchen 21.0
    BYE                OK

The state of a connection is kept by its peer. What is no command is answered with `ERROR` and a reason.
"""

from collections import OrderedDict

from eventserver import Event

TARGET = 19.0
MAX_HEATERS = 10_000

#: The name and the latest temperature of each heater, by the peer that it talks from; the oldest is forgotten first.
heaters: OrderedDict[str, tuple[str, float | None]] = OrderedDict()


def on_event(event: Event) -> str | None:
    """The answer to one line. An empty line gets none."""
    words = event.message.split()
    if not words:
        return None
    match [words[0].upper(), *words[1:]]:
        case ["HELLO", name]:
            remember(event.peer, name, None)
            return f"OK {name}"
        case ["TEMP", text]:
            return heat(event.peer, text)
        case ["STATUS"]:
            return ", ".join(sorted(f"{name} {celsius}" for name, celsius in heaters.values())) or "nobody"
        case ["BYE"]:
            heaters.pop(event.peer, None)
            return "OK"
    return "ERROR say HELLO name, TEMP celsius, STATUS or BYE"


def heat(peer: str, text: str) -> str:
    """What a heater should do at this temperature."""
    if peer not in heaters:
        return "ERROR say HELLO first"
    try:
        celsius = float(text)
    except ValueError:
        return f"ERROR {text} is no temperature"
    remember(peer, heaters[peer][0], celsius)
    return "HEAT ON" if celsius < TARGET else "HEAT OFF"


def remember(peer: str, name: str, celsius: float | None) -> None:
    """Note what a heater said. Peers come and go without a word, so the number is bounded."""
    heaters[peer] = (name, celsius)
    heaters.move_to_end(peer)
    if len(heaters) > MAX_HEATERS:
        heaters.popitem(last=False)
