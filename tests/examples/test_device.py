"""The heaters of examples/device, from bytes to answers."""

from __future__ import annotations

import tomllib
from pathlib import Path

from eventserver.testing import Harness
from tests.examples.conftest import Example


def harness(folder: Path) -> Harness:
    return Harness(tomllib.loads((folder / "device" / "device.toml").read_text()))


def test_commands_are_answered_in_order_to_each_device(example: Example, folder: Path) -> None:
    example("device")
    with harness(folder) as heaters:
        heaters.send(b"HELLO kitchen\r\nTEMP 17.5\r\n", peer="192.0.2.1:1")
        heaters.send(b"hello bath\nTEMP 21\nSTATUS\nBYE\nSTATUS\n", peer="192.0.2.2:2")
        assert heaters.replies("192.0.2.1:1") == [b"OK kitchen", b"HEAT ON"]
        assert heaters.replies("192.0.2.2:2") == [
            b"OK bath", b"HEAT OFF", b"bath 21.0, kitchen 17.5", b"OK", b"kitchen 17.5",
        ]  # fmt: skip


def test_nonsense_is_answered_and_hurts_nobody(example: Example, folder: Path) -> None:
    example("device")
    with harness(folder) as heaters:
        heaters.send(b"TEMP 3\n\nHELLO\nHELLO x\nTEMP hot\n\xff\n")
        assert heaters.replies() == [
            b"ERROR say HELLO first",
            b"ERROR say HELLO name, TEMP celsius, STATUS or BYE",
            b"OK x",
            b"ERROR hot is no temperature",
            b"ERROR say HELLO name, TEMP celsius, STATUS or BYE",
        ]
        assert heaters.parked == heaters.dead_letters == []


def test_the_number_of_heaters_is_bounded(example: Example) -> None:
    device = example("device")
    device.MAX_HEATERS = 2
    for port in range(4):
        device.remember(f"192.0.2.1:{port}", "x", None)
    assert list(device.heaters) == ["192.0.2.1:2", "192.0.2.1:3"]
