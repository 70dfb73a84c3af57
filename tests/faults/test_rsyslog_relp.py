"""A real rsyslogd sends over RELP while the server is killed: every message arrives."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from eventserver.journal._executor import InlineExecutor
from tests.faults.figures import Figures, scaled
from tests.faults.oracle import Recorded, message
from tests.faults.servers import Crashing
from tests.faults.simulation import FakeTime, open_journal
from tests.real.rsyslog import Rsyslogd
from tests.realprograms import DEADLINE, TERMINATED

pytestmark = [pytest.mark.real, pytest.mark.slow]

#: In: a file of messages. Out: RELP to the server, one message a line, as it is in the file. librelp corks its socket,
#: and loopback's segments are larger than its usual window of 128 messages: without a larger one it waits 200 ms for
#: each window.
FORWARD = """
module(load="imfile" mode="inotify")
module(load="omrelp")
template(name="plain" type="string" string="%msg%")
input(type="imfile" file="{folder}/messages" tag="t" ruleset="out" addMetadata="off")
ruleset(name="out" queue.type="LinkedList" queue.size="200000") {{
  action(type="omrelp" target="127.0.0.1" port="{port}" template="plain"
         action.resumeInterval="1" action.resumeRetryCount="-1" windowSize="2000")
}}
"""


def test_rsyslogd_sends_while_the_server_is_killed(
    crashing: Callable[..., Crashing], real_program: Callable[[str], str], tmp_path: Path, figures: Figures
) -> None:
    """Every message arrives. A frame that was journaled keeps its id; what rsyslogd repeats has a new one."""
    held = crashing()
    program = real_program("rsyslogd")
    if not list(Path("/usr/lib").glob("*/rsyslog/omrelp.so")):
        real_program("rsyslogd with omrelp")
    count, kills = scaled(20_000, 100_000), scaled(4, 20)
    folder = tmp_path / "rsyslog"
    folder.mkdir()
    (folder / "messages").touch()
    held.start()
    chance = random.Random(3)
    never = threading.Event()
    with contextlib.ExitStack() as stack:
        stack.enter_context(Rsyslogd(program, folder, FORWARD.format(folder=folder, port=held.relp)))
        # The messages come all the time, so that each kill hits some on their way.
        writer = threading.Thread(target=write, args=(folder / "messages", count, count / (1.6 * kills)), daemon=True)
        writer.start()
        wait_until_recorded(held, 1)
        for _ in range(kills):
            before = len(held.recorded().numbers)
            wait_until_recorded(held, min(count, before + 1))
            never.wait(chance.uniform(0, 0.3))
            assert held.server is not None
            held.server.kill()
            held.start()
        writer.join()
        wait_until_recorded(held, count)
        held.drained()
    assert held.server.stop() == TERMINATED
    recorded = held.recorded()
    numbers = Counter(recorded.numbers.values())
    assert sorted(set(range(1, count + 1)) - numbers.keys())[:5] == []
    assert recorded.corrupted == []
    resent = sum(numbers.values()) - len(numbers)
    again = sum(recorded.again)
    # Each frame of the journal has one id, whatever happened: there are as many ids as frames.
    assert len(recorded.numbers) == journal_frames(held.folder / "journal")
    assert held.troubles() == []
    figures(
        f"rsyslogd over RELP, {kills} kills: {count} messages, 0 lost; {again} delivered again with the same id;"
        f" {resent} sent again by rsyslogd itself"
    )


def write(path: Path, count: int, rate: float) -> None:
    """Appends the messages to a file, at a rate."""
    step = max(1, int(rate / 100))
    began = time.monotonic()
    with path.open("ab", buffering=0) as file:
        for first in range(1, count + 1, step):
            file.write(b"".join(message(each) + b"\n" for each in range(first, min(first + step, count + 1))))
            time.sleep(max(0.0, began + first / rate - time.monotonic()))


def journal_frames(folder: Path) -> int:
    """The number of frames that the journal ever took; no server may run."""
    journal = open_journal(folder, FakeTime(), InlineExecutor(), retention=3600.0)
    frames = journal.head
    assert journal.close().called
    return frames


def wait_until_recorded(crashing: Crashing, number: int) -> Recorded:
    """Waits until so many different messages have been recorded."""
    deadline = time.monotonic() + DEADLINE
    path = crashing.folder / "recorded.txt"
    while True:
        # The size first: reading is dear.
        if path.exists() and path.stat().st_size > 40 * number:
            recorded = crashing.recorded()
            if len(set(recorded.numbers.values())) >= number:
                return recorded
        if time.monotonic() > deadline:
            server = crashing.server
            pytest.fail(f"{number} were not recorded\n{server.output()[-3000:] if server else ''}", pytrace=False)
        time.sleep(0.02)
