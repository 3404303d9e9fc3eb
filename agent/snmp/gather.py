"""Reads what a profile asks of a device, a piece at a time within the deadline of a poll.

Single objects are asked in each poll. A table's rows are found once (a walk of one column, capped, repeated
every 15 minutes); from then on its cells are asked by name, 33 a question, which is far less work for the
device than a walk. What does not fit into one poll goes on in the next, the table tried longest ago first,
so that one that the device cannot answer holds up no other; until a pass is complete the last complete one
stands. Nothing here fails a check: what could not be read is told in `unread`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from agent.model import Failed
from agent.snmp.counters import increase
from agent.snmp.device import ROWS_MOST_A_PDU
from agent.snmp.profile import ROWS_MOST, Metric, Profile, Symbol, Value
from agent.snmp.session import Session

OIDS_A_STEP = 33
"""As many as one question holds, so that the time left is looked at before each."""
RESERVE_S = 0.7
"""No new question is begun so near to the deadline: an answer takes up to half a second, a permit 0.2 s."""
ROWS_AGAIN_S = 900.0
"""Which rows a table has is found out again after 15 minutes."""
FACTS_AGAIN_S = 86_400.0
"""Facts such as the serial number are asked daily (field.md 2.3), and after a reboot."""
SCALARS_STALE_S = 180.0
"""Single objects that were read longer ago are not told as if they were so now."""
SINGLE_OBJECTS = "single objects"
"""What stands in `unread` for them, beside the names of tables."""
STALE_S = 1800.0
"""Nor are tables, which may take several polls."""


@dataclass(slots=True)
class TableState:
    """How far a table is read. `told` and `cells` are rows and cells of the last complete pass, taken at `at`."""

    rows: list[str] = field(default_factory=list)
    after: str = ""
    walked: int = 0
    rows_at: float | None = None
    finding_rows: bool = True
    pending: deque[str] = field(default_factory=deque)
    fresh: dict[str, Value] = field(default_factory=dict)
    told: tuple[str, ...] = ()
    cells: dict[str, Value] = field(default_factory=dict)
    at: float | None = None
    tried_at: float = 0.0


@dataclass(slots=True)
class Counted:
    """A counter's last reading, and its increases with their times for a window."""

    at: float
    value: int
    gains: deque[tuple[float, int]] = field(default_factory=deque)


@dataclass(slots=True)
class Gathered:
    """What is known of a device by its profile, from poll to poll."""

    scalars: dict[str, Value] = field(default_factory=dict)
    scalars_at: float = 0.0
    tables: dict[Metric, TableState] = field(default_factory=dict)
    counters: dict[str, Counted] = field(default_factory=dict)
    facts_at: float | None = None
    facts_due: bool = True
    unread: list[str] = field(default_factory=list)

    def forget(self) -> None:
        """Begin anew: the device was started again or is another one."""
        self.scalars.clear()
        self.tables.clear()
        self.counters.clear()
        self.facts_at, self.facts_due = None, True


def scalar_oids(profile: Profile, personal: bool, facts: bool) -> list[str]:
    """List the single objects to ask, and what their meaning needs, each once."""
    wanted = [s for s in profile.scalars if _wanted(s, personal, facts)]
    return list(dict.fromkeys(oid for s in wanted for oid in (s.oid, *s.also_needed())))


def _wanted(symbol: Symbol, personal: bool, facts: bool) -> bool:
    return (personal or not symbol.personal) and (facts or not symbol.fact)


async def gather(session: Session, profile: Profile, known: Gathered, personal: bool) -> None:
    """Read one poll's worth; raises nothing of the device's, but `known.unread` names what is missing."""
    now = asyncio.get_running_loop().time()
    known.unread = []
    known.facts_due = known.facts_at is None or now - known.facts_at >= FACTS_AGAIN_S
    if not await _scalars(session, profile, known, personal):
        known.unread.append(SINGLE_OBJECTS)
        return
    for metric in profile.tables:
        known.tables.setdefault(metric, TableState())
    due = [m for m in profile.tables if not _rests(m, known.tables[m], now)]
    waiting = sorted(due, key=lambda m: known.tables[m].tried_at)
    ready = [m for m in waiting if await _rows_known(session, m, known.tables[m], personal)]
    await _cells(session, [known.tables[m] for m in ready])
    for metric in waiting:
        assert metric.table is not None
        if metric not in ready or not _finished(known.tables[metric]):
            known.unread.append(metric.table.name)


def _rests(metric: Metric, state: TableState, now: float) -> bool:
    """Tell whether a table of facts was read within the day."""
    return metric.facts_only and state.at is not None and now - state.at < FACTS_AGAIN_S


async def _scalars(session: Session, profile: Profile, known: Gathered, personal: bool) -> bool:
    wanted = scalar_oids(profile, personal, known.facts_due)
    fresh: dict[str, Value] = {}
    for part in _parts(wanted):
        if not await _get(session, part, fresh):
            return False
    known.scalars, known.scalars_at = fresh, asyncio.get_running_loop().time()
    if known.facts_due:
        known.facts_at = known.scalars_at
    return True


