"""Stories of delivery: the whole agent, the real mosquitto, and the reference reader as judge.

Each story plays at the length it is given, asserts that it ended exactly, and gives one line with its figures:
`tests/real` plays them short, `tests/soak` at full length.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.journal import Journal
from agent.machine import machine_identity
from agent.web.socket import ask_status
from bench.journal import Site, fill, nothing
from bench.peers import hang_up
from tests.rigs.agent import RunningAgent, config_text
from tests.rigs.journals import MAIN_FIELDS, Buffer
from tests.rigs.mosquitto import Mosquitto
from tests.rigs.reader import CentralReader, Ledger
from tests.rigs.service import serving

CHECKS = 20
INTERVAL_S = 0.2
RECORDS_PER_S = CHECKS / INTERVAL_S
BASE = "siteprobe/v1/o/s/n"
STILL_S = 0.5  # nothing is taken or waits for so long: the agent has come to rest
SEED = 3
BACKLOG_AT_KILLS = 8_000
LONGEST_LIFE_S = 2.0  # of an agent that will be killed; it takes about 0.6 s until it is connected
BROKER_AWAY_S = (1.2, 2.0)
"""Beyond `retry_max` of the config (1 s): an attempt fails meanwhile. Three connections in a row that end soon, with
no failed attempt between them, look like another agent of the same name, and cost 60 s (contract, rule 6)."""
AT_WORK_S = (0.5, 2.0)  # between two kills of the broker
LEAST_LOST = 20  # records that the broker accepts for the reader that is away before it is killed
KILLS_WITH_READER = 3  # of four of the broker; at the fourth the reader is away


class Scene:
    """A broker, an agent of 100 records a second (20 tcp checks of a loopback port), and what its reader has."""

    def __init__(self, folder: Path, broker: Mosquitto, target: int) -> None:
        """Write the config; nothing is started."""
        self.broker, self.ledger = broker, Ledger()
        self._folder, self._target = folder, target
        self.agent = RunningAgent(folder, self.text(CHECKS))

    def text(self, checks: int) -> str:
        """Write the config with so many checks."""
        each = f"type: tcp, target: 127.0.0.1, port: {self._target}, interval: {INTERVAL_S * 1000:.0f}ms, timeout: 1s"
        return config_text(self._folder, self.broker.port, [f"{{name: port-{n}, {each}}}" for n in range(checks)])

    def wait_for(self, condition: Callable[[Mapping[str, Any]], Any], seconds: float) -> Mapping[str, Any]:
        """Wait until the agent's answer on its socket meets the condition; gives the answer."""
        end, found = time.monotonic() + seconds, None
        while not (found and condition(found)):
            assert time.monotonic() < end, f"not within {seconds:g} s: {found}; log: {self.agent.log.read_text()}"
            time.sleep(0.05)
            found = ask_status([self._folder / "store"])
        return found

    def wait_connected(self) -> None:
        """Wait until the agent is connected to the broker."""
        self.wait_for(lambda status: status["delivery"]["connected"], 30)

    def wait_accepted(self, count: int) -> None:
        """Wait until the broker has accepted so many records more than now."""

        def accepted(buffer: Mapping[str, Any]) -> int:
            return int(buffer["next_seq"]) - int(buffer["pending"])

        before = accepted(self.wait_for(lambda status: status["delivery"]["connected"], 30)["buffer"])
        self.wait_for(lambda status: accepted(status["buffer"]) >= before + count, 30)

    def come_to_rest(self, seconds: float) -> Mapping[str, Any]:
        """Take all checks away, and wait until nothing waits any more; gives `buffer` of the answer."""
        self.agent.reload(self.text(0))
        last, since = 0, time.monotonic()

        def still(status: Mapping[str, Any]) -> bool:
            nonlocal last, since
            buffer = status["buffer"]
            if buffer["pending"] or buffer["next_seq"] != last:
                last, since = buffer["next_seq"], time.monotonic()
            return time.monotonic() - since > STILL_S

        found: Mapping[str, Any] = self.wait_for(still, seconds)["buffer"]
        return found

    def judge(self, reader: CentralReader, seconds: float = 60) -> int:
        """Everything from 1 on is at the reader, in one epoch, nothing of it declared lost; gives how many records."""
        buffer = self.come_to_rest(seconds)
        tell(self.ledger, buffer)
        reader.wait_until_whole(seconds)
        records = self.ledger.records()
        assert {record["ep"] for record in records} == {buffer["ep"]}
        assert len(records) >= buffer["next_seq"] - 1  # each `replay` that was asked for is an `event` behind these
        assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
        assert [record for record in records if record["type"] == "loss"] == []
        assert (buffer["first_seq"], buffer["lost_total"], buffer["in_memory"]) == (1, 0, False)
        return len(records)

    def judge_store(self, seconds: float = 60) -> None:
        """A second reader, given everything by replay alone, gets what the first one has, to the letter."""
        second, first = Ledger(), self.ledger.records()
        tell(second, {"ep": first[0]["ep"], "first_seq": 1, "next_seq": len(first) + 1})
        with CentralReader(self.broker.port, second, "second-reader") as reader:
            reader.wait_until_whole(seconds, least=len(first))
        assert second.records()[: len(first)] == first  # an `event` for each `replay` comes behind these
        second.close()


def tell(ledger: Ledger, buffer: Mapping[str, Any]) -> None:
    """Let a ledger know which numbers there are, as a heartbeat of this moment would."""
    extent = {"node": "n", **{key: buffer[key] for key in ("ep", "first_seq", "next_seq")}}
    ledger.take(f"{BASE}/heartbeat", json.dumps(extent).encode())


