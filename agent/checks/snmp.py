"""The check type `snmp`: is a device well, and are the ports that matter up."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from agent.check import TARGET_WORDS, Traffic
from agent.checks import Check, Context
from agent.model import Fact, Facts, Failed, Failure, Layer, Scalar
from agent.net.errors import failed_from_os_error
from agent.options import Choice, Flag, Host, ListOf, MapOf, Number, Secret, Text, WholeChoice, did_you_mean, option
from agent.snmp import port_report, ports, report
from agent.snmp.credentials import AUTH_PROTOCOLS, KEY_SHORTEST, PRIV_PROTOCOLS, VERSIONS, Credentials
from agent.snmp.poll import Order, poll
from agent.snmp.profile import FIELD
from agent.snmp.profile_files import ProfileError, Profiles, Shelf, fields_with_limits, problems_of
from agent.snmp.session import OIDS_A_PDU, Snmp

PORT = 161
PORTS_MOST = 500
INDEX_MOST = 2**32 - 1
"""The largest number that an OID can hold (RFC 2578, 3.5): a question with a larger one is malformed."""
PROFILE_QUESTIONS = 6
"""What a usual profile asks in one poll; the budget of the device (5 a second) is the limit."""

V2_KEYS = ("community",)
V3_KEYS = ("user", "auth_key", "priv_key")


@dataclass(frozen=True, kw_only=True)
class SnmpCheck(Check):
    """Asks a device (switch, UPS, PDU, sensor, printer, firewall, Wi-Fi controller, host) over SNMP, reading only.

    What is asked stands in a profile, chosen by the device's sysObjectID or by the standard MIBs that it
    answers; docs/snmp.md shows how to add one. It passes when the device answers: how the device is
    stands in `health` (ok, warning, critical), `reason` (in words, worst first) and `findings` (the
    verdict's words). Each watched port gives an `snmp_port` record with its state and rates. Events tell a
    restart, a port or a neighbour that changed, a UPS on battery and back. A port counts as down only while
    it is switched on (admin up). Errors and discards are counts since the last poll.

    A large device needs a longer `timeout` (20s): five questions a second go to it, what does not fit into
    a poll goes on in the next, and `unread` names it. It fails with timeout (no answer; a wrong community
    looks the same), unreachable, refused, auth (wrong user or key, or a view that hides the system group),
    mismatch and protocol (answers that are none). SNMPv3 with both keys is advised; a v2c community crosses the network
    in clear text.
    """

    type: ClassVar[str] = "snmp"
    default_layer: ClassVar[Layer] = Layer.DEVICE
    default_timeout_s: ClassVar[float] = 5.0
    facts: ClassVar[Mapping[str, Fact]] = report.FACTS
    sample: ClassVar[Mapping[str, Scalar]] = {
        "sys_name": "comms-ups",
        "sys_object_id": "1.3.6.1.4.1.705.1",
        "uptime_s": 674237.32,
        "boots": 29,
        "profile": "ups-eaton",
        "ups_battery_status": "normal",
        "ups_output_source": "battery",
        "on_battery_s": 40.0,
        "battery_left_s": 1320.0,
        "battery_charge_ratio": 0.97,
        "ups_load_ratio": 0.21,
        "findings": "ups_on_battery",
        "health": "warning",
        "reason": "on battery, 22 min left",
    }
    alternatives: ClassVar[tuple[frozenset[str], ...]] = (frozenset(V2_KEYS), frozenset(V3_KEYS))
    more_facts: ClassVar[Mapping[str, Mapping[str, Fact]]] = {"snmp_port": port_report.PORT_FACTS}

    target: str = option(Host(TARGET_WORDS), "Device to ask.", example="10.20.0.2")
    port: int = option(Number(1, 65535, whole=True), "UDP port of its SNMP agent.", default=PORT)
    version: str = option(
        WholeChoice(VERSIONS),
        "SNMP version; 3, or 2c where a community is given (1 is old).",
        default="",
        example="3",
    )
    community: Any = option(Secret(), "Community of SNMP 2c.", default=None, example="{credential: snmp-community}")
    user: str = option(Text(longest=32), "User of SNMPv3.", default="", example="probe")
    auth_protocol: str = option(
        Choice(AUTH_PROTOCOLS), "How requests are signed; MD5 and SHA are weak.", default=AUTH_PROTOCOLS[0]
    )
    auth_key: Any = option(Secret(), "Passphrase for signing.", default=None, example="{credential: snmp-auth}")
    priv_protocol: str = option(
        Choice(PRIV_PROTOCOLS), "How requests are encrypted; DES is weak.", default=PRIV_PROTOCOLS[0]
    )
    priv_key: Any = option(Secret(), "Passphrase for encryption.", default=None, example="{credential: snmp-priv}")
    profiles: tuple[str, ...] = option(
        ListOf(Text(name="a folder")),
        "Further folders with device profiles.",
        default=(),
        example="[/etc/siteprobe/snmp]",
    )
    watch_ports: tuple[str, ...] = option(
        ListOf(Text(name="a port (index, name or alias)", longest=64), single=True, longest=PORTS_MOST),
        "Ports to watch: interface index (a number), name or alias.",
        default=(),
        example="[Gi1/0/48, uplink]",
    )
    thresholds: tuple[tuple[str, tuple[float, ...]], ...] = option(
        MapOf(FIELD, ListOf(Number(), single=True, shortest=1, longest=2)),
        "Own limits for fields of the profile: warning, then critical.",
        default=(),
        example="{device_temperature_celsius: [40, 50]}",
    )
    max_repetitions: int = option(
        Number(1, 25, whole=True), "Most table rows asked at once; it begins with 10.", default=10
    )
    personal_text: bool = option(
        Flag(), "true also records contact, location and port aliases, which may name people.", default=False
    )

    @property
    def version_used(self) -> str:
        """The version as configured, or the one that follows from the community."""
        return self.version or ("2c" if self.community is not None else "3")

    def problems(self) -> list[tuple[str, str]]:
        """Give what does not go together, as (option, reason)."""
        found = []
        if (version := self.version_used) != "3":
            if self.community is None:
                found.append(("community", f"is required for version {version}"))
            found += [(k, f"belongs to version 3, not {version}") for k in self._given(*V3_KEYS)]
        else:
            if not self.user:
                found.append(("user", "is required for version 3; or give a community for version 2c"))
            found += [(key, "belongs to version 2c, not 3") for key in self._given(*V2_KEYS)]
            if self.priv_key is not None and self.auth_key is None:
                found.append(("priv_key", "needs an auth_key: SNMPv3 encrypts only what it signs"))
        if len(set(self.watch_ports)) < len(self.watch_ports):
            found.append(("watch_ports", "names a port twice"))
        found += [("watch_ports", f"{p} is no interface index: 1 to {INDEX_MOST}") for p in self._impossible_ports()]
        # A folder that is not here may be on the machine for which this file is meant; a run tells it.
        here = [folder for folder in self.profiles if Path(folder).is_dir()]
        if here:
            found += [("profiles", sentence) for sentence in problems_of(here)]
        if self.thresholds and len(here) == len(self.profiles):
            found += self._idle_limits()
        return found

    def _idle_limits(self) -> list[tuple[str, str]]:
        """Find limits that no profile knows: a mistyped one would never say anything."""
        try:
            known = sorted(fields_with_limits(self.profiles) | {"fcs_error_ratio"})
        except ProfileError:
            return []
        told = ((field, did_you_mean(field, known)) for field, _ in self.thresholds if field not in known)
        return [("thresholds", f"{field} is no number of any profile{hint}") for field, hint in told]

    def _impossible_ports(self) -> list[str]:
        return [p for p in self.watch_ports if p.isdecimal() and not 1 <= int(p) <= INDEX_MOST]

    def _given(self, *keys: str) -> list[str]:
        return [key for key in keys if getattr(self, key)]

    def sends(self) -> tuple[Traffic, ...]:
        """Declare the questions of a usual profile and those for the ports, on SNMP's own budget."""
        columns = len(ports.COLUMNS) + self.personal_text
        questions = 1 + PROFILE_QUESTIONS + math.ceil(len(self.watch_ports) * columns / OIDS_A_PDU)
        return (Traffic(self.target, "udp", self.port, questions, own_budget=True),)

    async def run(self, ctx: Context) -> Facts:
        """Ask the device, and what its profile names (only the system group when a confirmation is wanted)."""
        address = await ctx.resolve(self.target)
        credentials = self.credentials()
        ctx.say(f"SNMP {credentials.level}, to {address} UDP port {self.port}")
        memory = self._memory(ctx)
        try:
            session = await ctx.tools.get(Snmp).session(
                ctx.gate, address, self.port, credentials, ctx.deadline, ctx.say, self.max_repetitions
            )
            fields, more = await poll(session, memory, self._order(ctx))
        except OSError as error:
            raise failed_from_os_error(error) from None
        return Facts(fields, address, more=tuple(more))

    def _memory(self, ctx: Context) -> report.Memory:
        """Give what was kept of the device; another target or other profiles begin anew."""
        asks = (self.target, self.port, self.profiles, self.thresholds, self.personal_text)
        if ctx.memory.get("asks") != asks:
            ctx.memory.update(asks=asks, snmp=report.Memory())
        memory: report.Memory = ctx.memory["snmp"]
        return memory

    async def _profiles(self, ctx: Context) -> Profiles:
        try:
            return await ctx.tools.get(Shelf).profiles(self.profiles)
        except ProfileError as error:
            raise Failed(Failure.INTERNAL, f"the device profiles cannot be used: {error.sentences[0]}") from None

    def _order(self, ctx: Context) -> Order:
        return Order(
            self.name,
            self.watch_ports,
            dict(self.thresholds),
            self.personal_text,
            self.max_repetitions,
            only_alive=ctx.once,
            wall_s=time.time() if ctx.judge_certificate_dates else None,
            say=ctx.say,
            profiles=partial(self._profiles, ctx),
        )

    def credentials(self) -> Credentials:
        """Give who we are to the device; raises `Failed` (local_permission) where a secret cannot be used."""
        secrets = {key: self._secret(key) for key in ("community", "auth_key", "priv_key")}
        return Credentials(
            self.version_used,
            user=self.user,
            auth_protocol=self.auth_protocol,
            priv_protocol=self.priv_protocol,
            **secrets,
        )

    def _secret(self, key: str) -> str:
        source = getattr(self, key)
        if source is None:
            return ""
        try:
            secret = str(source.reveal())
        except ValueError as error:
            raise Failed(Failure.LOCAL_PERMISSION, f"{key}: {error}") from None
        if key != "community" and len(secret) < KEY_SHORTEST:
            raise Failed(Failure.LOCAL_PERMISSION, f"{key} is shorter than {KEY_SHORTEST} characters (RFC 3414)")
        return secret
