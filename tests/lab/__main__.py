"""`make lab`: plays the lab, prints its table, and with --write keeps it for docs/verdicts.md.

python -m tests.lab [--write] [--jobs 8] [--runs 3] [WORD…]      only conditions whose name has one of the words
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.lab.conditions import CONDITIONS, Condition
from tests.lab.play import Result, play
from tests.rigs.netns import ROOT

RIGHT_RATIO = 0.95
SIDE_BY_SIDE = 8
KEPT = ROOT / "docs" / "lab.json"


def main() -> int:
    """Play as asked; 0 if enough conditions were right in each run."""
    asked = argparse.ArgumentParser(prog="python -m tests.lab")
    asked.add_argument("--write", action="store_true")
    asked.add_argument("--jobs", type=int, default=SIDE_BY_SIDE)
    asked.add_argument("--runs", type=int, default=1)
    asked.add_argument("words", nargs="*")
    options = asked.parse_args()
    chosen = [c for c in CONDITIONS if not options.words or any(word in c.name for word in options.words)]
    ratios = []
    for run in range(1, options.runs + 1):
        began = time.monotonic()
        results = play_all(chosen, options.jobs)
        ratios.append(report(results, f"run {run} of {options.runs}, {time.monotonic() - began:.0f} s"))
    if options.write:
        KEPT.write_text(json.dumps([result.as_row() for result in results], indent=1, ensure_ascii=False) + "\n")
    return 0 if min(ratios) >= RIGHT_RATIO else 1


def play_all(conditions: Sequence[Condition], jobs: int) -> list[Result]:
    """Play conditions side by side, each on a site of its own."""
    with tempfile.TemporaryDirectory(prefix="lab") as folder, ThreadPoolExecutor(jobs) as pool:
        places = [Path(folder) / str(number) for number in range(len(conditions))]
        for place in places:
            place.mkdir()
        return list(pool.map(_told, conditions, places))


def _told(condition: Condition, place: Path) -> Result:
    result = play(condition, place)
    print("ok   " if not result.wrong else "WRONG", line(result), file=sys.stderr, flush=True)
    return result


def line(result: Result) -> str:
    """Write a result in one line."""
    seconds = "" if result.seconds is None else f"{result.seconds:5.1f} s"
    recovered = "" if result.recovered_s is None else f"over {result.recovered_s:5.1f} s"
    said = f"{result.name}: {result.expected}, got {result.got}".ljust(100)
    return f"{said} {seconds:8} {recovered:13} {result.wrong or result.evidence}"


def report(results: Sequence[Result], words: str) -> float:
    """Print the table and its figures; gives the part that was right."""
    for result in results:
        print("ok   " if not result.wrong else "WRONG", line(result))
    seconds = sorted(result.seconds for result in results if result.seconds is not None)
    recovered = [result.recovered_s for result in results if result.recovered_s is not None]
    ratio = sum(not result.wrong for result in results) / len(results)
    print(f"{words}: {ratio:.1%} of {len(results)} conditions right", end="")
    if seconds and recovered:
        print(f"; fault to verdict median {statistics.median(seconds):.1f} s, worst {seconds[-1]:.1f} s", end="")
        print(f"; recovery median {statistics.median(recovered):.1f} s, worst {max(recovered):.1f} s", end="")
    print(flush=True)
    return ratio


if __name__ == "__main__":
    sys.exit(main())
