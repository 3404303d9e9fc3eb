"""The listener for SNMP notifications: makes them events at once, and has the device asked.

A notification is what a device says of itself, over UDP: it changes no state. The question that follows does.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import Any, Protocol

from agent.check import CheckOptions
from agent.checks import Toolbox
from agent.clock import Clock
from agent.config import Config
from agent.journal import Journal
from agent.model import Failed, Scalar, event
from agent.net.resolve import Resolver
from agent.net.trickle import Trickle
from agent.rounds import NotNow, Rounds, Running
from agent.safety import Gate
from agent.snmp import traps
from agent.snmp.credentials import Credentials
from agent.snmp.memory import give_back_memory
from agent.snmp.notices import Notice
from agent.snmp.session import Snmp

LOOK_S = 5.0
"""How often the config and the addresses of the devices are looked at."""
LOOKUP_S = 4.0
ASK_AGAIN_S = 10.0
"""A device that sends one notification after the other is asked once in this time, and once after the last."""
SUMMARY_S = 600.0
"""What was not taken is told at most this often."""
ANSWER_S = 2.0
"""An answer to an inform that has no budget by then is not sent: the device asks again."""
ANSWERS_WAITING = 20

log = logging.getLogger("siteprobe")


class Parts(Protocol):
    """What is needed of the agent."""

    config: Config
    gate: Gate
    tools: Toolbox
    resolver: Resolver
    rounds: Rounds
    journal: Journal
    clock: Clock


class Trapping:
    """Takes notifications as long as it runs, as the config in force has it."""

    def __init__(self, parts: Parts) -> None:
        """Use the parts of the agent; nothing is opened before `run`."""
        self._parts = parts
        self.judge = traps.Judge(self._tell)
        self._checks: dict[str, CheckOptions] = {}
        self._known: dict[str, tuple[CheckOptions, traps.Sender]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._answers: set[asyncio.Task[None]] = set()
        self._socket: Trickle | None = None
        self._place: tuple[str, int] | None = None
        self._said = ""
        self._engine: Any = None

    @property
    def open(self) -> bool:
        """Whether the socket is open."""
        return self._socket is not None

    async def run(self) -> None:
        """Look every few seconds what is to be done, until cancelled."""
        told = asyncio.get_running_loop().time()
        try:
            while True:
                await self._look()
                if asyncio.get_running_loop().time() - told >= SUMMARY_S:
                    told = asyncio.get_running_loop().time()
                    self.summary()
                await asyncio.sleep(LOOK_S)
        finally:
            self._close()
            for task in (*self._asking.values(), *self._answers):
                task.cancel()
            if self._engine:
                self._engine.close()

    async def _look(self) -> None:
        config = self._parts.config
        if config.traps.listen is None:
            self._close()
            return
        checks = {check.name: check for check in config.active if check.type == "snmp"}
        senders = await self._senders(checks)
        self._checks = checks
        self._known = {name: known for name, known in self._known.items() if name in checks}
        self.judge.use(senders)
        self._open(config.traps.listen)

    async def _senders(self, checks: dict[str, CheckOptions]) -> traps.Senders:
        """Find the addresses of the devices, and who we are to each."""
        deadline = asyncio.get_running_loop().time() + LOOKUP_S
        found: dict[str, tuple[traps.Sender, ...]] = {}
        addresses = await asyncio.gather(*(self._address(check, deadline) for check in checks.values()))
        for check, address in zip(checks.values(), addresses, strict=True):
            if address:
                sender = await self._sender(check)
                found[address] = (*found.get(address, ()), *([sender] if sender else []))
        return found

    async def _address(self, check: Any, deadline: float) -> str:
        try:
            return str(await self._parts.resolver(check.target, deadline))
        except Failed:
            return ""  # the check itself tells it

    async def _sender(self, check: Any) -> traps.Sender | None:
        """Make out who a device is to us, once a config; None where we cannot, which the check itself tells."""
        known, sender = self._known.get(check.name, (None, None))
        if known is check and sender:
            return sender
        try:
            credentials = check.credentials()
            if credentials.version == "3":
                await self._learn(credentials)
        except Failed:
            return None
        self._known[check.name] = check, traps.Sender(check.name, credentials)
        return self._known[check.name][1]

    async def _learn(self, credentials: Credentials) -> None:
        """Have the v3 engine know these keys; both take so long that they are made in a thread."""
        if self._engine is None:
            self._engine = await asyncio.to_thread(_make_engine)
            self._engine.begin()
            self.judge.engine = self._engine
        if not self._engine.knows(credentials):
            await asyncio.to_thread(self._engine.learn, credentials)

    def _open(self, place: tuple[str, int]) -> None:
        if self._socket and place == self._place:
            return
        self._close()
        try:
            self._socket, self._place = Trickle(*place, self._take), place
        except OSError as error:
            self._complain(_why(error, place))
        else:
            self._said = ""
            log.info("SNMP notifications are taken on %s port %d", *place)

    def _complain(self, sentence: str) -> None:
        if sentence != self._said:
            self._said = sentence
            log.warning("%s", sentence)
            self._keep("traps_off", sentence)

    def _close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None

    def _take(self, data: bytes, address: str, port: int) -> None:
        for answer in self.judge.take(data, address, asyncio.get_running_loop().time()):
            if len(self._answers) < ANSWERS_WAITING:
                task = asyncio.ensure_future(self._answer(answer, address, port))
                self._answers.add(task)
                task.add_done_callback(self._answers.discard)

    async def _answer(self, data: bytes, address: str, port: int) -> None:
        """Answer an inform, on the SNMP budget of the device."""
        try:
            permit = await self._parts.gate.snmp_permit(address, port, asyncio.get_running_loop().time() + ANSWER_S)
            if self._socket:
                self._socket.answer(permit, data)
        except (Failed, OSError) as error:
            log.debug("an inform of %s was not answered: %s", address, error)

    def _tell(self, sender: traps.Sender, address: str, notice: Notice) -> None:
        """Keep the event, and ask every check of the device."""
        check: Any = self._checks[sender.check]
        about = {"check": check.name, "layer": check.layer, "target": check.target, "address": address}
        self._keep(notice.kind, notice.detail, **about)
        self._parts.tools.get(Snmp).sign_of_life(address)
        for same in self.judge.senders.get(address, ()):
            self._ask(same.check)

    def _ask(self, name: str) -> None:
        if name in self._asking:
            self._again.add(name)
        else:
            task = self._asking[name] = asyncio.ensure_future(self._ask_until_quiet(name))
            task.add_done_callback(lambda _: self._asking.pop(name, None))

    async def _ask_until_quiet(self, name: str) -> None:
        while True:
            self._again.discard(name)
            try:
                await self._parts.rounds.ask_now(name)
            except Running:
                self._again.add(name)  # that question may have left before it happened
            except NotNow as reason:
                log.debug("%s is not asked after its notification: %s", name, reason)
            await asyncio.sleep(ASK_AGAIN_S)
            if name not in self._again:
                return

    def _keep(self, kind: str, detail: str, **fields: Scalar) -> None:
        self._parts.journal.append(event(kind, detail, self._parts.clock.now(), **fields), urgent=True)

    def summary(self) -> None:
        """Tell what was not taken since the last time, if anything."""
        dropped = dict(self.judge.dropped)
        self.judge.dropped.clear()
        if words := traps.dropped_words(dropped, self.judge.last_unknown):
            self._keep("traps_dropped", f"SNMP notifications not taken: {words}")


def _make_engine() -> Any:
    from agent.snmp.trap_engine import TrapEngine

    engine = TrapEngine()
    give_back_memory()
    return engine


def _why(error: OSError, place: tuple[str, int]) -> str:
    """Say why the listener could not be opened, and what to do."""
    where = f"SNMP notifications cannot be taken on {place[0]} port {place[1]}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{where}: a port below 1024 needs CAP_NET_BIND_SERVICE; add it with `systemctl edit siteprobe` to "
            "AmbientCapabilities and CapabilityBoundingSet, or listen on a port above 1023 and have it forwarded"
        )
    if error.errno == errno.EADDRINUSE:
        return f"{where}: another program listens there (often snmptrapd); stop it or choose another port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where}: this machine does not have that address; 0.0.0.0 or [::] takes all"
    return f"{where}: {error.strerror or error}"
