"""What the agent itself costs the machine: memory and processor time, read from the kernel."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

STATM = Path("/proc/self/statm")
OPEN = Path("/proc/self/fd")
LEAST_SPAN_S = 10.0
"""A share over less than this is noise: whoever asks sooner gets the last one."""


def rss_bytes() -> int | None:
    """Give the resident memory of this process in bytes (proc(5), statm); None where no descriptor is left."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def spare_descriptors() -> int:
    """Count the file descriptors that this process may still open (getrlimit(2), RLIMIT_NOFILE)."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        return limit - sum(1 for _ in OPEN.iterdir())
    except OSError:  # looking takes one itself
        return 0


class ProcessorShare:
    """Measures the share of one core used since the last question."""

    def __init__(self, now: float) -> None:
        """Begin at `now` (seconds of any steady clock)."""
        self.began = now
        self._asked, self._used_s = now, time.process_time()
        self._ratio = 0.0

    def ratio(self, now: float) -> float:
        """Give the share over the last ten seconds or more, 1.0 being one whole core."""
        used_s, span_s = time.process_time() - self._used_s, now - self._asked
        if span_s >= LEAST_SPAN_S or (span_s > 0 and not self._ratio):
            self._ratio = round(used_s / span_s, 4)
        if span_s >= LEAST_SPAN_S:
            self._asked, self._used_s = now, time.process_time()
        return self._ratio
