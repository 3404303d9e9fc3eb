"""What a failed SNMP question means, in the closed vocabulary of failures. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType

from agent.model import Failed, Failure
from agent.snmp.ber import flaw
from agent.snmp.credentials import Credentials
from agent.snmp.line import DATAGRAM_LIMIT_BYTES

USER_UNKNOWN = "the device does not know the SNMPv3 user {user}"
KEY_WRONG = "wrong key for the SNMPv3 user {user}: compare auth_key and auth_protocol with the device"
INDICATIONS = MappingProxyType(
    {
        "UnknownUserName": (Failure.AUTH, USER_UNKNOWN),
        "UnknownSecurityName": (Failure.AUTH, USER_UNKNOWN),
        "WrongDigest": (Failure.AUTH, KEY_WRONG),
        "AuthenticationFailure": (Failure.AUTH, KEY_WRONG),
        "AuthenticationError": (Failure.AUTH, KEY_WRONG),
        "UnsupportedSecurityLevel": (
            Failure.AUTH,
            "the device does not allow the user {user} at this security level: compare auth_key and priv_key with it",
        ),
        "DecryptionError": (
            Failure.AUTH,
            "wrong encryption key for the SNMPv3 user {user}: compare priv_key and priv_protocol with the device",
        ),
        "NotInTimeWindow": (
            Failure.AUTH,
            "the device calls our SNMPv3 time wrong even after taking its own: its engineBoots or engineTime jumps",
        ),
        "UnknownEngineID": (Failure.PROTOCOL, "the device keeps changing its SNMPv3 engine id"),
        "EncryptionError": (Failure.INTERNAL, "the question could not be encrypted"),
        "UnsupportedPrivProtocol": (Failure.INTERNAL, "the priv_protocol does not work on this machine"),
        "UnsupportedAuthProtocol": (Failure.INTERNAL, "the auth_protocol does not work on this machine"),
    }
)
"""By name, as pysnmp has it: mostly the reports of RFC 3414, 3.2 (usm.REPORTS), and what pysnmp cannot encrypt."""

STATUS_NAMES = (
    *("noError", "tooBig", "noSuchName", "badValue", "readOnly", "genErr", "noAccess", "wrongType", "wrongLength"),
    *("wrongEncoding", "wrongValue", "noCreation", "inconsistentValue", "resourceUnavailable", "commitFailed"),
    *("undoFailed", "authorizationError", "notWritable", "inconsistentName"),
)
"""error-status of RFC 3416, section 3, by number."""
TOO_BIG, NO_SUCH_NAME, GEN_ERR = 1, 2, 5
LOOK_AT = "look at its SNMP view, and with v3 whether it wants auth_key and priv_key"
VIEW_REFUSALS = ("noAccess", "authorizationError")


def from_indication(name: str, credentials: Credentials) -> Failed:
    """Explain a report or an error of pysnmp, given by its name."""
    failure, text = INDICATIONS.get(name, (Failure.PROTOCOL, f"the device's answer is not valid SNMP ({name})"))
    return Failed(failure, text.format(user=credentials.user))


def from_status(status: int, oid: str) -> Failed:
    """Explain an error-status that the device answered."""
    name = STATUS_NAMES[status] if 0 <= status < len(STATUS_NAMES) else f"error-status {status}"
    if name in VIEW_REFUSALS:
        return Failed(Failure.AUTH, f"the device does not let us read {oid} ({name}): {LOOK_AT}")
    return Failed(Failure.PROTOCOL, f"the device answered {name} to {oid}")


def from_own_side(error: Exception, credentials: Credentials) -> Failed:
    """Explain why pysnmp could not even make the question; its errors may carry an indication."""
    find = getattr(error, "get", None)
    name = type(find("errorIndication") if find else error).__name__
    if name in INDICATIONS:
        return from_indication(name, credentials)
    return Failed(Failure.INTERNAL, f"the SNMP question could not be made ({name})")


@dataclass(slots=True)
class Heard:
    """What came instead of an answer, over all attempts of a question.

    `reports` are answers to v3's own preparation, the discovery; `strays` answers to nothing we asked.
    """

    reports: int = 0
    strays: int = 0
    last: bytes = b""

    def note(self, heard: int, reports: int, last: bytes) -> None:
        """Add an attempt: every datagram that made us send a further one was a report."""
        self.reports += reports
        self.strays += max(0, heard - reports)
        self.last = last or self.last


def from_silence(credentials: Credentials, heard: Heard) -> Failed:
    """Explain that no answer came, or only what is none."""
    if heard.strays:
        return _from_strays(heard.strays, heard.last)
    if credentials.version != "3":
        text = "no answer; a wrong community, a device that does not allow our address and one that is off look alike"
    elif heard.reports:
        text = "the device speaks SNMPv3 but does not answer the question" + (
            ": is priv_key or priv_protocol wrong?" if credentials.priv_key else ""
        )
    else:
        text = "no answer to SNMPv3; is it switched on there, and is our address allowed" + (
            ", and is priv_key right?" if credentials.priv_key else "?"
        )
    return Failed(Failure.TIMEOUT, text)


def from_quarantine(polls: int, left_s: float) -> Failed:
    """Say that a device is left alone after so many silent polls, and for how long still."""
    text = f"no answer to the last {polls} polls, so it is left alone and asked again in {math.ceil(left_s)} s"
    return Failed(Failure.TIMEOUT, text)


def _from_strays(count: int, last: bytes) -> Failed:
    came = f"the device sent {count} datagram{'s' * (count > 1)}"
    if len(last) > DATAGRAM_LIMIT_BYTES:
        return Failed(
            Failure.PROTOCOL, f"{came}, the last of {len(last)} bytes: we read at most {DATAGRAM_LIMIT_BYTES}"
        )
    if reason := flaw(last):
        return Failed(Failure.PROTOCOL, f"{came} that are not readable SNMP: the last {reason}")
    return Failed(Failure.MISMATCH, f"{came}, none an answer to our question (its request id or sender is another)")
