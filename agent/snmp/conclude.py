"""What a profile concludes from a device's answers: record fields, findings, facts, and the lines of `check`. Pure
but for the counters, which remember the last poll.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from agent.model import Scalar
from agent.snmp.gather import SCALARS_STALE_S, STALE_S, Gathered, TableState, cell_oid, gained, label_oid
from agent.snmp.meaning import Finding, Read, judged, measured, shown, text
from agent.snmp.profile import DEVICE_FAULT, ORDER, Metric, Profile, Symbol, Thresholds, Value

ALIKE_MOST = 3
"""So many rows with the same trouble are named; the others are counted."""
MAC_OCTETS = 6
LESS_IS_WORSE = ("_left_s", "_left_ratio", "_free_ratio", "_free_bytes", "_charge_ratio")
"""One limit alone does not show its side for a field that the profile does not judge; these names do."""
Limits = Mapping[str, tuple[float, ...]]


@dataclass(slots=True)
class Concluded:
    """What one poll says by its profile. `facts` are those that were asked in this poll."""

    fields: dict[str, Scalar] = field(default_factory=dict)
    facts: dict[str, Scalar] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Row:
    """One value of a table's column, with what is to be said about it."""

    label: str
    value: Scalar
    findings: tuple[Finding, ...]


def conclude(
    profile: Profile, known: Gathered, limits: Limits, personal: bool, raised: set[tuple[str, str]], now: float
) -> Concluded:
    """Turn answers into fields and findings; `limits` are the thresholds of the check, by field."""
    found = Concluded()
    there = known.scalars if now - known.scalars_at <= SCALARS_STALE_S else {}
    scalars = [(with_limits(s, limits), there.get(s.oid)) for s in profile.scalars if s.oid in there]
    for symbol, answer in scalars:
        value = _value(symbol, answer, known.scalars.get, known, symbol.oid, known.scalars_at)
        _note(found, symbol, value, symbol.oid)
    tables = [(metric, state) for metric in profile.tables if (state := _fresh(known, metric, now))]
    folded = [_column(metric, with_limits(s, limits), state, known, personal, now, raised, found.fields)
              for metric, state in tables for s in metric.symbols if personal or not s.personal]  # fmt: skip
    for symbol, rows in folded:
        _note(found, symbol, fold(symbol, rows), f"{len(rows)} rows of {symbol.oid}")
    for symbol, _ in scalars:
        found.findings += judged(symbol, found.fields.get(symbol.name), "", known.scalars.get, found.fields, raised)
    for symbol, rows in folded:
        one = judged(symbol, fold(symbol, rows), "", _nothing, found.fields, raised) if symbol.judged_as_one else []
        found.findings += [*few(rows), *one]
    return found


def _fresh(known: Gathered, metric: Metric, now: float) -> TableState | None:
    state = known.tables.get(metric)
    told = state is not None and state.at is not None and (metric.facts_only or now - state.at <= STALE_S)
    return state if told else None


def _note(found: Concluded, symbol: Symbol, value: Scalar, source: str) -> None:
    if value is None:
        return
    (found.facts if symbol.fact else found.fields)[symbol.name] = value
    found.lines.append(f"{symbol.name} = {shown(symbol.name, value)} (from {source})")


def _value(symbol: Symbol, value: Value, read: Read, known: Gathered, oid: str, now: float) -> Scalar:
    if symbol.form == "counter":
        return gained(known, oid, value, symbol.window_s, now)
    return measured(symbol, value, read)


def with_limits(symbol: Symbol, limits: Limits) -> Symbol:
    """Put the check's own thresholds in the place of the profile's: warning first, then critical."""
    own = limits.get(symbol.name)
    if not own:
        return symbol
    less = own[1] < own[0] if len(own) > 1 else symbol.name.endswith(LESS_IS_WORSE)
    base = symbol.thresholds or Thresholds(below=less)
    return replace(symbol, thresholds=replace(base, warning=own[0], critical=own[1] if len(own) > 1 else None))


def _column(
    metric: Metric,
    symbol: Symbol,
    state: TableState,
    known: Gathered,
    personal: bool,
    now: float,
    raised: set[tuple[str, str]],
    fields: Mapping[str, Scalar],
) -> tuple[Symbol, list[Row]]:
    """Read one column of all rows."""
    rows = []
    for row in state.told:
        read = partial(_cell, state.cells, row)
        oid = f"{symbol.oid}.{row}"
        value = _value(symbol, state.cells.get(oid), read, known, oid, state.at or now)
        if value is None:
            continue
        label = row_label(metric, state, row, personal)
        if metric.table and label in metric.table.skip:
            continue
        said = [] if symbol.judged_as_one else judged(symbol, value, label, read, fields, raised)
        rows.append(Row(label, value, tuple(said)))
    return symbol, rows


def _nothing(column: str) -> Value:
    """Give nothing: what stands for all rows has no cell of its own."""
    return None


def _cell(cells: Mapping[str, Value], row: str, column: str) -> Value:
    return cells.get(cell_oid(column, row))


def row_label(metric: Metric, state: TableState, row: str, personal: bool) -> str:
    """Name a row: by its label where there is one that may be shown, else by its index."""
    assert metric.table is not None
    if metric.table.label and (personal or not metric.table.label_personal):
        found = text(state.cells.get(label_oid(metric, row)))
        if found:
            until = metric.table.label_until
            return found.partition(until)[0].strip() if until else found
    return index_words(row)


def index_words(row: str) -> str:
    """Write an index for people: six octets are the hardware address of a device such as an access point."""
    parts = [int(part) for part in row.split(".")]
    if len(parts) == MAC_OCTETS and max(parts) < 256:
        return ":".join(f"{part:02x}" for part in parts)
    return row


def fold(symbol: Symbol, rows: list[Row]) -> Scalar:
    """Make one value of a column; None where no row has one."""
    numbers = [row.value for row in rows if isinstance(row.value, int | float)]
    how = symbol.folding
    if how == "count":
        return sum(bool(row.findings) for row in rows) if rows else None
    if how == "rows":
        return len(rows) if rows else None
    if how == "worst":
        return max(rows, key=_badness).value if rows else None
    if how == "first":
        return rows[0].value if rows else None
    if not numbers:
        return None
    if how == "mean":
        return round(sum(numbers) / len(numbers), 6)
    return sum(numbers) if how == "sum" else max(numbers) if how == "max" else min(numbers)


def _badness(row: Row) -> int:
    return max((ORDER.index(finding.health) for finding in row.findings), default=-1 if not row.value else 0)


def few(rows: list[Row]) -> list[Finding]:
    """Give the findings of a column, worst first; beyond three they are only counted, in the words of the third.

    There the number stays by what it counts when the findings of all columns are put in order.
    """
    found = sorted((f for row in rows for f in row.findings), key=_telling)
    if len(found) <= ALIKE_MOST:
        return found
    rest = found[ALIKE_MOST:]
    last = found[ALIKE_MOST - 1]
    return [*found[: ALIKE_MOST - 1], replace(last, words=f"{last.words}, and {len(rest)} more like it")]


def _telling(finding: Finding) -> tuple[int, bool, bool]:
    """Order findings: the worst first, and those with a word of their own, which must not be lost among the others."""
    return -ORDER.index(finding.health), not finding.finding, finding.finding == DEVICE_FAULT