@contextmanager
def scene(folder: Path, *broker_lines: str) -> Iterator[Scene]:
    """Give a scene whose broker runs, and end all of it."""
    with Mosquitto(folder, broker_lines) as broker, serving(hang_up) as (target,):
        made = Scene(folder, broker, target)
        try:
            yield made
            assert "Traceback" not in made.agent.log.read_text()
        finally:
            made.agent.__exit__()
            made.ledger.close()


def fill_store(folder: Path, count: int) -> None:
    """Put records into the store of the agent that is yet to run, as an earlier run of it would have."""

    async def story() -> None:
        site = Site()
        buffer = Buffer(str(folder / "store"))
        journal = Journal(buffer, "n", machine_identity(), nothing, site.now, MAIN_FIELDS)
        await journal.open()
        await fill(journal, site, 0, count, 500)
        await journal.close()

    asyncio.run(story())


def steady_stream(folder: Path, seconds: float) -> str:
    """100 records a second: each arrives live, exactly once, and nothing has to be asked for."""
    wanted = int(RECORDS_PER_S * seconds)
    with scene(folder) as made, CentralReader(made.broker.port, made.ledger) as reader:
        made.agent.start()
        reader.wait_for_state("online")
        began = time.monotonic()
        status = made.wait_for(lambda found: found["buffer"]["next_seq"] > wanted, 60 + 3 * seconds)
        rate = status["buffer"]["next_seq"] / (time.monotonic() - began)
        count = made.judge(reader)
        assert (made.ledger.duplicates, made.ledger.came_late, reader.responses) == (0, 0, [])
    return f"{count} records at {rate:.0f}/s: each once, all live, none asked for again"


def backlog_drains(folder: Path, count: int) -> str:
    """A backlog goes out completely; the rate is only told, the machine may be busy."""
    fill_store(folder, count)
    # By default mosquitto drops what a slow reader has not taken: here the agent is measured, not the reader.
    with scene(folder, "max_queued_messages 0") as made, CentralReader(made.broker.port, made.ledger) as reader:
        made.agent.file.write_text(made.text(0))
        made.agent.start()
        drained = made.wait_for(
            lambda found: found["delivery"]["connected"] and found["buffer"]["pending"] == 0, 60 + count / 1000
        )
        assert drained["delivery"]["connections"] == 1  # so the rate is that of all of it
        rate = count / drained["delivery"]["for_s"]
        arrived = made.judge(reader, 120)
        assert made.ledger.came_late >= count
    return f"{arrived} records, a backlog of {count} drained at {rate:.0f}/s (goal 5000/s)"


def agent_kills(folder: Path, least: int, seconds: float = 0) -> str:
    """`kill -9` of the agent at random moments, at least so many, and for at least so long.

    First with a backlog to drain, then by turns: with the broker away (it fills), and back (it drains).
    """
    moments, kills, end = random.Random(SEED), 0, time.monotonic() + seconds
    fill_store(folder, BACKLOG_AT_KILLS)
    with scene(folder) as made, CentralReader(made.broker.port, made.ledger) as reader:
        while kills < least or time.monotonic() < end:
            if kills % 3 == 1:
                made.broker.kill()
            if kills % 3 == 2:
                made.broker.start()
            made.agent.start()
            time.sleep(moments.uniform(0.1, LONGEST_LIFE_S))
            made.agent.kill()
            kills += 1
        if kills % 3 == 2:
            made.broker.start()
        made.agent.start()
        made.wait_connected()
        count = made.judge(reader)
        made.judge_store()
        starts = sum(record.get("kind") == "agent_started" for record in made.ledger.records())
        assert starts > 1 and made.ledger.came_late >= BACKLOG_AT_KILLS
    return f"{kills} kills of the agent, {starts} starts recorded: {count} records, no gap, no loss, one content each"


def broker_kills(folder: Path, kills: int) -> str:
    """`kill -9` of the broker, which saves nothing by then; every fourth time while the reader is away.

    What the broker had accepted for the reader and lost is exact again after replay.
    """
    moments, replayed, done = random.Random(SEED), 0, 0
    with scene(folder, "persistence true", f"persistence_location {folder}/") as made:
        made.agent.start()
        while done < kills:
            with CentralReader(made.broker.port, made.ledger) as reader:
                for _ in range(min(KILLS_WITH_READER, kills - done)):
                    time.sleep(moments.uniform(*AT_WORK_S))
                    made.broker.kill()
                    reader.forget_connection()
                    bring_back(made, moments)
                    reader.wait_subscribed()
                    reader.wait_for_state("online")
                    done += 1
                reader.wait_until_whole(30)
                replayed += queued(reader.responses)
            if done < kills:
                made.wait_accepted(LEAST_LOST)
                time.sleep(moments.uniform(*AT_WORK_S))
                made.broker.kill()
                bring_back(made, moments)
                done += 1
        with CentralReader(made.broker.port, made.ledger) as reader:
            count = made.judge(reader)
            replayed += queued(reader.responses)
        assert replayed, "nothing had to be replayed: the broker lost nothing that it had accepted"
        made.judge_store()
    return f"{kills} kills of the broker: {count} records, exact after a replay of {replayed}"


def bring_back(made: Scene, moments: random.Random) -> None:
    """Let the killed broker be away a little, start it, wait until the agent is back."""
    time.sleep(moments.uniform(*BROKER_AWAY_S))
    made.broker.start()
    made.wait_connected()


def queued(responses: Sequence[Mapping[str, Any]]) -> int:
    """Sum up how many records the answers to `replay` promised."""
    return sum(response["result"]["queued"] for response in responses if response["ok"])
