"""Wall time, time since boot, and how far the wall time can be trusted.

A Raspberry Pi before model 5 has no battery-backed clock and boots in the past: so each record
carries the time since boot and the boot id too, from which the wall time can be put right later.
"""

from __future__ import annotations

import ctypes
import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar


class ClockQuality(StrEnum):
    """How far the wall time of a record can be trusted (contract, section 3)."""

    SYNCED = "synced"
    CORRECTED = "corrected"
    UNSYNCED = "unsynced"


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment: `ts` in seconds since 1970 (UTC), `mono_ms` in milliseconds since boot."""

    ts: float
    mono_ms: int
    clock: str
    boot: str


BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TIMESYNCD_FLAG = Path("/run/systemd/timesync/synchronized")
EARLIEST_S, LATEST_S = 0.0, 32_503_680_000.0  # 1970 to 2999: outside them a clock holds garbage
WRITTEN_S = 1_767_225_600.0
"""2026-01-01: there was no siteprobe before; a clock that shows an earlier time is not set, whoever vouches for it."""
STEP_S = 2.0
"""More than this between two looks is a step: NTP slews by 0.5 ms a second at most, and steps beyond 0.128 s."""
MOST_STEPS = 100
READINGS = 3
ADJTIMEX_ERROR_STATE = 5  # TIME_ERROR of adjtimex(2): the kernel clock is not synchronised
ADJTIMEX_BYTES = 208  # sizeof(struct timex) on 64-bit; smaller on 32-bit, so this is room enough
Kept = TypeVar("Kept")


def rfc3339(ts: float) -> str:
    """Write seconds since 1970 as UTC with milliseconds, as in `2026-11-22T14:03:22.123Z`."""
    return datetime.fromtimestamp(ts, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def boot_id() -> str:
    """Give the first six hex digits of the kernel's boot id (new at each boot)."""
    return BOOT_ID.read_text().strip().replace("-", "")[:6]


def kernel_clock_synchronised() -> bool | None:
    """Ask the kernel with adjtimex(2), which reads only; None where it may not be asked.

    systemd's ProtectClock=yes forbids even reading it (EPERM).
    """
    libc: Any = ctypes.CDLL(None, use_errno=True)
    state: int = libc.adjtimex(ctypes.create_string_buffer(ADJTIMEX_BYTES))
    if state < 0:
        return None if ctypes.get_errno() in (errno.EPERM, errno.ENOSYS) else False
    return state != ADJTIMEX_ERROR_STATE


def system_clock_quality() -> ClockQuality:
    """Ask the system whether its clock is kept right: the kernel first, then systemd-timesyncd.

    ntpd, and chronyd with `rtcsync` (Debian's default), tell the kernel. chronyd without it tells nobody but
    chronyc: its directory is closed to other users; that machine needs `rtcsync` or `clock: trusted`.
    """
    if kernel_clock_synchronised() or TIMESYNCD_FLAG.exists():
        return ClockQuality.SYNCED
    return ClockQuality.UNSYNCED


def trusted_quality() -> ClockQuality:
    """Answer for a clock that is kept right in a way the kernel cannot show (`clock: trusted`)."""
    return ClockQuality.SYNCED


def put_right(kept: Kept, now: Instant) -> Kept:
    """Give a moment, or a dataclass with every moment in it, the times that they were at, once `now` knows.

    Put right is what was taken in the same boot before the clock was set. A moment keeps its time where that is right
    to within a step: a clock that ran right before anyone vouched for it is no reason to say everything again.
    """
    if isinstance(kept, Instant):
        return _dated(kept, now)  # type: ignore[return-value]  # mypy does not narrow Kept to Instant
    if not is_dataclass(kept) or isinstance(kept, type):
        return kept
    return replace(kept, **{one.name: put_right(getattr(kept, one.name), now) for one in fields(kept)})


def _dated(moment: Instant, now: Instant) -> Instant:
    if now.clock == ClockQuality.UNSYNCED or (moment.clock, moment.boot) != (ClockQuality.UNSYNCED, now.boot):
        return moment
    ts = now.ts - (now.mono_ms - moment.mono_ms) / 1000
    return replace(moment, ts=ts if abs(ts - moment.ts) > STEP_S else moment.ts, clock=ClockQuality.CORRECTED)


@dataclass(frozen=True, slots=True)
class Step:
    """The wall clock jumped: what it would have shown, and what it showed instead (seconds since 1970)."""

    from_ts: float
    to_ts: float


def since_boot_ms() -> int:
    """Give the milliseconds since boot, time asleep included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class Clock:
    """The one source of `now` for records; asks for the clock's quality at most once a second."""

    def __init__(
        self,
        setting: str = "auto",
        quality: Callable[[], ClockQuality] = system_clock_quality,
        wall: Callable[[], float] = time.time,
        boot_ms: Callable[[], int] = since_boot_ms,
    ) -> None:
        """Take the config word `clock` (auto or trusted); the other three are replaced in tests."""
        self.boot = boot_id()
        self._quality: Callable[[], ClockQuality] = trusted_quality if setting == "trusted" else quality
        self._asked_ms = -1
        self._answer = ClockQuality.UNSYNCED
        self._wall, self._boot_ms = wall, boot_ms
        self._booted_ts: float | None = None
        self._steps: list[Step] = []

    def now(self) -> Instant:
        """Give the present moment."""
        mono_ms = self._boot_ms()
        if self._asked_ms < 0 or mono_ms - self._asked_ms >= 1000:
            self._asked_ms, self._answer = mono_ms, self._quality()
        ts, mono_ms = self._read()
        self._watch(ts, mono_ms)
        if not EARLIEST_S <= ts < LATEST_S:
            return Instant(EARLIEST_S, mono_ms, ClockQuality.UNSYNCED, self.boot)
        quality = self._answer if ts >= WRITTEN_S else ClockQuality.UNSYNCED
        return Instant(ts, mono_ms, quality, self.boot)

    def take_steps(self) -> list[Step]:
        """Give the steps of the wall clock since the last time this was asked."""
        taken, self._steps = self._steps, []
        return taken

    def _read(self) -> tuple[float, int]:
        """Read both clocks at one moment: a process that was stopped between them must not look like a step."""
        for _ in range(READINGS):
            before_ms, ts, after_ms = self._boot_ms(), self._wall(), self._boot_ms()
            if after_ms - before_ms < STEP_S * 1000 / 2:
                break
        return ts, after_ms

    def _watch(self, ts: float, mono_ms: int) -> None:
        """Note a step; what the system said of the clock before it is asked anew."""
        booted_ts, before = ts - mono_ms / 1000, self._booted_ts
        self._booted_ts = booted_ts
        if before is not None and abs(booted_ts - before) > STEP_S:
            self._answer = self._quality()
            if len(self._steps) < MOST_STEPS:
                self._steps.append(Step(before + mono_ms / 1000, ts))
