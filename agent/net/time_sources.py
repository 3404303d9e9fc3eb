"""The time servers that this machine's own clock follows, read from files: nothing is sent, no program is run.

Which daemon keeps the clock is seen by what it leaves in /run, or else by which one systemd is to start;
its configuration names the servers: timesyncd.conf(5), chrony.conf(5), ntp.conf(5).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.options import HOST_PATTERN, is_address

MOST_BYTES = 64 * 1024
MOST_FILES = 64
MOST_DEPTH = 2
"""Files that include files: deeper than this is a loop."""
SYSTEMD = ("etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd")  # the first has the last word
TIMESYNCD_COMPILED_IN = re.compile(r"^#FallbackNTP=(.*)$", re.MULTILINE)
"""A line of Debian's file that shows what is compiled in, as the file itself says."""
CHRONY_FILES = ("etc/chrony/chrony.conf", "etc/chrony.conf")
NTP_FILES = ("etc/ntpsec/ntp.conf", "etc/ntp.conf")
WANTS = "multi-user.target.wants"
SERVER_WORDS = ("server", "pool", "peer")
REFERENCE_CLOCK = "127.127."  # ntpd writes a clock on a cable as such an address


@dataclass(frozen=True, slots=True)
class _Daemon:
    """One program that keeps clocks: what it leaves in /run, its links in /etc/systemd/system, its servers."""

    traces: tuple[str, ...]
    units: tuple[str, ...]
    servers: Callable[[Path], Iterator[str]]

    def rank(self, root: Path) -> int:
        """0 where it runs, 1 where it is to run from the next boot (or in a moment), 2 where it does not count."""
        try:
            if any((root / trace).exists() for trace in self.traces):
                return 0
            return 1 if any((root / "etc/systemd/system" / unit).is_symlink() for unit in self.units) else 2
        except OSError:  # a folder that we may not look into
            return 2


def time_sources(root: Path = Path("/")) -> tuple[str, ...]:
    """Name the servers of the daemon that keeps this machine's clock, the preferred one first; () where none is."""
    daemons = (
        _Daemon(("run/chrony", "run/chronyd.pid"), tuple(f"{WANTS}/chrony{d}.service" for d in ("", "d")), _chrony),
        _Daemon(("run/ntpd.pid", "run/ntpsec"), tuple(f"{WANTS}/{ntp}.service" for ntp in ("ntpsec", "ntp")), _ntp),
        _Daemon(("run/systemd/timesync",), ("sysinit.target.wants/systemd-timesyncd.service",), _timesyncd),
    )
    counting = sorted((daemon for daemon in daemons if daemon.rank(root) < 2), key=lambda daemon: daemon.rank(root))
    found = (tuple(dict.fromkeys(filter(_usable, daemon.servers(root)))) for daemon in counting)
    return next(filter(None, found), ())


def _usable(server: str) -> bool:
    if server.startswith(REFERENCE_CLOCK):
        return False
    return is_address(server) or re.fullmatch(HOST_PATTERN, server) is not None


def _timesyncd(root: Path) -> Iterator[str]:
    """Those that DHCP gave to a link come first, then NTP=; FallbackNTP= only where there is neither."""
    texts = _timesyncd_texts(root)
    links = [_read(file) for file in _files(root / "run/systemd/netif/links", "*")]
    named = [*_settings(links, "NTP"), *_settings(texts, "NTP")]
    fallback = _settings(texts, "FallbackNTP") if any("\nFallbackNTP=" in f"\n{text}" for text in texts) else None
    if fallback is None:
        fallback = " ".join(TIMESYNCD_COMPILED_IN.findall(texts[0])).split()
    yield from named or fallback


def _timesyncd_texts(root: Path) -> list[str]:
    """Read the main file, then the drop-ins in the order of their names; one of /etc hides its namesake elsewhere."""
    main = next((text for folder in SYSTEMD if (text := _read(root / folder / "timesyncd.conf"))), "")
    drop_ins: dict[str, Path] = {}
    for folder in reversed(SYSTEMD):
        drop_ins |= {file.name: file for file in _files(root / folder / "timesyncd.conf.d", "*.conf")}
    return [main, *(_read(drop_ins[name]) for name in sorted(drop_ins))]


def _settings(texts: Iterable[str], key: str) -> list[str]:
    """Gather the words of a key; an empty one forgets what came before (systemd.syntax(7))."""
    found: list[str] = []
    for text in texts:
        for words in re.findall(rf"^\s*{key}[ \t]*=[ \t]*(.*)$", text, re.MULTILINE):
            found = [*found, *words.split()] if words.strip() else []
    return found


def _chrony(root: Path) -> Iterator[str]:
    for file in CHRONY_FILES:
        yield from _directives(root, root / file, MOST_DEPTH)


def _ntp(root: Path) -> Iterator[str]:
    for file in NTP_FILES:
        yield from _directives(root, root / file, MOST_DEPTH)


def _directives(root: Path, file: Path, depth: int) -> Iterator[str]:
    """Read the servers of a file of chrony or ntpd, and of those that it includes."""
    for line in _read(file).splitlines():
        word, *values = line.partition("#")[0].split() or [""]
        values = [value for value in values if not value.startswith("-")]
        if not values:
            continue
        if word.lower() in SERVER_WORDS:
            yield values[0]
        elif depth:
            for more in _included(root, word.lower(), values):
                yield from _directives(root, more, depth - 1)


def _included(root: Path, word: str, values: list[str]) -> Iterator[Path]:
    """Name the files of an `include`, `confdir` or `sourcedir` line (chrony.conf(5))."""
    inside = [root / value.lstrip("/") for value in values]
    if word in ("include", "includefile"):
        yield from (file for path in inside for file in _files(path.parent, path.name))
    elif word in ("confdir", "sourcedir"):
        suffix = "*.conf" if word == "confdir" else "*.sources"
        yield from (file for path in inside for file in _files(path, suffix))


def _files(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))[:MOST_FILES]
    except (OSError, ValueError, NotImplementedError):
        return []


def _read(file: Path) -> str:
    try:
        with file.open(errors="replace") as opened:
            return opened.read(MOST_BYTES)
    except OSError:
        return ""
