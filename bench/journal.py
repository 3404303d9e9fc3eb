"""`python -m bench.journal [quick]`: the figures of the journal alone: bytes, days, speed, memory.

The records are a site's usual mixture: three of four are icmp, the rest http, tcp, dns, snmp ports and transitions.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from agent.clock import Instant
from agent.footprint import rss_bytes
from agent.journal import Journal, Line
from agent.model import Record, Scalar
from bench.figures import TREE, Figure
from bench.run import table
from tests.rigs.journals import MAIN_FIELDS, Buffer

MIB = 2**20
BUFFER_BYTES = 256 * MIB
RECORDS_PER_S = 5.0
GOAL_DAYS = 14.0
GOAL_PER_S = 5000.0
GOAL_RSS_BYTES = 5e6
CHECKS = ("gateway", "dc-a-1", "dc-a-2", "internet-1", "carrier-1", "pacs-edge", "epr", "ward-7-switch")


class Site:
    """Makes records as a site does, five a second, from one seed."""

    def __init__(self) -> None:
        """Begin at a fixed moment."""
        self._random = random.Random(1)
        self._ts, self._mono_ms = 1_795_000_000.0, 86_400_123

    def now(self) -> Instant:
        """Give the moment of the latest record."""
        return Instant(self._ts, self._mono_ms, "synced", "9c1e7a")

    def record(self, number: int) -> Record:
        """Make the next record."""
        gap_s = self._random.expovariate(RECORDS_PER_S)
        self._ts, self._mono_ms = self._ts + gap_s, self._mono_ms + round(gap_s * 1000)
        kind = number % 20
        make = (
            self._transition
            if number % 500 == 0
            else self._icmp
            if kind < 15
            else (self._http, self._tcp, self._dns, self._port, self._port)[kind - 15]
        )
        record_type, fields = make(number)
        return Record(record_type, self.now(), fields)

    def _s(self, typical_s: float) -> float:
        return round(self._random.lognormvariate(0, 0.6) * typical_s, 9)

    def _head(self, number: int, layer: str, outcome: str = "pass") -> dict[str, Scalar]:
        name = CHECKS[number % len(CHECKS)]
        address = f"10.20.{len(name)}.{number % len(CHECKS)}"
        found: dict[str, Scalar] = {"check": name, "layer": layer, "target": name, "address": address}
        return found | {"outcome": outcome, "duration_s": round(self._s(0.02), 6)}

    def _icmp(self, number: int) -> tuple[str, dict[str, Scalar]]:
        if self._random.random() < 0.01:
            failed: dict[str, Scalar] = {"failure": "timeout", "detail": "no reply to 3 echo requests"}
            return "icmp", self._head(number, "gateway", "fail") | failed | {
                "sent": 3,
                "received": 0,
                "loss_ratio": 1.0,
            }
        rtt = sorted(self._s(0.004) for _ in range(3))
        figures: dict[str, Scalar] = {"sent": 3, "received": 3, "loss_ratio": 0.0, "rtt_min_s": rtt[0]}
        figures |= {
            "rtt_mean_s": round(sum(rtt) / 3, 9),
            "rtt_max_s": rtt[2],
            "ipdv_s": round((rtt[2] - rtt[0]) / 2, 9),
        }
        return "icmp", self._head(number, "gateway") | figures | {"timestamping": "kernel"}

    def _http(self, number: int) -> tuple[str, dict[str, Scalar]]:
        times: dict[str, Scalar] = {name: self._s(0.01) for name in ("dns_s", "connect_s", "tls_s", "first_byte_s")}
        times |= {"total_s": self._s(0.1), "status": 200, "body_bytes": self._random.randrange(900, 9000)}
        return "http", self._head(number, "service") | times | {"certificate_left_s": self._s(4e6)}

    def _tcp(self, number: int) -> tuple[str, dict[str, Scalar]]:
        return "tcp", self._head(number, "service") | {"connect_s": self._s(0.004)}

    def _dns(self, number: int) -> tuple[str, dict[str, Scalar]]:
        answers = f"198.51.100.{self._random.randrange(1, 5)}"
        return "dns", self._head(number, "dns") | {"response_s": self._s(0.003), "rcode": "NOERROR", "answers": answers}

    def _port(self, number: int) -> tuple[str, dict[str, Scalar]]:
        port: dict[str, Scalar] = {
            "check": "core-switch",
            "layer": "device",
            "target": "10.20.0.2",
            "address": "10.20.0.2",
        }
        port |= {"port": number % 48, "name": f"GigabitEthernet1/0/{number % 48}", "admin": "up", "oper": "up"}
        port |= {"speed_bits_per_s": 10**9, "in_bits_per_s": self._s(2e7), "out_bits_per_s": self._s(1e7)}
        return "snmp_port", port | {"utilisation_ratio": self._s(0.02), "in_errors": 0, "out_errors": 0}

    def _transition(self, number: int) -> tuple[str, dict[str, Scalar]]:
        return "transition", {
            "check": CHECKS[number % 8],
            "old": "up",
            "new": "down",
            "reason": "3 of 3 fails: timeout",
        }


def nothing(lines: Sequence[Line]) -> None:
    """Drop what was committed."""


async def fill(journal: Journal, site: Site, first: int, last: int, each: int) -> float:
    """Append these; gives the seconds it took."""
    began = time.perf_counter()
    for number in range(first, last):
        journal.append(site.record(number))
        if number % each == each - 1:
            await journal.flush()
    await journal.flush()
    return time.perf_counter() - began


async def drain(journal: Journal) -> float:
    """Read and mark everything in portions of 100, as the backlog lane does; gives records a second."""
    began, count, after = time.perf_counter(), 0, 0
    while lines := await journal.unsent(after, 100):
        after, count = lines[-1].seq, count + len(lines)
        journal.mark_sent(journal.ep, [line.seq for line in lines])
    await journal.flush()
    return count / (time.perf_counter() - began)


async def measure(directory: Path, count: int) -> list[Figure]:
    """Fill a journal with so many records, then drain it."""
    site = Site()
    journal = Journal(
        Buffer(str(directory), BUFFER_BYTES, commit_s=1.0), "main-hospital-01", "board", nothing, site.now, MAIN_FIELDS
    )
    await journal.open()
    warm = min(20_000, count // 5)
    await fill(journal, site, 0, warm, 5)
    before = rss_bytes() or 0
    took_s = await fill(journal, site, warm, count, 500)
    grown = (rss_bytes() or 0) - before
    each_bytes = journal.buffer_bytes / count
    days = BUFFER_BYTES / each_bytes / RECORDS_PER_S / 86400
    waiting = journal.pending
    per_s = await drain(journal)
    await journal.close()
    return [
        Figure(
            "bytes per record", f"{each_bytes:.1f}", "", f"{count} mixed records in merged blocks, all pages counted"
        ),
        Figure(
            "256 MiB at 5 records/s", f"{days:.1f} days", "14 days", "256 MiB over bytes per record", days >= GOAL_DAYS
        ),
        Figure(
            "RSS growth, records waiting",
            f"{grown / 1e6:.1f} MB",
            "5 MB",
            f"{waiting} unsent, after {warm} to warm up",
            grown <= GOAL_RSS_BYTES,
        ),
        Figure("read and mark", f"{per_s:.0f}/s", "5000/s", "portions of 100, all of the above", per_s >= GOAL_PER_S),
        Figure("append and commit", f"{(count - warm) / took_s:.0f}/s", "", "commits of 500"),
    ]


def main(arguments: Sequence[str]) -> int:
    """Measure a million records; `quick` 100,000."""
    (TREE / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=TREE / "build") as place:
        rows = asyncio.run(measure(Path(place), 100_000 if "quick" in arguments else 1_000_000))
    print(table(rows))
    return 1 if any(row.good is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
