"""The figures of the echo engine beside public tools: `make bench ARGS=icmp`.

The times are held against a tcpdump of the same packets, in a namespace that the bench makes itself; fping
does the same work on the same cable in the same run. CPU time is counted by the kernel for one process,
the answering of the loopback's own addresses included, which the kernel charges to who sends.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.broker import BenchError, Missing, tool
from bench.figures import TREE, Figure, fping_cpu_s
from bench.wires import HOST, Pair, busy, pair, round_trips

WORKER = [sys.executable, "-m", "bench.echo_worker"]
MEDIAN_S, P99_S = 15e-6, 40e-6
PER_S = 200
FPING_RATIO = 1.5
LONGEST_S = 120


def worker(*words: object) -> dict[str, Any]:
    """Run bench.echo_worker on the loopback."""
    command = [*WORKER, *map(str, words)]
    done = subprocess.run(command, cwd=TREE, check=False, capture_output=True, text=True, timeout=LONGEST_S)
    if done.returncode:
        raise BenchError(f"the worker ended with {done.returncode}: {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def accuracy(quick: bool, loaded: bool) -> Iterator[Figure]:
    """How far the RTTs of our engine, and of fping, lie from what tcpdump saw of the same packets."""
    count = 1000 if quick else 3000
    state = f"{4 * (os.cpu_count() or 1)} busy processes" if loaded else "idle"
    with pair() as on, tempfile.TemporaryDirectory(prefix="siteprobe-bench-") as place, ExitStack() as stack:
        if loaded:
            stack.enter_context(busy(LONGEST_S))
        ours, words = our_errors(on, Path(place) / "ours.pcap", count)
        yield judged(f"RTT error, {state}", ours, f"{len(ours)} echoes, {PER_S}/s, against tcpdump; stamps: {words}")
        try:
            other = fping_errors(on, Path(place) / "fping.pcap", count)
        except Missing as error:
            yield Figure(f"  fping, {state}", "skipped", "", str(error))
        else:
            yield Figure(f"  fping, {state}", shown(other), "", f"{len(other)} echoes, {PER_S}/s, the same cable")


def our_errors(on: Pair, file: Path, count: int) -> tuple[list[float], str]:
    """Give the errors of our engine, and who took the times."""
    with on.captured(file):
        found = json.loads(on.run(*WORKER, "timed", HOST, str(count), str(PER_S)).splitlines()[0])
    seen = {sequence: rtt_s for (_, sequence), rtt_s in round_trips(file).items()}
    echoes = [(sequence, rtt_s) for sequence, rtt_s, _ in found["echoes"] if rtt_s is not None and sequence in seen]
    words = sorted({str(word) for _, _, word in found["echoes"]})
    return enough([abs(rtt_s - seen[sequence]) for sequence, rtt_s in echoes], count), ", ".join(words)


def fping_errors(on: Pair, file: Path, count: int) -> list[float]:
    """Give the errors of fping, which writes microseconds. Its sequence numbers count from 0."""
    with on.captured(file):
        text = on.run(tool("fping"), "-q", "-C", str(count), "-p", str(1000 // PER_S), HOST)
    words = re.findall(r"(?<= )(?:\d+\.\d+|\d+|-)(?=\s|$)", text.partition(":")[2])
    seen = {sequence: rtt_s for (_, sequence), rtt_s in round_trips(file).items()}
    pairs = [(float(word) / 1000, seen[n]) for n, word in enumerate(words) if word != "-" and n in seen]
    return enough([abs(rtt_s - truth_s) for rtt_s, truth_s in pairs], count)


def enough(errors: list[float], count: int) -> list[float]:
    """Refuse to judge by a few."""
    if len(errors) < count * 0.9:
        raise BenchError(f"only {len(errors)} of {count} echoes are in the capture with their replies")
    return errors


def shown(errors: list[float]) -> str:
    """Write median and 99th percentile."""
    return f"{statistics.median(errors) * 1e6:.1f} / {percentile_99(errors) * 1e6:.1f} µs"


def percentile_99(errors: list[float]) -> float:
    """Give the 99th percentile, nearest rank."""
    return sorted(errors)[-(-len(errors) * 99 // 100) - 1]


def judged(name: str, errors: list[float], how: str) -> Figure:
    """Hold errors against the goal."""
    good = statistics.median(errors) <= MEDIAN_S and percentile_99(errors) <= P99_S
    return Figure(name, shown(errors), "median ≤ 15, p99 ≤ 40 µs", how, good)


def flat_out(quick: bool) -> Iterator[Figure]:
    """Echoes a second that one core can do, the budget lifted."""
    found = worker("flat", 1000, 20 if quick else 100)
    rate = found["sent"] / found["cpu_s"]
    how = f"{found['sent']} echoes on loopback, {found['lost']} lost, by CPU time; by the wall clock "
    yield Figure(
        "echoes/s/core flat out",
        f"{rate:,.0f}",
        "≥ 50,000",
        f"{how}{found['sent'] / found['wall_s']:,.0f}/s",
        rate >= 50_000 and not found["lost"],
    )


def cpu(quick: bool) -> Iterator[Figure]:
    """CPU time per 1,000 echoes at 100 targets a second: the engine alone, checks with records, fping."""
    targets, seconds = 100, 5 if quick else 20
    found = {mode: worker(mode, targets, seconds) for mode in ("engine", "checks")}
    per = {mode: run["cpu_s"] / run["sent"] * 1000 for mode, run in found.items()}
    try:
        other = fping_cpu_s(targets, seconds) / (targets * seconds) * 1000
    except Missing as error:
        for mode, figure in per.items():
            yield Figure(f"CPU per 1,000 echoes, {mode}", f"{figure:.3f} s", "", f"not compared: {error}")
        return
    whats = {"engine": "the echo engine alone", "checks": "check with schedule, gate, judgement and record as JSON"}
    for mode, figure in per.items():
        ratio = figure / other
        goal, good = ("≤ 1.5 × fping", ratio <= FPING_RATIO) if mode == "engine" else ("", None)
        how = f"{whats[mode]}, {targets}/s for {seconds} s; fping {other:.3f} s, ratio {ratio:.2f}"
        yield Figure(f"CPU per 1,000 echoes, {mode}", f"{figure:.3f} s", goal, how, good)


def many(quick: bool) -> Iterator[Figure]:
    """Ask 1,000 targets, each once a second: none may seem lost, for all answer."""
    found = worker("checks", 1000, 5 if quick else 30)
    good = found["lost"] == 0 and not found["failures"] and found["sent"] > 0
    share = found["cpu_s"] / (5 if quick else 30)
    how = f"{found['sent']} echoes of 1,000 icmp checks, {share:.0%} of a core; failures: {found['failures'] or 'none'}"
    yield Figure("false losses, 1,000 targets at 1/s", str(found["lost"]), "0", how, good)
