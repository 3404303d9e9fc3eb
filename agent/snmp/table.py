"""Rows of a table as they come in, answer by answer: whether they go forward, and which of them are whole. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.model import Failed, Failure
from agent.snmp.message import Bindings, Value

ROWS_MOST = 2000
"""A table is not read beyond this many rows (field.md 3.2): one without an end must not be read for ever."""


@dataclass(slots=True)
class Table:
    """Rows of a table by their index as text; `complete` is False where reading stopped before its end.

    Reading goes on with `after`, the last index up to which every column was read.
    """

    rows: dict[str, dict[str, Value]] = field(default_factory=dict)
    complete: bool = True
    after: str = ""

    def take(self, reached: dict[str, str], answer: Bindings) -> None:
        """Lay in an answer, row by row over the columns asked; columns that ended leave `reached`.

        Raises `Failed` (protocol) where a column does not go forward: a walk would run for ever.
        """
        asked, ended = list(reached), set[str]()
        if not answer:
            raise Failed(Failure.PROTOCOL, f"the device answered nothing to what follows {reached[asked[0]]}")
        for place, (oid, value) in enumerate(answer):
            column = asked[place % len(asked)]
            if value is None or not oid.startswith(f"{column}.") or column in ended:
                ended.add(column)
                continue
            _forward(reached[column], oid)
            self.rows.setdefault(oid.removeprefix(f"{column}."), {})[column] = value
            reached[column] = oid
        for column in ended:
            del reached[column]
        if reached:
            self.after = min((oid.removeprefix(c)[1:] for c, oid in reached.items()), key=index_numbers)


def following(oid: str, answer: Bindings) -> Bindings:
    """Give the objects that follow an OID as they came; raises `Failed` (protocol) where they do not go forward."""
    if not answer:
        raise Failed(Failure.PROTOCOL, f"the device answered nothing to what follows {oid}")
    for name, value in answer:
        if value is not None:
            _forward(oid, name)
            oid = name
    return answer


def _forward(before: str, name: str) -> None:
    if numbers(name) <= numbers(before):
        raise Failed(Failure.PROTOCOL, f"the device's tables run in circles: {name} follows {before}")


def in_order(table: Table, rows_most: int) -> Table:
    """Put the rows in order; where reading stopped early, keep those that every column has been read up to."""
    rows = sorted(table.rows.items(), key=lambda item: index_numbers(item[0]))
    if not table.complete:
        limit = index_numbers(table.after)
        rows = [item for item in rows if index_numbers(item[0]) <= limit]
    if len(rows) > rows_most:
        rows, table.complete = rows[:rows_most], False
        table.after = rows[-1][0]
    table.rows = dict(rows)
    return table


def numbers(oid: str) -> tuple[int, ...]:
    """Make an OID comparable."""
    return tuple(int(part) for part in oid.split("."))


def index_numbers(index: str) -> tuple[int, ...]:
    """Make an index comparable; "" comes before all others."""
    return numbers(index) if index else ()
