"""The verdicts: who must act, what is said, and what a technician should do next.

`{target}` is what failed as people know it, `{place}` the data centre or service, `{responder}` the
router that answered, `{others}` what else lies that far and works.
Sentences end without a full stop; the time is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agent.model import Failure
from agent.verdict.device_words import DEVICE_WORDS


class Domain(StrEnum):
    """Whose the fault is (contract, section 4)."""

    NONE = "none"
    UNKNOWN = "unknown"
    PROBE = "probe"
    SITE = "site"
    CARRIER = "carrier"
    INTERNET = "internet"
    DATACENTRE = "datacentre"
    SERVICE = "service"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Row:
    """One verdict."""

    domain: Domain
    summary: str
    next: str


HEALTHY = "healthy"
STARTING = "starting"
UNDETERMINED = "undetermined"
SUPPRESSED = "suppressed"
ISOLATED = "isolated_by_policy"
FAULTLESS = (HEALTHY, STARTING, SUPPRESSED)

ROWS = {
    HEALTHY: Row(Domain.NONE, "Everything on the path works", "Nothing to do."),
    STARTING: Row(Domain.UNKNOWN, "The first answers are still awaited", "Wait for the first verdict."),
    UNDETERMINED: Row(
        Domain.UNKNOWN,
        "No known pattern fits: {target}",
        "Read the evidence; ask the check by hand with `siteprobe check NAME`.",
    ),
    SUPPRESSED: Row(Domain.UNKNOWN, "Active checks are suppressed: {target}", "Wait for the end of the suppression."),
    "local_interface_admin_down": Row(
        Domain.PROBE, "The probe's own interface is switched off", "Switch it on: ip link set {target} up."
    ),
    "local_link_down": Row(
        Domain.PROBE, "The probe's own cable or switch port is dead", "Check the cable, the switch port and its power."
    ),
    "local_address_missing": Row(
        Domain.PROBE, "The probe has no address of its own", "Check DHCP on this port, or the static address."
    ),
    "default_route_missing": Row(
        Domain.PROBE, "The probe has no default route", "Check DHCP's router option, or the static gateway."
    ),
    "address_conflict": Row(
        Domain.PROBE,
        "Another machine ({place}) uses the probe's own address {target}",
        "Find that machine by its MAC address in the switch, or give the probe another address.",
    ),
    "gateway_address_conflict": Row(
        Domain.SITE,
        "More than one machine claims the gateway's address {target} ({place})",
        "Find the stray machine by its MAC address in the switch and disconnect it.",
    ),
    "lan_isolated": Row(
        Domain.PROBE,
        "Neither the gateway nor any LAN peer answers, while the link is up",
        "Check VLAN, 802.1X and port security of the probe's switch port; nothing is known about the hospital.",
    ),
    "lan_gateway_down": Row(
        Domain.SITE, "The gateway {target} does not answer", "Check the site's router and its LAN port."
    ),
    "lan_degraded": Row(
        Domain.SITE,
        "The local network is impaired: {target}",
        "Look at the errors and the duplex mode of the switch ports between probe and gateway.",
    ),
    "wan_uplink_down": Row(
        Domain.CARRIER,
        "The site's uplink is down: the gateway {responder} says there is no way out",
        "Check the WAN port of the router, then call the carrier.",
    ),
    "wan_uplink_unresponsive": Row(
        Domain.CARRIER,
        "The gateway answers, and nothing beyond it does",
        "Check the WAN port of the router, then call the carrier.",
    ),
    "wan_route_missing": Row(
        Domain.CARRIER,
        "The first hop answers, but the gateway {responder} knows no way further",
        "Check the routes of the site's router, static or learnt from the carrier.",
    ),
    "carrier_path_down": Row(
        Domain.CARRIER,
        "The first hop of the carrier answers, and nothing beyond it does",
        "Call the carrier with the time of onset.",
    ),
    "wan_degraded": Row(
        Domain.CARRIER,
        "The way beyond the gateway is impaired: {target}; in which direction cannot be told from here",
        "Give the carrier the time of onset and the figures.",
    ),
    "wan_capacity_low": Row(
        Domain.CARRIER,
        "The uplink carries only {target}",
        "Check whether the site runs on its backup line; give the carrier the figure.",
    ),
    "path_mtu_black_hole": Row(
        Domain.CARRIER,
        "Packets of {target} vanish on the way without a word: small requests work, large transfers hang",
        "Ask the carrier for the MTU of the line; until then lower the MTU (or MSS clamping) on the router.",
    ),
    "internet_unreachable": Row(
        Domain.INTERNET, "The internet does not answer{others}", "Ask the carrier's internet desk."
    ),
    "datacentre_unreachable": Row(
        Domain.DATACENTRE,
        "Data centre {place} does not answer{others}",
        "Call the data centre: its edge firewall or its line.",
    ),
    ISOLATED: Row(
        Domain.SERVICE,
        "What lies beyond the gateway is cut off on purpose ({target})",
        "Nothing to repair: it is announced; ask whoever announced it when it ends.",
    ),
    "remote_policy_reject": Row(
        Domain.SERVICE, "A firewall ({responder}) refuses the way to {target}", "Ask the owner of that firewall."
    ),
    "remote_host_down": Row(
        Domain.SERVICE, "The host of {target} is down: {responder} cannot reach it", "Call the owner of the host."
    ),
    "remote_filtered_or_down": Row(
        Domain.SERVICE,
        "{target} is silent: a firewall drops it or the host is dead, which look the same from here",
        "Ask the owner of the host, then of the firewall.",
    ),
    "remote_service_down": Row(
        Domain.SERVICE, "The host of {target} answers, but nothing listens on its port", "Call the service's owner."
    ),
    "remote_port_filtered": Row(
        Domain.SERVICE,
        "The host of {target} answers, but this port of it is silent: a firewall drops it",
        "Ask the owner of the firewall before that host.",
    ),
    "captive_portal": Row(
        Domain.INTERNET,
        "A captive portal or proxy answers instead of {target}",
        "Log the site in with the provider, or take the probe out of the guest network.",
    ),
    "tls_certificate_invalid": Row(
        Domain.SERVICE, "The certificate of {target} is not valid", "Call the service's owner: renew the certificate."
    ),
    "remote_service_unresponsive": Row(
        Domain.SERVICE, "{target} accepts connections and then says nothing", "Call the service's owner."
    ),
    "remote_service_error": Row(Domain.SERVICE, "{target} answers with an error", "Call the service's owner."),
    "remote_service_slow": Row(
        Domain.SERVICE, "{target} answers too slowly ({place})", "Call the service's owner with the figures."
    ),
    "dns_resolver_down": Row(
        Domain.SERVICE, "The name server {target} is not running (its port is closed)", "Restart the name server."
    ),
    "dns_resolver_unreachable": Row(
        Domain.SERVICE, "The name server {target} does not answer", "Check the name server and the way to it."
    ),
    "dns_resolution_failure": Row(
        Domain.SERVICE, "The name server {target} cannot resolve names", "Check its forwarders and its zone."
    ),
    "dns_name_missing": Row(
        Domain.SERVICE, "The name asked of {target} does not exist", "Check the zone and the name in the config."
    ),
    "dns_wrong_answer": Row(
        Domain.SERVICE,
        "The name server {target} gives a wrong answer",
        "Compare with the zone; suspect a stray server.",
    ),
    "rogue_dhcp_server": Row(
        Domain.SITE,
        "A DHCP server that is not listed offers addresses ({place})",
        "Find it by its address or MAC in the switch and disconnect it; clients may be misled.",
    ),
    "dhcp_no_offer": Row(
        Domain.SITE,
        "No DHCP server offers an address",
        "Check the DHCP server, its pool and the relay of this subnet; running machines work until their lease ends.",
    ),
    "time_offset": Row(
        Domain.SERVICE,
        "The time server {target} is off or not synchronised ({place})",
        "Check that server's own source; sign-in fails from 300 s on.",
    ),
    "device_down": Row(
        Domain.DEVICE, "{target} is down: neither SNMP nor ping answers", "Check the device's power and its cable."
    ),
    "snmp_agent_unresponsive": Row(
        Domain.DEVICE, "The SNMP agent of {target} does not answer{others}", "Check the device's SNMP settings."
    ),
    **{name: Row(Domain.DEVICE, f"{words} ({{target}}: {{place}})", then) for name, words, then in DEVICE_WORDS},
    "probe_degraded": Row(
        Domain.PROBE, "This probe itself is impaired: {target}", "Run `siteprobe status` on it and mend what it names."
    ),
    "collector_unreachable": Row(
        Domain.SERVICE,
        "The central collector cannot be reached ({target}), while the path works",
        "Check the broker, its address and this probe's certificate; results are kept on disk.",
    ),
}

LINK_FAILURES = {
    Failure.LOCAL_LINK: "local_link_down",
    Failure.LOCAL_ADDRESS: "local_address_missing",
    Failure.LOCAL_ROUTE: "default_route_missing",
}
ADDRESS_FAILURES = LINK_FAILURES | {Failure.DUPLICATE_ADDRESS: "address_conflict"}
SERVICE_FAILURES = {
    Failure.REFUSED: "remote_service_down",
    Failure.UNREACHABLE: "remote_host_down",
    Failure.PROHIBITED: "remote_policy_reject",
    Failure.TIMEOUT: "remote_filtered_or_down",
    Failure.RESET: "remote_service_error",
    Failure.STALLED: "remote_service_unresponsive",
    Failure.TLS_EXPIRED: "tls_certificate_invalid",
    Failure.TLS_NOT_YET_VALID: "tls_certificate_invalid",
    Failure.TLS_UNTRUSTED: "tls_certificate_invalid",
    Failure.TLS_NAME: "tls_certificate_invalid",
    Failure.TLS_HANDSHAKE: "remote_service_error",
    Failure.HTTP_STATUS: "remote_service_error",
    Failure.HTTP_TEXT: "remote_service_error",
    Failure.PROTOCOL: "remote_service_error",
    Failure.AUTH: "remote_service_error",
    Failure.MISMATCH: "remote_service_error",
    Failure.CAPTIVE_PORTAL: "captive_portal",
}
DNS_FAILURES = {
    Failure.REFUSED: "dns_resolver_down",
    Failure.DNS_TIMEOUT: "dns_resolver_unreachable",
    Failure.UNREACHABLE: "dns_resolver_unreachable",
    Failure.DNS_SERVFAIL: "dns_resolution_failure",
    Failure.DNS_REFUSED: "dns_resolution_failure",
    Failure.DNS_NXDOMAIN: "dns_name_missing",
    Failure.DNS_MISMATCH: "dns_wrong_answer",
}
DHCP_FAILURES = {
    Failure.ROGUE: "rogue_dhcp_server",
    Failure.MISMATCH: "rogue_dhcp_server",
    Failure.NO_ANSWER: "dhcp_no_offer",
    Failure.TIMEOUT: "dhcp_no_offer",
}
REMOTE_FAILURES = DNS_FAILURES | SERVICE_FAILURES
"""A service that is asked by name can fail for want of the name too."""
TIME_FAILURES = REMOTE_FAILURES | {Failure.PROTOCOL: "time_offset", Failure.MISMATCH: "time_offset"}
DEVICE_FAILURES = dict.fromkeys(
    (Failure.TIMEOUT, Failure.REFUSED, Failure.AUTH, Failure.PROTOCOL, Failure.UNREACHABLE, Failure.MISMATCH),
    "snmp_agent_unresponsive",
)
