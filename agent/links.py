"""Follows our own connection: whatever the kernel says has changed is an event, and is asked about at once.

The kernel wakes us (rtnetlink); what has changed is the difference between two pictures of the whole. A picture
holds the interfaces that matter: real ones, those with a default route, those that a link check names, and what
mattered before and is still there. So a machine's many virtual interfaces make no noise.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from agent.check import CheckOptions
from agent.clock import Instant
from agent.model import event
from agent.net import kernel
from agent.net.kernel import Gateway, Interface
from agent.net.watch import ChangeListener

PAUSE_S = 0.1
"""At most ten looks a second, on a machine whose routes change all the time too."""
LOOK_AGAIN_S = 30.0
"""A look without being woken: not every driver tells a change of its speed."""
FOLLOWED = ("self", "gateway")
"""Targets that mean another machine after a change of our own connection: asked again at once."""
COMES_BACK = frozenset({"link_up", "own_address_changed", "default_route_changed"})
"""After these there is something new to be asked; after a loss only the link itself is."""
log = logging.getLogger(__name__)
Change = tuple[str, str]
"""Kind of the event (messages.EVENT_KINDS) and its sentence."""


class Asks(Protocol):
    """What is needed of the rounds."""

    @property
    def checks(self) -> Mapping[str, CheckOptions]:
        """The checks that run, by name."""

    def at_once(self, names: Iterable[str]) -> None:
        """Ask these now, out of turn."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The interfaces that matter, by index, and the default routes, best first, at one moment."""

    interfaces: Mapping[int, Interface]
    routes: tuple[str, ...]


def picture(
    found: Iterable[Interface], gateways: Iterable[Gateway], named: Iterable[str], before: Picture | None = None
) -> Picture:
    """Keep what matters of what the kernel told."""
    routes = list(gateways)
    names = {*named, *(route.interface for route in routes)}
    kept = before.interfaces if before else {}
    matter = {i.index: _known(i, kept.get(i.index)) for i in found if _is_real(i) or i.name in names or i.index in kept}
    return Picture(matter, tuple(f"{route.gateway or 'direct'} over {route.interface}" for route in routes))


def _known(new: Interface, old: Interface | None) -> Interface:
    """Keep the speed of an interface while it is down: a new one is mostly agreed on when it comes up again."""
    if new.up or old is None:
        return new
    return replace(new, speed_bits_per_s=old.speed_bits_per_s, duplex=old.duplex)


def _is_real(interface: Interface) -> bool:
    return interface.ethernet and not interface.loopback and not interface.kind


def changes(before: Picture, after: Picture) -> Iterator[Change]:
    """Tell what has changed between two pictures, in sentences."""
    for index, new in after.interfaces.items():
        old = before.interfaces.get(index)
        yield from _of_interface(old, new) if old else _appeared(new)
    for index, old in before.interfaces.items():
        if index not in after.interfaces:
            yield "link_down", f"{old.name} is gone from this machine"
    if before.routes != after.routes:
        was, now = ("; ".join(routes) or "none" for routes in (before.routes, after.routes))
        yield "default_route_changed", f"default route: {now}; before: {was}"


def _appeared(new: Interface) -> Iterator[Change]:
    if new.up:
        yield "link_up", f"{new.name} has appeared and has a carrier"


def _of_interface(old: Interface, new: Interface) -> Iterator[Change]:
    if old.name != new.name:
        yield "link_renamed", f"{old.name} is now called {new.name}"
    if old.up and not new.up:
        why = "has lost its carrier: cable, switch port or access point" if new.admin_up else "was switched off"
        yield "link_down", f"{new.name} {why}"
    elif new.up and not old.up:
        yield "link_up", f"{new.name} has a carrier again"
    elif new.up and new.carrier_changes > old.carrier_changes:
        yield "link_down", f"{new.name} lost its carrier for a moment and has it back"
        yield "link_up", f"{new.name} has a carrier again"
    if new.up and _speed(new) != _speed(old) and _speed(old) and _speed(new):
        yield "link_speed_changed", f"{new.name} runs at {_speed(new)}; before: {_speed(old)}"
    if set(old.usable) != set(new.usable):
        was, now = (", ".join(sorted(i.usable)) or "none" for i in (old, new))
        yield "own_address_changed", f"addresses of {new.name}: {now}; before: {was}"


def _speed(interface: Interface) -> str:
    """Write speed and duplex as people say it, "" where the driver does not know."""
    megabits = f"{interface.speed_bits_per_s // 10**6} Mbit/s" if interface.speed_bits_per_s else ""
    duplex = f"{interface.duplex} duplex" if interface.duplex else ""
    return ", ".join(part for part in (megabits, duplex) if part)


def to_ask(kinds: Iterable[str], checks: Iterable[CheckOptions]) -> list[str]:
    """Name the checks that these changes concern."""
    back = not COMES_BACK.isdisjoint(kinds)
    return [check.name for check in checks if check.type == "link" or (back and check.asked in FOLLOWED)]


class LinkWatch:
    """Follows our own connection for as long as it runs."""

    def __init__(self, rounds: Asks, append: Callable[..., object], now: Callable[[], Instant]) -> None:
        """Have `append(record, urgent=True)` keep each event, and `rounds` ask at once what it concerns."""
        self._rounds, self._append, self._now = rounds, append, now
        self._woken = asyncio.Event()
        self._before: Picture | None = None

    async def run(self) -> None:
        """Look whenever the kernel says that something changed, for ever."""
        listener = self._listener()
        try:
            while True:
                self.look()
                await asyncio.sleep(PAUSE_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN_S):
                        await self._woken.wait()
                self._woken.clear()
        finally:
            if listener:
                listener.close()

    def look(self) -> None:
        """Compare the present picture with the last one, and pass on what has changed."""
        named = [str(getattr(check, "interface", "")) for check in self._rounds.checks.values()]
        try:
            after = picture(kernel.interfaces(), kernel.default_gateways(), named, self._before)
        except OSError as error:
            log.warning("the kernel does not tell of its links: %s", error)
            return
        found = list(changes(self._before, after)) if self._before else []
        self._before = after
        for kind, detail in found:
            log.info("%s", detail)
            self._append(event(kind, detail, self._now()), urgent=True)
        if found:
            self._rounds.at_once(to_ask([kind for kind, _ in found], self._rounds.checks.values()))

    def _listener(self) -> ChangeListener | None:
        try:
            return ChangeListener(self._woken.set)
        except OSError as error:
            log.warning("changes of links are noticed every %g s only: %s", LOOK_AGAIN_S, error)
            return None
