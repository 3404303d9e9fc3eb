"""One question to a device and its answer: permits, the wait, one retry, and what silence means."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from agent.model import Failed, Failure
from agent.safety import Gate
from agent.snmp import failures
from agent.snmp.credentials import Credentials
from agent.snmp.device import Access, Device
from agent.snmp.message import Bindings, Value

ANSWER_TIMEOUT_S = 3.0
ATTEMPTS = 2
"""3 s and one retry (field.md 3.2): more questions on a saturated device make it worse."""
DATAGRAMS_A_QUESTION = 4
"""v3 needs up to three: discovery, time, the question itself. A device that asks for more runs in circles."""
LEAST_WAIT_S = 1.0
"""A silence of less, because another check was asking until then, is no word of the device."""
NO_TURN = "another check was asking this device all the time; mend that one first, or give this one a longer timeout"
MARGIN_S = 0.05
"""We end a little before the deadline, so that the reason is ours to tell."""
Reply = tuple[int, int, Bindings]
"""error-status, error-index, objects."""


class Exchange:
    """Asks one device, one question at a time, under one deadline (seconds of the loop clock)."""

    def __init__(
        self,
        gate: Gate,
        target: tuple[str, int],
        credentials: Credentials,
        deadline: float,
        say: Callable[[str], None],
        device: Device,
        access: Access,
    ) -> None:
        """Ask nothing yet."""
        self.deadline = deadline - MARGIN_S
        self.credentials, self.device = credentials, device
        self._gate, self._target, self._say = gate, target, say
        self._access, self._peer = access, access.peer
        self._answered = self._waited = False
        self._made = asyncio.get_running_loop().time()

    async def ask(self, kind: str, oids: tuple[str, ...], repetitions: int = 0) -> Reply:
        """Ask, and once more after silence; raises `Failed` and OSError."""
        async with self._turn() as began:
            heard = failures.Heard()
            for attempt in range(1, ATTEMPTS + 1):
                self._say(f"ask {kind} {_short(oids)}" + (f" × {repetitions}" if repetitions else ""))
                try:
                    name, *reply = await self._once(kind, oids, repetitions, heard)
                except TimeoutError:
                    repetitions = self._again(heard, len(oids), repetitions)
                    continue
                except OSError as error:
                    if error.errno == errno.EHOSTUNREACH:  # as silent as a device that is off
                        self._unheard()
                    raise
                self._hear()
                if not name:
                    return self._read(*reply)
                self._judge(name, attempt == ATTEMPTS)
            raise self._silent(heard, began)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[float]:
        """Wait until no other check asks this device; gives when we may (loop clock). Raises `Failed` (overload)."""
        self._waited = self._waited or self.device.lock.locked()
        try:
            async with asyncio.timeout_at(self.deadline):
                await self.device.lock.acquire()
        except TimeoutError:
            raise Failed(Failure.OVERLOAD, NO_TURN) from None
        try:
            yield asyncio.get_running_loop().time()
        finally:
            self.device.lock.release()

    def _hear(self) -> None:
        self._answered = True
        self._access.silence.heard()

    def _unheard(self) -> None:
        if not self._answered:
            self._access.silence.another(asyncio.get_running_loop().time())

    def _silent(self, heard: failures.Heard, began: float) -> Failed:
        """Explain the silence; a poll that heard nothing at all counts towards the quarantine.

        One that got its turn only at the end has not waited long enough to say anything.
        """
        if self._waited and self.deadline - began < LEAST_WAIT_S and began - self._made > self.deadline - began:
            return Failed(Failure.OVERLOAD, NO_TURN)
        if heard.strays or heard.reports:
            self._access.silence.heard()
        else:
            self._unheard()
        if self._answered and not heard.strays:
            return Failed(Failure.TIMEOUT, "the device answered the questions before this one, and then no more")
        return failures.from_silence(self.credentials, heard)

    def _again(self, heard: failures.Heard, objects: int, repetitions: int) -> int:
        """Prepare for asking once more, for less where size may be the reason; gives the repetitions to ask for.

        A stray answer in v3 may come from a device with a new engine id.
        """
        self._say("no answer" + (", but something else came" if heard.strays else ""))
        self._peer.wire.hang_up()
        if heard.strays and self.credentials.version == "3":
            self._peer.forget_device()
        if self._answered and repetitions > 1:
            self.device.rows.silent(repetitions)
            return repetitions // 2
        if self._answered and objects > 1:
            self.device.objects.silent(objects)
        return repetitions

    def _judge(self, name: str, last: bool) -> None:
        """Raise what an error indication means, unless a new discovery may mend it."""
        if name == "UnknownEngineID" and not last:
            self._say("the device has a new SNMPv3 engine id: discover it again")
            self._peer.forget_device()
            return
        raise failures.from_indication(name, self.credentials)

    def _read(self, status: int, index: int, found: Bindings) -> Reply:
        self._say(f"answer {', '.join(f'{oid} = {shown(value)}' for oid, value in found) or 'without objects'}")
        return status, index, found

    async def _once(self, kind: str, oids: tuple[str, ...], repetitions: int, heard: failures.Heard) -> Any:
        """Ask once. Raises TimeoutError at silence, after noting in `heard` what came instead."""
        wire = self._peer.wire
        wire.begin()
        answer = asyncio.ensure_future(self._peer.ask(kind, oids, repetitions))
        try:
            async with asyncio.timeout_at(self.deadline) as limit:
                sending = asyncio.ensure_future(self._pump(limit))
                try:
                    await asyncio.wait({answer, sending}, return_when=asyncio.FIRST_COMPLETED)
                    return answer.result() if answer.done() else sending.result()
                finally:
                    _drop(sending)
        except TimeoutError:
            heard.note(wire.heard, max(0, wire.sent - 1), wire.last)
            raise
        except OSError:
            wire.hang_up()
            raise
        finally:
            wire.end()
            _drop(answer)

    async def _pump(self, limit: asyncio.Timeout) -> None:
        """Send what the peer wants to send, each with its permit; ends only by raising."""
        loop, wire = asyncio.get_running_loop(), self._peer.wire
        while True:
            wanted = await wire.wanted.get()
            if isinstance(wanted, OSError):
                raise wanted
            if wire.sent == DATAGRAMS_A_QUESTION:
                raise Failed(Failure.PROTOCOL, "the device answers each SNMPv3 question with another report")
            permit = await self._gate.snmp_permit(*self._target, self.deadline)
            await wire.send(permit, wanted)
            limit.reschedule(min(self.deadline, loop.time() + ANSWER_TIMEOUT_S))


def _drop(task: asyncio.Future[Any]) -> None:
    """End a task whose result, error included, is of no interest any more."""
    task.cancel()
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


def shown(value: Value) -> str:
    """Write a value for people, cut to a readable length."""
    if value is None:
        return "not there"
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    text = "".join(c if c.isprintable() else "·" for c in text)
    return text if len(text) <= 60 else text[:57] + "…"


def _short(oids: tuple[str, ...]) -> str:
    return ", ".join(oids[:6]) + (f" and {len(oids) - 6} more" if len(oids) > 6 else "")
