"""A wall clock that a test sets: a preloaded library that moves CLOCK_REALTIME, and nothing else, in one process.

    with ClockShim(folder) as shim:
        shim.set(offset_s=-3600, synchronised=False)
        Service(folder, values, env=shim.env)

Time since boot, the monotonic clock, and so all timers, stay as they are. What the kernel says of the clock
(adjtimex) is answered by the library too. Skips the test where gcc is not installed.
"""

from __future__ import annotations

import mmap
import struct
import subprocess
from pathlib import Path
from typing import Self

from tests.rigs import need

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>
struct page { long long offset_s; long long synchronised; };
static volatile struct page *page;
__attribute__((constructor)) static void begin(void) {
    int fd = open(getenv("CLOCK_SHIM_PAGE"), O_RDONLY);
    if (fd < 0) abort();
    page = mmap(NULL, sizeof *page, PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) abort();
    close(fd);
}
static int moves(clockid_t id) { return page && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE); }
int clock_gettime(clockid_t id, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, id, now);
    if (!failed && moves(id)) now->tv_sec += page->offset_s;
    return failed;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec; now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *out) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (out) *out = exact.tv_sec;
    return exact.tv_sec;
}
int adjtimex(struct timex *state) { return page->synchronised ? TIME_OK : TIME_ERROR; }
"""
PAGE = struct.Struct("=qq")


class ClockShim:
    """The library, made anew in `folder`, and the page that it reads."""

    def __init__(self, folder: Path) -> None:
        compiler = need.tool("gcc")
        source, self._library = folder / "clock_shim.c", folder / "clock_shim.so"
        source.write_text(SOURCE)
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", self._library, source, "-ldl"], check=True)
        self._file = folder / "clock_shim.page"
        self._file.write_bytes(bytes(mmap.PAGESIZE))

    def __enter__(self) -> Self:
        with self._file.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self.set(0)
        return self

    def __exit__(self, *_: object) -> None:
        self._page.close()

    @property
    def env(self) -> dict[str, str]:
        """What a process needs in its environment to live by this clock."""
        return {"LD_PRELOAD": str(self._library), "CLOCK_SHIM_PAGE": str(self._file)}

    def set(self, offset_s: int, synchronised: bool = True) -> None:
        """Show a wall time that is off by so much, and say whether it is kept right."""
        self._page[: PAGE.size] = PAGE.pack(offset_s, int(synchronised))
