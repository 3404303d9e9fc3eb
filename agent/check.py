"""A check as the config sees it: the keys that all types share, and what a check declares to send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from agent.model import Fact, Layer, Scalar
from agent.options import Choice, Duration, Flag, MapOf, Number, Text, ident, option

CLASSES = ("infrastructure", "server", "printer", "ups", "medical")
NAME = ident("a check name")


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one run of a check sends: the gate, the budget warning and the manifest live from it.

    `destination` is the target as configured (a name, an address, `gateway`, `resolver`…);
    `requests` counts the units of the packet budget (echo, datagram, connection, who-has) a run.
    """

    destination: str
    protocol: str
    port: int | None
    requests: float
    whole_agent_only: bool = False
    own_budget: bool = False


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """The keys of every check. A type may narrow the defaults in its class variables."""

    type: ClassVar[str] = ""
    default_layer: ClassVar[Layer] = Layer.SERVICE
    default_interval_s: ClassVar[float] = 30.0
    least_interval_s: ClassVar[float] = 0.1
    default_timeout_s: ClassVar[float] = 5.0
    main_field: ClassVar[str] = "duration_s"
    """The record field that summaries keep when records must be thinned out."""
    asked_again: ClassVar[bool] = True
    """Whether a fault is confirmed by asking again at once; False: only after the least interval."""
    hears: ClassVar[str] = ""
    """What it listens to beside the answers to its own questions, for the manifest."""
    facts: ClassVar[Mapping[str, Fact]] = {}
    """The record fields of the type's own; each may be missing where a run did not come so far."""
    more_facts: ClassVar[Mapping[str, Mapping[str, Fact]]] = {}
    """The fields of further record types that a run may give, by type."""
    alternatives: ClassVar[tuple[frozenset[str], ...]] = ()
    """Sorts of options that exclude each other: who writes one sort wants no `defaults` of the others."""
    sample: ClassVar[Mapping[str, Scalar]] = {}
    """Fields of the type's own as one real run gave them, for the manual; a test holds them against `facts`."""

    name: str = option(
        NAME, "Name of the check, unique in the file; becomes part of the MQTT topic.", example="gateway"
    )
    enabled: bool = option(Flag(), "false keeps the check in the file but never runs it.", default=True)
    interval_s: float = option(
        Duration(0.1, 86400), "Time from one run to the next.", default=0.0, key="interval", example="30s"
    )
    timeout_s: float = option(
        Duration(0.1, 300), "Deadline of a run; may exceed the interval.", default=0.0, key="timeout", example="5s"
    )
    layer: str = option(
        Choice(tuple(Layer)), "Where on the path it looks; each type has a default.", default="", example="service"
    )
    group: str = option(ident("a group id"), "Data centre (or `site`) that it belongs to.", default="", example="dc-a")
    fail_after: int = option(Number(1, 100, whole=True), "Fails in a row that make it down.", default=3)
    recover_after: int = option(Number(1, 100, whole=True), "Passes in a row that bring it back up.", default=3)
    degraded: tuple[tuple[str, float], ...] = option(
        MapOf(Text("[a-z][a-z0-9_]*", "a record field"), Number()),
        "Limits of record fields: above is degraded (below, for fields in _left_s or _bits_per_s).",
        default=(),
        example="{rtt_mean_s: 0.05}",
    )
    device_class: str = option(
        Choice(CLASSES), "What is asked; `medical` needs an agreement.", default="", key="class", example="server"
    )
    responsibility_agreement: str = option(
        Text(),
        "Reference of the agreement that allows asking a medical device (IEC 80001-1).",
        default="",
        example="RA-7",
    )
    consent: str = option(
        Text(), "Reference of the owner's consent, for the types that need one.", default="", example="C-2026-03"
    )

    def sends(self) -> tuple[Traffic, ...]:
        """Declare what one run sends, one entry a destination and port."""
        raise NotImplementedError

    @classmethod
    def numbers(cls) -> tuple[str, ...]:
        """Name the record fields that are numbers, which `degraded` may limit."""
        return ("duration_s", *(name for name, fact in cls.facts.items() if fact.kind in (int, float)))

    def reaches(self) -> tuple[Traffic, ...]:
        """Declare what is asked on our behalf, such as by a proxy: forbidden places are forbidden there too."""
        return ()

    @property
    def asked(self) -> str:
        """The target as configured, for the record's `target`; "" where there is none."""
        traffic = self.sends()
        return traffic[0].destination if traffic else ""

    @property
    def hearsay(self) -> bool:
        """Whether it only tells how our own delivery is, which the agent knows anyway and asks nobody about."""
        return self.layer_or_default is Layer.COLLECTOR and not self.sends()

    @property
    def layer_or_default(self) -> Layer:
        """The layer as configured, or the one of the type."""
        return Layer(self.layer) if self.layer else self.default_layer


TARGET_WORDS = ("gateway", "resolver")
