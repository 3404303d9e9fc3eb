"""What one vantage point cannot tell apart, as data: two causes that look alike from the probe, and how people decide.

The verdicts are worded so that they claim no more than this. docs/verdicts.md prints the list.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """Causes that look alike from here, the verdicts said of them, why, and what decides between them."""

    alike: str
    said: tuple[str, ...]
    why: str
    decides: str


LIMITS = (
    Limit(
        "A firewall that drops, and a dead host behind it",
        ("remote_filtered_or_down",),
        "Both are silence. Only a last router that says `unreachable` for the dead host gives it away.",
        "Ask the owner of the host whether it runs, then that of the firewall.",
    ),
    Limit(
        "A firewall that answers with a reset, and a service that is stopped",
        ("remote_service_down",),
        "The reset carries the host's address, whoever sent it.",
        "Look at the host itself whether the service listens.",
    ),
    Limit(
        "Loss on the way there, and loss on the way back",
        ("lan_degraded", "wan_degraded"),
        "An echo is lost either way; no peer out there reports what arrived.",
        "The carrier's counters at both ends of the line.",
    ),
    Limit(
        "A way there that is broken, and a way back that is (asymmetric routing, a route withdrawn for our network)",
        ("wan_uplink_unresponsive", "carrier_path_down", "datacentre_unreachable"),
        "The answer is missing in both cases.",
        "A trace from the far side towards this site.",
    ),
    Limit(
        "The carrier's core, and the far edge behind it, when nothing answers",
        ("carrier_path_down", "datacentre_unreachable"),
        "With all places silent the common part is named; with one place only, it is a guess of at most 0.5.",
        "Anchors at the carrier, on the internet and in each data centre; other sites of the same carrier.",
    ),
    Limit(
        "The WAN port of our own router, the modem, the cable, and the carrier's first hop, when none says anything",
        ("wan_uplink_unresponsive",),
        "All that is known is that the gateway answers and nothing behind it does.",
        "The lamp and the counters of the router's WAN port.",
    ),
    Limit(
        "A router that knows no route, and one whose line is dead",
        ("wan_uplink_down", "wan_route_missing"),
        "Routers use the same ICMP words for both; only a first hop that still answers tells them apart.",
        "An `uplink` anchor in the config; the routing table of the router.",
    ),
    Limit(
        "A dead gateway, and a LAN that is dead for us alone, where no LAN peer is asked",
        ("lan_gateway_down",),
        "Nobody else on the LAN can be heard; the confidence is 0.5 at most and `lan` is in `blind`.",
        "Two LAN peers under `anchors: {lan: [...]}`.",
    ),
    Limit(
        "A LAN that has failed as a whole, and our own port in the wrong VLAN, shut by 802.1X or by port security",
        ("lan_isolated",),
        "Beyond the first switch port nothing answers; what other ports see is not known.",
        "Whether people on the site work; the switch port of the probe.",
    ),
    Limit(
        "A duplicate address, and proxy ARP or two routers that both answer for one address",
        ("address_conflict", "gateway_address_conflict"),
        "A second MAC address answers for the same IP address in both cases.",
        "The switch port behind each MAC address; for routers that are meant to, list both in `expect_mac`.",
    ),
    Limit(
        "A device whose SNMP agent is dead, one with other credentials, and one whose access list shuts us out",
        ("snmp_agent_unresponsive",),
        "Version 2c drops what it does not accept without a word; what nobody pings may be dead altogether.",
        "The record's `failure` (version 3 may say `auth`); an `icmp` check of its address, layer `device`.",
    ),
    Limit(
        "A line that carries little, and a line that others fill",
        ("wan_capacity_low",),
        "A packet train measures what is free at that moment.",
        "The utilisation of the router's WAN port at that time.",
    ),
    Limit(
        "A slow service, and a slow way to it",
        ("remote_service_slow",),
        "The times of one request contain both, unless the host is also asked with `icmp`.",
        "The fields `connect_s` and `first_byte_s` of the records: only the second grows if the service is slow.",
    ),
    Limit(
        "A certificate that is wrong, and a proxy that opens TLS and shows its own",
        ("tls_certificate_invalid",),
        "An untrusted issuer is all that is seen.",
        "The issuer of the certificate, from the probe and from another network.",
    ),
    Limit(
        "A captive portal, and a service that was moved and redirects elsewhere",
        ("captive_portal",),
        "Both answer with a redirect or a page that is not the expected one.",
        "Open the address in a browser on the site.",
    ),
    Limit(
        "A name server that lies, a stale zone, and a change nobody told the probe",
        ("dns_wrong_answer", "dns_name_missing"),
        "The answer differs from `expect`; who is right is not in the packet.",
        "The zone at its master.",
    ),
    Limit(
        "A stray DHCP server, and a new one that is meant",
        ("rogue_dhcp_server",),
        "Only `expect_servers` says who may answer.",
        "Ask who changed the DHCP service; then list the server or disconnect it.",
    ),
    Limit(
        "A time server that is off, and our own clock that is",
        ("time_offset",),
        "The offset is a difference of the two; `clock` in the record says whether ours was synchronised.",
        "A second time server, or the offset seen by another site.",
    ),
    Limit(
        "A fault that is meant, and a real one at the same time",
        ("isolated_by_policy", "suppressed"),
        "While isolation is announced, what fails beyond the gateway is laid to it; in maintenance nothing is asked.",
        "The states of the single checks; the verdict after the announced end.",
    ),
    Limit(
        "One fault, and a second one behind it",
        (),
        "What lies behind the nearest fault is `unreachable`: neither up nor down, until the nearer one is mended.",
        "Mend the nearer one; the second is then said within a minute or two.",
    ),
    Limit(
        "A site without power, a dead probe, and a dead uplink, seen from the centre",
        (),
        "All three end in the broker's `lost`. The probe keeps its verdict and sends it once the way is back.",
        "The probe's local page; other probes and devices of the same site.",
    ),
    Limit(
        "Nothing is wrong, and nobody asks there",
        ("healthy",),
        "A verdict covers what is checked: one port of one switch, and the `blind` layers not at all; a fault shorter"
        " than the interval may fall between two questions.",
        "More checks where it matters; a second probe in another building.",
    ),
)
