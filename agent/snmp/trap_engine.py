"""SNMPv3 notifications: pysnmp checks their signature, time window and encryption. Imports pysnmp.

An engine of its own: its users are bound to the engine ids of the devices, which for a trap are the
authority (RFC 3414, 1.5.1); for an inform we are.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import Any

from pyasn1.error import PyAsn1Error
from pyasn1.type import univ
from pysnmp.carrier.asyncio.base import AbstractAsyncioTransport
from pysnmp.carrier.asyncio.dgram.udp import DOMAIN_NAME, UdpTransportAddress
from pysnmp.carrier.asyncio.dispatch import AsyncioDispatcher
from pysnmp.entity import config
from pysnmp.entity.engine import SnmpEngine
from pysnmp.entity.rfc3413.ntfrcv import NotificationReceiver
from pysnmp.error import PySnmpError
from pysnmp.proto import rfc1902, rfc1905
from pysnmp.proto.errind import ErrorIndication

from agent.snmp.ber import readable
from agent.snmp.credentials import Credentials
from agent.snmp.crypto import AUTH_IDS, PRIV_IDS, Keys, master_keys, prove
from agent.snmp.line import DATAGRAM_LIMIT_BYTES
from agent.snmp.message import Bindings, Value

ENGINES_A_DEVICE = 4
"""A device has one engine id, a stack a few; more of them are somebody's game, and the oldest is forgotten."""
Received = tuple[list[bytes], list[Bindings]]
"""What is to be answered, and the notifications that hold."""

TICK_S = 1.0
"""pysnmp's own housekeeping."""
UNREADABLE = (
    PySnmpError,
    PyAsn1Error,
    ErrorIndication,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    asyncio.InvalidStateError,
)
"""What pysnmp and pyasn1 raise at datagrams that are not what they expect (found by fuzzing)."""

log = logging.getLogger(__name__)


class Ticking(AsyncioDispatcher):  # type: ignore[misc]
    """pysnmp's dispatcher on the loop's clock: the original stands still when wall time is set back."""

    async def handle_timeout(self) -> None:
        """Do pysnmp's housekeeping until cancelled."""
        while True:
            await asyncio.sleep(self.get_timer_resolution())
            self.handle_timer_tick(asyncio.get_running_loop().time())


class Mouth(AbstractAsyncioTransport):  # type: ignore[misc]
    """What pysnmp takes for its socket: collects what it wants to answer."""

    ADDRESS_TYPE = UdpTransportAddress

    def __init__(self) -> None:
        """Have nothing to say."""
        self.answers: list[bytes] = []
        self.name = UdpTransportAddress(("0.0.0.0", 1))  # a name, never an address

    def send_message(self, outgoing: Any, _address: Any) -> None:
        """Take an answer (pysnmp's name for it)."""
        self.answers.append(bytes(outgoing))

    def hear(self, data: bytes) -> None:
        """Give pysnmp a datagram."""
        if self._callback_function is not None:
            self._callback_function(self, self.name, data)


class TrapEngine:
    """The engine; its making takes 200 ms with the first import, so make it in a thread."""

    def __init__(self) -> None:
        """Load pysnmp's tables."""
        self.pysnmp = SnmpEngine(maxMessageSize=DATAGRAM_LIMIT_BYTES)
        self.engine_id = bytes(self.pysnmp.snmpEngineID)
        self._mouth, self._heard = Mouth(), list[Bindings]()
        self._known: dict[str, OrderedDict[tuple[bytes, Credentials], None]] = {}
        self._masters: dict[Credentials, Keys] = {}
        self._own_users: dict[str, Credentials] = {}

    def begin(self) -> None:
        """Listen to what `receive` is given; needs the running loop."""
        dispatcher = Ticking()
        dispatcher.set_timer_resolution(TICK_S)
        self.pysnmp.register_transport_dispatcher(dispatcher)
        config.add_transport(self.pysnmp, (*DOMAIN_NAME, 1), self._mouth)
        NotificationReceiver(self.pysnmp, self._notified)

    def close(self) -> None:
        """Stop pysnmp's housekeeping."""
        self.pysnmp.close_dispatcher()

    def learn(self, credentials: Credentials) -> None:
        """Make the master keys; that hashes a megabyte each (RFC 3414, A.2), so call it in a thread.

        Raises `Failed` (internal) where the algorithms do not work here.
        """
        prove(credentials)
        self._masters[credentials] = master_keys(credentials)

    def knows(self, credentials: Credentials) -> bool:
        """Tell whether the master keys were made."""
        return credentials in self._masters

    def introduce(self, address: str, engine_id: bytes, credentials: Credentials) -> bool:
        """Let the user of a device sign under this engine id; False where that cannot be.

        That is where its keys are unknown, or where the user sends informs to us with other keys than the user
        of the same name on another device: we are one engine, which has one set of keys a user name.
        """
        if credentials not in self._masters:
            return False
        if engine_id == self.engine_id:
            if self._own_users.setdefault(credentials.user, credentials) != credentials:
                return False
            address = ""  # whoever sends it: the user is ours
        return self._add(address, engine_id, credentials)

    def _add(self, address: str, engine_id: bytes, credentials: Credentials) -> bool:
        known = self._known.setdefault(address, OrderedDict())
        key = (engine_id, credentials)
        if key in known:
            return True
        keys = self._masters[credentials]
        try:
            config.add_v3_user(
                self.pysnmp,
                credentials.user,
                AUTH_IDS[credentials.auth_protocol] if keys.auth else config.USM_AUTH_NONE,
                keys.auth,
                PRIV_IDS[credentials.priv_protocol] if keys.priv else config.USM_PRIV_NONE,
                keys.priv,
                securityEngineId=rfc1902.OctetString(engine_id),
                authKeyType=config.USM_KEY_TYPE_MASTER,
                privKeyType=config.USM_KEY_TYPE_MASTER,
            )
        except UNREADABLE:
            return False
        known[key] = None
        if len(known) > ENGINES_A_DEVICE:
            (oldest, who), _ = known.popitem(last=False)
            config.delete_v3_user(self.pysnmp, who.user, rfc1902.OctetString(oldest))
        return True

    def receive(self, data: bytes) -> Received:
        """Let pysnmp judge a datagram; a wrong signature, time or key gives nothing, or a report to answer."""
        self._mouth.answers, self._heard = [], []
        if len(data) <= DATAGRAM_LIMIT_BYTES and readable(data):
            try:
                self._mouth.hear(data)
            except UNREADABLE:
                log.debug("a v3 notification was not readable")
        return self._mouth.answers, self._heard

    def _notified(self, _engine: Any, _state: Any, _context: Any, _name: Any, found: Any, _own: Any) -> None:
        self._heard.append(bindings(found))


def plain(value: Any) -> Value:
    """Make a pysnmp value plain: numbers int, OIDs and addresses text, octets bytes, "no such" None."""
    if isinstance(value, rfc1905.NoSuchObject | rfc1905.NoSuchInstance | rfc1905.EndOfMibView | univ.Null):
        return None
    if isinstance(value, univ.ObjectIdentifier | rfc1902.IpAddress):
        return str(value.prettyPrint())
    if isinstance(value, univ.OctetString):
        return bytes(value.asOctets())
    return int(value)


def bindings(found: Any) -> Bindings:
    """Make the answer's variables plain; raises one of UNREADABLE where a value is of no known type."""
    return [(str(name), plain(value)) for name, value in found]
