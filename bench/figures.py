"""The figures, one function each. What a figure counts is in its docstring; how is in its `how`."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.broker import BenchError, Heard, Missing, Reader, broker, tool, wait_for
from bench.peers import Peers, peers
from bench.service import Service, address, config, icmp, service, services

TREE = Path(__file__).parent.parent
LATE_S = 0.25
"""A send counts as late beyond this: two ticks of 100 ms, and the jitter of a machine that does other work."""


@dataclass(frozen=True)
class Figure:
    """One line of the table; `good` is None where there is no goal."""

    name: str
    value: str
    goal: str
    how: str
    good: bool | None = None


@dataclass(frozen=True)
class Bench:
    """Where the figures are taken: the port of the broker, its reader, and how long to look."""

    port: int
    reader: Reader
    quick: bool

    def seconds(self, full: float, quick: float) -> float:
        """Choose how long to measure."""
        return quick if self.quick else full

    @contextmanager
    def run(self, checks: list[str]) -> Iterator[Service]:
        """Run an agent with these checks, its buffer on the disk that holds this tree."""
        (TREE / "build").mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="bench-", dir=TREE / "build") as place:
            directory = Path(place)
            with service(config(self.port, directory, checks), directory) as running:
                yield running


@contextmanager
def bench(quick: bool) -> Iterator[Bench]:
    """Start the broker and its reader. Raises Missing."""
    with tempfile.TemporaryDirectory(prefix="siteprobe-bench-") as place:
        Path(place).chmod(0o755)
        with broker(Path(place)) as port:
            reader = Reader(port)
            try:
                yield Bench(port, reader, quick)
            finally:
                reader.close()


def mixed_checks(targets: Peers) -> list[str]:
    """Write the load of the memory and start figures: five of each kind, and the link."""
    return ["{name: link, type: link, interval: 5s}", *icmp(5, "5s", 3), *services(5, "5s", targets)]


def passing(records: list[Heard], check_type: str) -> list[Heard]:
    """Give the records of a type; raises BenchError when not one of them passed."""
    found = [r for r in records if r.payload.get("type") == check_type]
    if not any(r.payload.get("outcome") == "pass" for r in found):
        why = found[-1].payload.get("detail") if found else "none arrived"
        raise BenchError(f"no {check_type} record passed: {why}")
    return found


def memory(on: Bench) -> Figure:
    """Resident memory after a minute of every kind of check."""
    with peers() as p, on.run(mixed_checks(p)) as running:
        begin, end = running.rest(on.seconds(60, 20))
        rss = running.rss_bytes() / 1e6
        kinds = ["icmp", "tcp", "http", "link", *(["dns"] if p.dns else [])]
        for kind in kinds:
            passing(on.reader.records(begin, end), kind)
    how = f"VmRSS after {end - begin:.0f} s of 5 checks each of {', '.join(kinds)} (1 link) at 5 s"
    return Figure("service RSS", f"{rss:.1f} MB", "≤ 45 MB", how, rss <= 45)


def start(on: Bench) -> Figure:
    """From exec to the first record at a subscriber; the worst of a few starts."""
    took = []
    for _ in range(1 if on.quick else 3):
        with peers() as p, on.run(mixed_checks(p)) as running:
            took.append(_first_record_at(on.reader, running) - running.started)
    how = f"exec to the first live record at a subscriber, worst of {len(took)} starts"
    return Figure("start to first record", f"{max(took):.2f} s", "≤ 3 s", how, max(took) <= 3)


def _first_record_at(reader: Reader, running: Service) -> float:
    def arrived() -> bool:
        running.still_runs()
        return bool(reader.records(running.started))

    wait_for(arrived, 30, "no record within 30 s")
    return reader.records(running.started)[0].at


def cpu(on: Bench) -> Figure:
    """CPU time per 1,000 echoes, all that belongs to them included: judging, keeping, publishing."""
    targets = 100
    with on.run(icmp(targets, "1s")) as running:
        running.rest(8)
        before = running.cpu_s()
        begin, end = running.rest(on.seconds(30, 10))
        used = running.cpu_s() - before
    sent = sum(r.payload.get("sent", 0) for r in passing(on.reader.records(begin, end), "icmp"))
    figure = used / sent * 1000
    how = f"{targets} targets a second, {sent} echoes with their records"
    try:
        other = fping_cpu_s(targets, round(end - begin)) / (targets * round(end - begin)) * 1000
    except Missing as error:
        return Figure("CPU per 1,000 probes", f"{figure:.3f} s", "", f"{how}; not compared: {error}")
    beside = f"fping at the same pace: {other:.3f} s, ratio {figure / other:.1f}"
    return Figure("CPU per 1,000 probes", f"{figure:.3f} s", "", f"{how}; {beside}")


def fping_cpu_s(targets: int, seconds: int) -> float:
    """Send as many echoes at the same pace with fping, which keeps and publishes nothing."""
    pace = ["-q", "-c", str(seconds), "-p", "1000", "-i", str(1000 // targets)]
    command = [tool("fping"), *pace, *(address(n) for n in range(targets))]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"fping ended with {process.returncode}")
    return used.ru_utime + used.ru_stime


def disk(on: Bench, per_s: int) -> Figure:
    """Bytes that the kernel wrote to disk per record, once the start is over."""
    with on.run(icmp(per_s, "1s")) as running:
        running.rest(on.seconds(10, 5))
        before = running.written_bytes()
        begin, end = running.rest(on.seconds(60, 15))
        written = running.written_bytes() - before
    count = len(on.reader.records(begin, end))
    if not count:
        raise BenchError("no record arrived")
    figure = written / count
    how = f"write_bytes of /proc/PID/io over {end - begin:.0f} s and {count} records"
    goal, good = ("≤ 500 B", figure <= 500) if per_s == 50 else ("", None)
    return Figure(f"disk per record at {per_s}/s", f"{figure:.0f} B", goal, how, good)


def late_sends(on: Bench) -> Figure:
    """500 checks at 10 s: how many runs began late, by the agent's own word and by the records' times."""
    with peers() as p, on.run(icmp(425, "10s") + services(25, "10s", p)) as running:
        running.rest(12)
        begin, end = running.rest(on.seconds(120, 62))
        cpu_share = running.cpu_s() / (end - running.started)
    overdue = [h.payload["overdue_checks"] for h in on.reader.heard if h.suffix == "heartbeat" and begin <= h.at < end]
    gaps = _gaps_s(on.reader.records(begin, end))
    late = sum(gap > 10 + LATE_S for gap in gaps)
    said = f"overdue_checks {max(overdue)}" if overdue else "no heartbeat"
    how = f"{len(gaps)} runs in {end - begin:.0f} s; longest gap {max(gaps):.2f} s; {said}; {cpu_share:.1%} of a core"
    return Figure("late sends, 500 checks at 10 s", str(late), "0", how, late == 0 and not any(overdue))


def _gaps_s(records: list[Heard]) -> list[float]:
    """Give the times from one run of a check to its next, from when the measurements began."""
    began: dict[str, list[int]] = defaultdict(list)
    for record in records:
        if "outcome" in record.payload:
            began[record.payload["check"]].append(record.payload["mono_ms"])
    gaps = [(b - a) / 1000 for times in began.values() for a, b in zip(sorted(times), sorted(times)[1:], strict=False)]
    if not gaps:
        raise BenchError("no check ran twice")
    return gaps


def imports() -> Figure:
    """What importing the whole service costs, without the command line."""
    command = [sys.executable, "-X", "importtime", "-c", "import agent.app"]
    totals, count = [], 0
    for _ in range(5):
        done = subprocess.run(command, cwd=TREE, check=False, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise BenchError(f"the service cannot be imported: {done.stderr.splitlines()[-1]}")
        own = [int(us) for us in re.findall(r"^import time:\s+(\d+) \|", done.stderr, re.MULTILINE)]
        totals.append(sum(own) / 1e6)
        count = len(own)
    how = f"python -X importtime, all {count} modules of `import agent.app`, median of {len(totals)}"
    return Figure("import time", f"{statistics.median(totals):.3f} s", "", how)
