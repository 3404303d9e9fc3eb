"""Gives back what loading pysnmp left behind: compiling its tables takes 2 MB that are free afterwards."""

from __future__ import annotations

import ctypes
import gc


def give_back_memory() -> None:
    """Collect garbage, then have the C library return free pages to the system (malloc_trim(3), glibc only)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
