"""The nouns of siteprobe: what is asked, what was found, what is kept.

Values only, no behaviour beyond what follows from the value itself. Names and lists are
those of the contract (docs/contract words: outcome, failure, layer, record).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.clock import Instant

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Fact:
    """What one field of a message is: its type, and a sentence that names its unit.

    `kind` is float, int, bool, str, dict, or list (of texts; of objects where `of` is given). `words` is
    the closed list of a text's values, `pattern` their form (a regular expression), `of` the fields of
    the object. An `optional` field may be missing, a `nullable` one null.
    """

    kind: type
    sentence: str
    words: tuple[str, ...] = ()
    pattern: str = ""
    of: Mapping[str, Fact] | None = None
    optional: bool = False
    nullable: bool = False


class Outcome(StrEnum):
    """Three answers: yes, no, and "we could not measure" (which never counts against a target)."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Failure(StrEnum):
    """Why an outcome is not `pass`: a closed list, so that readers can branch on it."""

    TIMEOUT = "timeout"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    PROHIBITED = "prohibited"
    RESET = "reset"
    DNS_TIMEOUT = "dns_timeout"
    DNS_NXDOMAIN = "dns_nxdomain"
    DNS_SERVFAIL = "dns_servfail"
    DNS_REFUSED = "dns_refused"
    DNS_MISMATCH = "dns_mismatch"
    TLS_EXPIRED = "tls_expired"
    TLS_NOT_YET_VALID = "tls_not_yet_valid"
    TLS_UNTRUSTED = "tls_untrusted"
    TLS_NAME = "tls_name"
    TLS_HANDSHAKE = "tls_handshake"
    HTTP_STATUS = "http_status"
    HTTP_TEXT = "http_text"
    STALLED = "stalled"
    CAPTIVE_PORTAL = "captive_portal"
    AUTH = "auth"
    MISMATCH = "mismatch"
    PROTOCOL = "protocol"
    DUPLICATE_ADDRESS = "duplicate_address"
    NO_ANSWER = "no_answer"
    ROGUE = "rogue"
    LOCAL_LINK = "local_link"
    LOCAL_ADDRESS = "local_address"
    LOCAL_ROUTE = "local_route"
    LOCAL_PERMISSION = "local_permission"
    LOCAL_POLICY = "local_policy"
    OVERLOAD = "overload"
    INTERNAL = "internal"
    ABORTED = "aborted"


OWN_NETWORK = frozenset({Failure.LOCAL_LINK, Failure.LOCAL_ADDRESS, Failure.LOCAL_ROUTE})
"""A fault of our own connection: what a `link` check looks for, an excuse for every other type."""

OWN_FAULT = frozenset(
    {Failure.LOCAL_PERMISSION, Failure.LOCAL_POLICY, Failure.OVERLOAD, Failure.INTERNAL, Failure.ABORTED}
)
"""We could not measure: never the target's fault."""


def outcome_of(failure: Failure | None, check_type: str) -> Outcome:
    """Tell what a failure means for the target of a check of this type."""
    if failure is None:
        return Outcome.PASS
    if failure in OWN_FAULT or (failure in OWN_NETWORK and check_type != "link"):
        return Outcome.UNKNOWN
    return Outcome.FAIL


class Layer(StrEnum):
    """Where on the way from the probe to a service a check looks; the first nine in path order."""

    LINK = "link"
    ADDRESS = "address"
    LAN = "lan"
    GATEWAY = "gateway"
    UPLINK = "uplink"
    CARRIER = "carrier"
    INTERNET = "internet"
    DATACENTRE = "datacentre"
    SERVICE = "service"
    DNS = "dns"
    DHCP = "dhcp"
    TIME = "time"
    SIGNIN = "signin"
    DEVICE = "device"
    COLLECTOR = "collector"


class State(StrEnum):
    """State of a check. `unreachable` is laid over by the verdict: its parent is the fault."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"


class Failed(Exception):
    """A measurement that did not pass, raised where it is noticed and made a record by the runner.

    `fields` are further record fields known at that point, such as `responder`.
    """

    def __init__(self, failure: Failure, detail: str, **fields: Scalar) -> None:
        """Keep the closed `failure` word, one scrubbed sentence and the fields known so far."""
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
        self.fields = fields


@dataclass(frozen=True, slots=True)
class Facts:
    """What one run of a check found out, in the units that the field names carry.

    `address` is the address as used ("" where there is none); `more` are further records of the
    same run as (type, fields), such as one `snmp_port` a watched port or an `event`.
    """

    fields: Mapping[str, Scalar]
    address: str = ""
    failure: Failure | None = None
    detail: str = ""
    more: tuple[tuple[str, Mapping[str, Scalar]], ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened, before it has a number: a flat set of scalars with its time.

    `fields` hold everything beyond the head (v node ep seq ts clock boot mono_ms type), in the
    order in which they are to be shown.
    """

    type: str
    taken: Instant
    fields: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def check(self) -> str:
        """Name of the check, or `site` for records of no check, as in the topic."""
        return str(self.fields.get("check") or "site")


def event(kind: str, detail: str, taken: Instant, **fields: Scalar) -> Record:
    """Make an `event` record; `kind` is one of messages.EVENT_KINDS."""
    return Record("event", taken, {**fields, "kind": kind, "detail": detail})
