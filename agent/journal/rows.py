"""What the store's rows say: the state row with its checksum, and the heads of the records in a block. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from agent.journal.batch import State
from agent.journal.blocks import Damaged, Line, line_of
from agent.journal.ranges import Ranges


def checksum(row: Sequence[object]) -> int:
    """Give the CRC-32 of a row: SQLite notices a damaged page only where its structure suffers."""
    return zlib.crc32(repr(tuple(row)).encode())


def state_of(row: Sequence[Any]) -> State:
    """Read the state row; raises ValueError if it is not as it was written."""
    if checksum(row[:-1]) != row[-1]:
        raise ValueError("the checksum of its state is wrong")
    ep, machine, boot, clean, next_seq, lost_total, settled, lost, _ = row
    return State(ep, machine, boot, bool(clean), next_seq, lost_total, Ranges.parse(settled), Ranges.parse(lost))


def lines_of(texts: Sequence[str], first: int) -> list[Line]:
    """Read the heads of records that lie in one block from number `first` on; none of them if one is damaged."""
    try:
        lines = [line_of(text) for text in texts]
    except Damaged:
        return []
    return lines if [line.seq for line in lines] == list(range(first, first + len(lines))) else []
