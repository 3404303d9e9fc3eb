"""The live table of the demo: what has arrived at the reader, newest state of each check."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agent.cli.status import COLOURS

MAIN_FIELDS = ("rtt_mean_s", "total_s", "connect_s", "response_s", "link_up")
BASE_LEVELS = 5
WIDE = 120
DETAIL_WIDTH = 40


class Board:
    """Keeps the newest of each topic and draws it."""

    def __init__(self, folder: Path, port: int) -> None:
        """Remember where everything is."""
        self._where = (
            f"broker   mosquitto_sub -p {port} -t 'siteprobe/v1/#' -v",
            f"agent    siteprobe status -c {folder / 'siteprobe.yaml'}   (log: {folder / 'agent.log'})",
            f"records  {folder / 'store'}",
        )
        self._verdict: dict[str, Any] = {}
        self._states: dict[str, dict[str, Any]] = {}
        self._records: dict[str, dict[str, Any]] = {}
        self._count = 0

    def show(self, received: queue.Queue[tuple[str, bool, bytes]], until: float, watch: Callable[[], None]) -> None:
        """Draw until the time comes (seconds of time.monotonic); `watch` raises if the agent has ended."""
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = WIDE
        with Live(self.drawn(), console=console, refresh_per_second=4, transient=not console.is_terminal) as live:
            try:
                while time.monotonic() < until:
                    try:
                        topic, _, payload = received.get(timeout=0.25)
                    except queue.Empty:
                        watch()
                        continue
                    self.take(topic, payload)
                    live.update(self.drawn())
            finally:
                live.update(self.drawn(ending=True))
        if not console.is_terminal:
            console.print(self.drawn(ending=True))

    def take(self, topic: str, payload: bytes) -> None:
        """Take one message in."""
        self._count += 1
        kind, _, rest = "/".join(topic.split("/")[BASE_LEVELS:]).partition("/")
        content = json.loads(payload) if payload else None
        if kind == "verdict" and content:
            self._verdict = content
        elif kind == "state" and content:
            self._states[rest] = content
        elif kind == "live" and content and "outcome" in content:
            self._records[content["check"]] = content
        elif kind == "late" and content:
            self._records |= {record["check"]: record for record in content if "outcome" in record}

    def drawn(self, ending: bool = False) -> Group:
        """Draw the picture: verdict, table, where everything is; not that any more when it is about to be removed."""
        verdict = self._verdict.get("verdict", "waiting for the agent")
        colour = {"healthy": "green", "starting": "yellow"}.get(verdict, "red" if self._verdict else "yellow")
        head = Text.assemble((f" {verdict} ", f"bold reverse {colour}"), "  ", self._verdict.get("summary", ""))
        table = Table(box=None, pad_edge=False)
        for title in ("check", "type", "target", "state", "outcome", "measured", "seq", "at"):
            table.add_column(title, no_wrap=True)
        for name in sorted(self._records.keys() | self._states.keys()):
            table.add_row(*self._row(name))
        where = () if ending else self._where
        foot = Text("\n".join((f"{self._count} messages received", *where)), "dim")
        return Group(head, Text(), table, Text(), foot)

    def _row(self, name: str) -> list[str | Text]:
        record, card = self._records.get(name, {}), self._states.get(name, {})
        state = card.get("state", "unknown")
        measured = shown(record)
        target = record.get("target", "")
        return [
            name,
            str(record.get("type") or card.get("type", "")),
            str(target),
            Text(state, COLOURS.get(state, "")),
            str(record.get("failure") or record.get("outcome", "")),
            Text(measured),
            str(record.get("seq", "")),
            str(record.get("ts", ""))[11:19],
        ]


def shown(record: dict[str, Any]) -> str:
    """Write what a record measured, or why it could not, for people."""
    name = next((f for f in MAIN_FIELDS if f in record), "")
    value = record.get(name)
    if "failure" in record or not name:
        return str(record.get("detail", ""))[:DETAIL_WIDTH]
    if name.endswith("_s") and isinstance(value, int | float):
        return f"{name.removesuffix('_s')} {value * 1000:.3g} ms"
    return f"{name} {value}"
