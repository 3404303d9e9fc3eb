"""The `listen` check, signs of trouble in what the network sends to every port; it sends nothing."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from agent.check import Traffic
from agent.checks import Check, Context
from agent.clock import rfc3339
from agent.model import Fact, Facts, Failed, Failure, Layer, Scalar
from agent.net import kernel
from agent.net.errors import failed_from_os_error
from agent.net.own_port import own_port
from agent.options import Host, ListOf, Secret, Text, is_address, option
from agent.packets import PacketChild, listened

KEPT = 3.0
"""The child listens on for so many intervals without a question, then stops by itself."""
DAY_CHARACTERS = 10  # of 2026-11-22T…
KEY_BYTES = 32
LEAST_KEY = 16


@dataclass(frozen=True, kw_only=True)
class Listen(Check):
    """Listens to what a switch sends to every port, and tells signs that somebody should look. It sends nothing.

    Only headers are looked at (the first 96 bytes), filtered in the kernel: ARP, broadcasts, and TCP connection
    attempts to this probe's own ports 445, 139 and 3389, on which nothing listens. The interface is never made
    promiscuous, nothing is stored, and no address leaves the site in clear unless it stands in the config: a
    machine that is not listed appears as a keyed hash whose key changes daily. The owner's `consent` is required.

    A record with counts comes each interval, and for each sign an event `indicator`, once in 10 minutes for
    the same machine: `possible_worm_scan`, one machine asked (ARP) for 30 or more addresses in 60 s and most of
    them are not there, as a worm does that looks for victims; `arp_storm` and `broadcast_storm`, more than 200
    ARP packets or 1000 broadcasts a second for 5 s, mostly a loop; `second_gateway_mac`, two machines use
    the gateway's address; `unsolicited_connection`, somebody tried one of the three ports. These are signs, not
    findings: network management and vulnerability scanners do the same. List those in `known`.

    It never fails: where it cannot listen the outcome is unknown (`local_permission` without CAP_NET_RAW,
    `local_link` with the cable out). Under load the capture is the first to suffer: `dropped` says how much.
    """

    type: ClassVar[str] = "listen"
    hears: ClassVar[str] = "headers of arp, broadcasts and tcp attempts"
    default_layer: ClassVar[Layer] = Layer.DEVICE
    default_interval_s: ClassVar[float] = 30.0
    least_interval_s: ClassVar[float] = 1.0
    main_field: ClassVar[str] = "arp_most_per_second"
    facts: ClassVar[Mapping[str, Fact]] = {
        "listened_s": Fact(float, "Seconds that the counts are of; 0 in the first record."),
        "arp_requests": Fact(int, "ARP requests heard."),
        "arp_replies": Fact(int, "ARP replies heard."),
        "broadcasts": Fact(int, "Broadcast frames heard, ARP among them."),
        "arp_most_per_second": Fact(int, "ARP packets in the busiest second."),
        "broadcast_most_per_second": Fact(int, "Broadcast frames in the busiest second."),
        "connection_attempts": Fact(int, "TCP attempts of machines not listed to our own ports 445, 139 and 3389."),
        "malformed": Fact(int, "Packets with a header that cannot be read."),
        "dropped": Fact(int, "Frames that were not looked at because there were too many."),
        "indicators": Fact(int, "Signs seen; each is an event."),
    }
    sample: ClassVar[Mapping[str, Scalar]] = {
        "listened_s": 30.002,
        "arp_requests": 41,
        "arp_replies": 2,
        "broadcasts": 58,
        "arp_most_per_second": 5,
        "broadcast_most_per_second": 7,
        "connection_attempts": 0,
        "malformed": 0,
        "dropped": 0,
        "indicators": 0,
    }

    interface: str = option(
        Text(r"[^/\s]{1,15}", "the name of a network interface, at most 15 characters"),
        "Interface to listen on; left out, the one of the default route.",
        default="",
        example="eth0",
    )
    known: tuple[str, ...] = option(
        ListOf(Host(), single=True),
        "Addresses of machines that may ask for many others (network management, scanners); gateways and name"
        " servers are known anyway.",
        default=(),
        example="[10.20.0.40]",
    )
    hash_key: Any = option(
        Secret(),
        "Secret from which each day's key for hashes is made: then the probes of a site that share it give one"
        " machine one hash for a day. Left out, the key is random.",
        default=None,
        example="{credential: hash-key}",
    )

    def problems(self) -> list[tuple[str, str]]:
        """Give what does not go together, as (option, reason)."""
        return [("known", f"{address} is not an address") for address in self.known if not is_address(address)]

    def sends(self) -> tuple[Traffic, ...]:
        """Declare nothing: it only listens."""
        return ()

    async def run(self, ctx: Context) -> Facts:
        """Fetch what was heard since the last run; see the class for the signs."""
        port = own_port(self.interface)
        try:
            own = kernel.own_addresses()
            gateways = {found.gateway for found in kernel.default_gateways() if found.gateway}
        except OSError as error:
            raise failed_from_os_error(error) from error
        found = await listened(
            ctx.tools.get(PacketChild),
            port.name,
            ctx.deadline,
            key=self._key(ctx.memory, time.time()),
            own=own,
            gateways=gateways,
            known={*self.known, *kernel.name_servers()},
            keep_s=max(self.interval_s, self.default_interval_s) * KEPT,
        )
        signs = found["indicators"]
        for sign in signs:
            ctx.say(sign["detail"])
        fields = {"listened_s": found["seconds"], **found["counts"], "indicators": len(signs)}
        return Facts(fields, more=tuple(("event", {"kind": "indicator", **sign}) for sign in signs))

    def _key(self, memory: dict[str, Any], now: float) -> bytes:
        """Give the key of the day: made from the secret and the date, or random and kept in memory only."""
        day = rfc3339(now)[:DAY_CHARACTERS]
        if memory.get("day") != day:
            memory.update(day=day, key=self._new_key(day))
        key: bytes = memory["key"]
        return key

    def _new_key(self, day: str) -> bytes:
        if self.hash_key is None:
            return secrets.token_bytes(KEY_BYTES)
        try:
            secret = str(self.hash_key.reveal())
        except ValueError as error:
            raise Failed(Failure.LOCAL_PERMISSION, f"hash_key: {error}") from None
        if len(secret) < LEAST_KEY:
            raise Failed(Failure.LOCAL_PERMISSION, f"hash_key is shorter than {LEAST_KEY} characters")
        return hmac.new(secret.encode(), day.encode(), hashlib.sha256).digest()
