"""The check types, one file each. The file is the registration: `load()` finds what lies here.

A type is a frozen dataclass of options (`agent.options.option`) whose docstring is its manual and
whose `run(ctx)` is called once, with a deadline from outside. It owns no schedule, retry, thread,
log policy or clock. It raises `Failed` or returns `Facts`; units are in the names of the facts.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from agent.check import CheckOptions
from agent.model import Facts
from agent.safety import Gate, Permit

T = TypeVar("T")


class Toolbox:
    """What checks share for the life of the process (one ICMP socket, one SNMP engine…).

    Made on first use, so that a type nobody configured costs nothing; closed together at the end.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._made: dict[object, Any] = {}
        self._exit = AsyncExitStack()

    def get(self, factory: Callable[[], T]) -> T:
        """Give the one object that the factory makes; an `aclose()` of it is called at the end."""
        if factory not in self._made:
            made = self._made[factory] = factory()
            if hasattr(made, "aclose"):
                self._exit.push_async_callback(made.aclose)
        found: T = self._made[factory]
        return found

    def reopen(self) -> None:
        """The way works again: tell it to whoever leaves silent devices alone."""
        for made in self._made.values():
            if hasattr(made, "reopen"):
                made.reopen()

    async def aclose(self) -> None:
        """Close everything that was made, last made first."""
        await self._exit.aclose()


class Resolve(Protocol):
    """Turns a target (name, address, `gateway`, `resolver`…) into an address before the deadline."""

    def __call__(self, target: str, deadline: float) -> Awaitable[str]:
        """Give the address; raises `Failed` (dns_*, local_route, local_address)."""


def _silent(line: str) -> None:
    """Drop an explanation: the service explains nothing."""


@dataclass(slots=True)
class Context:
    """What one run of a check gets from outside.

    `deadline` is in seconds of the loop clock; `memory` survives from run to run of the same check;
    `once` asks for the cheapest single question (a confirmation of a fault); `judge_certificate_dates`
    is False while our own clock is unset; `address` is the one resolved last, for the record; `say`
    takes lines for `siteprobe check`.
    """

    gate: Gate
    tools: Toolbox
    resolve_target: Resolve
    deadline: float
    check_type: str = ""
    once: bool = False
    judge_certificate_dates: bool = True
    memory: dict[str, Any] = field(default_factory=dict)
    address: str = ""
    say: Callable[[str], None] = _silent

    async def resolve(self, target: str) -> str:
        """Turn the target into an address; see `Resolve`."""
        address = self.address = await self.resolve_target(target, self.deadline)
        if address != target:
            self.say(f"{target} is {address}")
        return address

    async def permit(self, address: str, port: int | None, protocol: str, *, whole_agent_only: bool = False) -> Permit:
        """Ask the gate for leave for one request, which is then sent; see `Gate.permit`."""
        permit = await self.gate.permit(
            address,
            port,
            protocol,
            self.deadline,
            check_type=self.check_type,
            whole_agent_only=whole_agent_only,
        )
        self.say(f"asking {address}" + (f" {protocol} port {port}" if port else f" by {protocol}"))
        return permit


class Check(CheckOptions):
    """Base of all check types."""

    async def run(self, ctx: Context) -> Facts:
        """Measure once. Raises `Failed` for what went wrong, on either side."""
        raise NotImplementedError


def load() -> dict[str, type[Check]]:
    """Import every module of this folder and give the check types by name.

    Raises RuntimeError where a module defines none or two define the same: a broken type fails loudly.
    """
    found: dict[str, type[Check]] = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        classes = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Check) and c.type]
        if len(classes) != 1 or classes[0].type in found:
            raise RuntimeError(f"{module.__file__} must define exactly one check type of its own name")
        found[classes[0].type] = classes[0]
    return found
