"""`make bench`: measure the real agent and print a table of name, figure, goal and how it was measured.

All traffic stays on the loopback and in namespaces of its own. The exit code is 1 when a goal was missed
or a figure could not be taken.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from bench import echoes, figures, snmp
from bench.broker import BenchError, Missing
from bench.figures import Bench, Figure
from bench.rack import Rack, rack

WITH_BROKER: tuple[tuple[str, Callable[[Bench], Figure]], ...] = (
    ("start to first record", figures.start),
    ("service RSS", figures.memory),
    ("CPU per 1,000 probes", figures.cpu),
    ("disk per record at 5/s", partial(figures.disk, per_s=5)),
    ("disk per record at 50/s", partial(figures.disk, per_s=50)),
    ("late sends, 500 checks at 10 s", figures.late_sends),
)


ECHOES: tuple[tuple[str, Callable[[bool], Iterator[Figure]]], ...] = (
    ("RTT error, idle", partial(echoes.accuracy, loaded=False)),
    ("RTT error, busy", partial(echoes.accuracy, loaded=True)),
    ("echoes/s/core flat out", echoes.flat_out),
    ("CPU per 1,000 echoes", echoes.cpu),
    ("false losses, 1,000 targets at 1/s", echoes.many),
)


WITH_RACK: tuple[tuple[str, Callable[[Bench, Rack], Figure]], ...] = (
    ("SNMP CPU per object, v2c", lambda on, at: snmp.cpu(at, on.quick, snmp.V2C)),
    ("SNMP CPU per object, v3", lambda on, at: snmp.cpu(at, on.quick, snmp.V3)),
    ("SNMP, 50 switches, v2c", lambda on, at: snmp.many(at, snmp.V2C)),
    ("SNMP, 50 switches, v3", lambda on, at: snmp.many(at, snmp.V3)),
    ("SNMP poll within the budget", lambda on, at: snmp.budgeted(at)),
    ("SNMP memory growth, v2c", lambda on, at: snmp.growth(at, on.quick, snmp.V2C)),
    ("SNMP memory growth, v3", lambda on, at: snmp.growth(at, on.quick, snmp.V3)),
    ("service RSS with SNMP", snmp.service_memory),
)


def attempt(name: str, measure: Callable[[], Figure | Iterator[Figure]]) -> Iterator[Figure]:
    """Take a figure, or several of one run; what this machine lacks or what went wrong is a line then."""
    print(f"measuring: {name}", file=sys.stderr, flush=True)
    try:
        found = measure()
        yield from [found] if isinstance(found, Figure) else found
    except Missing as error:
        yield Figure(name, "skipped", "", str(error))
    except (BenchError, OSError) as error:
        print(error, file=sys.stderr)
        yield Figure(name, "no figure", "", str(error).partition(";")[0], False)


def of_echoes(quick: bool) -> Iterator[Figure]:
    """Take the figures of the echo engine."""
    for name, measure in ECHOES:
        yield from attempt(name, partial(measure, quick))


def measured(quick: bool) -> Iterator[Figure]:
    """Take the figures of the whole agent, one after the other."""
    yield from attempt("import time", figures.imports)
    try:
        with figures.bench(quick) as on:
            for name, measure in WITH_BROKER:
                yield from attempt(name, partial(measure, on))
            yield from with_rack(on)
    except Missing as error:
        for name in (*dict(WITH_BROKER), *dict(WITH_RACK)):
            yield Figure(name, "skipped", "", str(error))


def with_rack(on: Bench) -> Iterator[Figure]:
    """Take the figures of SNMP."""
    try:
        with rack() as at:
            for name, measure in WITH_RACK:
                yield from attempt(name, partial(measure, on, at))
    except (Missing, BenchError) as error:
        for name in dict(WITH_RACK):
            yield Figure(name, "skipped", "", str(error))


def table(rows: Sequence[Figure]) -> str:
    """Lay the figures out in columns; a missed goal is marked."""
    cells = [("", "figure", "goal", "how")]
    cells += [(f.name, f.value, f.goal + (" MISSED" if f.goal and f.good is False else ""), f.how) for f in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(3)]
    return "\n".join("  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]]) for row in cells)


def main(arguments: Sequence[str]) -> int:
    """Run the bench; `quick` shortens every span of time, `icmp` takes the figures of the echo engine alone."""
    if set(arguments) - {"quick", "icmp"}:
        print('usage: make bench, or make bench ARGS="[icmp] [quick]"', file=sys.stderr)
        return 2
    quick = "quick" in arguments
    rows = [] if "icmp" in arguments else list(measured(quick))
    rows += of_echoes(quick)
    print(
        f"\n{platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"
    )
    print(table(rows))
    return 1 if any(row.good is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
