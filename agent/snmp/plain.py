"""A device that is asked over SNMP v1 or v2c: no pysnmp, whose messages cost twenty times as much."""

from __future__ import annotations

import asyncio
import secrets

from agent.snmp import ber, message
from agent.snmp.credentials import Credentials
from agent.snmp.line import Line

REQUEST_BITS = 31
"""A request id that cannot be guessed, from 1 to 2^31: an answer with another one is not to us."""
Answer = tuple[str, int, int, message.Bindings]
"""What became of a question: error indication ("" = none), error-status, error-index, objects."""


class PlainLine(Line):
    """The wire of such a device: takes the answer to the question that is open, and nothing else."""

    def __init__(self, version: int, community: bytes) -> None:
        """Know what an answer must repeat."""
        super().__init__()
        self._head = version, community
        self.request = 0
        self.answer: asyncio.Future[message.Message] | None = None

    def take(self, data: bytes) -> None:
        """Take the answer; what is none stays in `last` and is told apart when no answer comes."""
        try:
            found = message.parse(data)
        except ber.Unreadable:
            return
        ours = found.kind == message.RESPONSE and found.request == self.request
        if ours and (found.version, found.community) == self._head and self.answer and not self.answer.done():
            self.answer.set_result(found)


class PlainPeer:
    """One device and the community by which we are known there."""

    def __init__(self, credentials: Credentials) -> None:
        """Open nothing yet."""
        self._credentials, self._community = credentials, credentials.community.encode()
        self.wire = PlainLine(message.VERSIONS[credentials.version], self._community)

    def forget_device(self) -> None:
        """Nothing to forget: v1 and v2c have no engine id."""

    async def ask(self, kind: str, oids: tuple[str, ...], repetitions: int) -> Answer:
        """Ask once, without a deadline; `kind` is get, next or bulk."""
        wire = self.wire
        wire.request = secrets.randbelow(2**REQUEST_BITS - 1) + 1
        wire.answer = asyncio.get_running_loop().create_future()
        version = self._credentials.version
        wire.wanted.put_nowait(message.question(kind, version, self._community, wire.request, oids, repetitions))
        found = await wire.answer
        return "", found.status, found.index, found.bindings