async def _rows_known(session: Session, metric: Metric, state: TableState, personal: bool) -> bool:
    """Find out which rows there are, where that is due, and line up the cells; tells whether that was done."""
    now = asyncio.get_running_loop().time()
    state.tried_at = now
    if state.pending:
        return True
    again_s = 0.0 if metric.table and metric.table.fresh else ROWS_AGAIN_S
    if not state.finding_rows and (state.rows_at is None or now - state.rows_at >= again_s):
        state.finding_rows, state.rows, state.after, state.walked = True, [], "", 0
    if state.finding_rows and not await _find_rows(session, metric, state):
        return False
    state.pending, state.fresh = deque(cells_of(metric, state.rows, personal)), {}
    return True


async def _cells(session: Session, states: list[TableState]) -> None:
    """Ask the cells that are lined up, those of several small tables in one question."""
    waiting = deque((state, oid) for state in states for oid in state.pending)
    while waiting:
        part = [waiting.popleft() for _ in range(min(OIDS_A_STEP, len(waiting)))]
        found: dict[str, Value] = {}
        if not await _get(session, list(dict.fromkeys(oid for _, oid in part)), found):
            return
        for state, oid in part:
            state.fresh[oid] = found[oid]
            state.pending.popleft()


def _finished(state: TableState) -> bool:
    """Take over a pass that is complete; tells whether it is."""
    if state.pending:
        return False
    state.told, state.cells, state.fresh = tuple(state.rows), state.fresh, {}
    state.at = asyncio.get_running_loop().time()
    return True


async def _find_rows(session: Session, metric: Metric, state: TableState) -> bool:
    """Walk the column that tells the rows, from where the last poll stopped."""
    assert metric.table is not None
    column = metric.rows
    wanted = metric.row_values
    while len(state.rows) < metric.table.rows_most and state.walked < ROWS_MOST:
        if not time_left(session):
            return False
        try:
            found = await session.bulk(state.after or column, ROWS_MOST_A_PDU)
        except Failed:
            return False
        for oid, value in found:
            if not oid.startswith(column + ".") or value is None or len(state.rows) >= metric.table.rows_most:
                return _rows_found(state)
            state.after = oid
            state.walked += 1
            if wanted is None or str(value) in wanted:
                state.rows.append(oid[len(column) + 1 :])
    return _rows_found(state)


def _rows_found(state: TableState) -> bool:
    state.finding_rows, state.rows_at = False, asyncio.get_running_loop().time()
    return True


def cells_of(metric: Metric, rows: Iterable[str], personal: bool) -> Iterator[str]:
    """List the cells to ask: of each row its symbols, what their meaning needs, and its label."""
    assert metric.table is not None
    symbols = [s for s in metric.symbols if personal or not s.personal]
    columns = list(dict.fromkeys(oid for s in symbols for oid in (s.oid, *s.also_needed())))
    labelled = metric.table.label and (personal or not metric.table.label_personal)
    asked: dict[str, None] = {}
    for row in rows:
        asked |= dict.fromkeys(cell_oid(column, row) for column in columns)
        asked |= {label_oid(metric, row): None} if labelled else {}
    return iter(asked)


def cell_oid(column: str, row: str) -> str:
    """Name the cell of a row; a single object (it ends in .0) serves all rows."""
    return column if column.endswith(".0") else f"{column}.{row}"


def label_oid(metric: Metric, row: str) -> str:
    """Name the object that holds a row's label; it may have only the first parts of the row's index."""
    assert metric.table is not None
    parts = row.split(".")
    return ".".join((metric.table.label, *(parts[: metric.table.label_parts] if metric.table.label_parts else parts)))


def time_left(session: Session) -> bool:
    """Tell whether there is time for one more question."""
    return asyncio.get_running_loop().time() < session.deadline - RESERVE_S


async def _get(session: Session, oids: list[str], into: dict[str, Value]) -> bool:
    """Ask one question, if there is time for it and the device answers."""
    if not oids:
        return True
    if not time_left(session):
        return False
    try:
        into.update(await session.get(oids))
    except Failed:
        return False
    return True


def _parts(oids: list[str]) -> Iterator[list[str]]:
    return (oids[i : i + OIDS_A_STEP] for i in range(0, len(oids), OIDS_A_STEP))


def gained(known: Gathered, oid: str, value: Value, window_s: float, at: float) -> int | None:
    """Give the increase of a counter since the last reading, or within a window; None where not certain."""
    if not isinstance(value, int):
        known.counters.pop(oid, None)
        return None
    before = known.counters.get(oid)
    if before is None:
        known.counters[oid] = Counted(at, value)
        return None
    if at <= before.at:
        return None  # no newer reading: nothing is known about the time since
    gain = increase(before.value, value, 32 if value < 2**32 and before.value < 2**32 else 64)
    if gain is not None:
        apart_s = at - before.at
        if window_s and apart_s > window_s:  # it rose in a longer time: what fell into the window is its even part
            gain = int(gain * window_s / apart_s)
        before.gains.append((at, gain))
    before.at, before.value = at, value
    while before.gains and before.gains[0][0] <= at - window_s and len(before.gains) > 1:
        before.gains.popleft()
    if gain is None:
        before.gains.clear()
        return None
    return sum(found for _, found in before.gains) if window_s else gain
