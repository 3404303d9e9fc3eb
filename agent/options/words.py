"""Words for people: wrong values shown, near misses offered, durations and sizes written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
UNITS_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "MB": 10**6, "GB": 10**9}


def shown(text: str, quoted: bool = False) -> str:
    """Show a wrong value in a message, cut to a readable length."""
    text = re.sub(r"[^\s/]+", _without_credentials, text)
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    cut = text if len(text) <= 60 else text[:57] + "…"
    return f'"{cut}"' if quoted or not cut else f"`{cut}`"


def _without_credentials(word: re.Match[str]) -> str:
    """Leave out user:password@ of a URL in the wrong place. No regex of its own: one took hours for a long word."""
    before, at, after = word[0].rpartition("@")
    return f"…@{after}" if at and ":" in before else word[0]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Offer the nearest known word, as `; did you mean "interval"?`, or nothing."""
    words = {each.lower(): each for each in known}
    near = difflib.get_close_matches(word.lower(), list(words), n=1, cutoff=0.6)
    return f'; did you mean "{words[near[0]]}"?' if near else ""


def duration(seconds: float) -> str:
    """Write seconds as the shortest exact duration of the config, such as 90s or 5m."""
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % UNITS_S[unit] == 0:
            return f"{seconds / UNITS_S[unit]:.0f}{unit}"
    milliseconds = round(seconds * 1000, 3)
    if milliseconds % 1 == 0 and milliseconds < UNITS_S["s"] * 1000:
        return f"{milliseconds:.0f}ms" if milliseconds else "0s"
    return f"{seconds:.6f}".rstrip("0") + "s"


def size(count: int) -> str:
    """Write bytes as the shortest exact size of the config, such as 256MiB."""
    for unit in ("GiB", "MiB", "KiB"):
        if count and count % UNITS_BYTES[unit] == 0:
            return f"{count // UNITS_BYTES[unit]}{unit}"
    return f"{count}B"
