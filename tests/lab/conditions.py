"""The lab's table: one line a condition. What is done, what must be said, what else may be said, within how long."""

from __future__ import annotations

from dataclasses import dataclass

from tests.lab.values import CISCO_FAN, ETHER, GEIST, IF, IFX, PRINTER, SYSTEM, UP_TICKS, UPS

HEALTHY = "healthy"
CENTRE, PROBE = "centre", "probe"


@dataclass(frozen=True)
class Condition:
    """One condition of the lab.

    `allowed` are headlines that are true as well; `seen_by` tells who can see it: the centre over MQTT, or only
    somebody at the probe while the fault lies between them. `also` must be named beside the headline. `before` is
    done before the agent starts: a fault during the start. A condition whose verdict is healthy is a look-alike.
    """

    name: str
    breaks: str
    verdict: str
    mends: str = ""
    allowed: tuple[str, ...] = ()
    within_s: float = 30.0
    seen_by: str = CENTRE
    also: str = ""
    domain: str = ""
    during_start: bool = False
    note: str = ""

    @property
    def is_look_alike(self) -> bool:
        """Whether nothing is wrong."""
        return self.verdict == HEALTHY


def drop(where: str, hook: str, rule: str) -> str:
    """Write the steps that drop packets at a place; `free(where)` takes it back."""
    return (
        f"{where}: nft add table inet lab; "
        f"{where}: nft add chain inet lab {hook} {{ type filter hook {hook} priority 0 ; }}; "
        f"{where}: nft add rule inet lab {hook} {rule}"
    )


def free(where: str) -> str:
    return f"{where}: nft delete table inet lab"


def some(percent: int) -> str:
    return f"numgen random mod 100 < {percent} drop"


BRIDGE_LOSS = (
    "switch: nft add table bridge lab; "
    "switch: nft add chain bridge lab f { type filter hook forward priority 0 ; }; "
    f"switch: nft add rule bridge lab f ip protocol icmp {some(20)}; "
    f"switch: nft add rule bridge lab f meta l4proto tcp {some(20)}; "
    f"switch: nft add rule bridge lab f udp dport {{ 53, 123, 161 }} {some(20)}"
)
PROBE_UP = "probe: ip link set eth0 up; probe: ip route replace default via 10.20.0.1"
WAN_BACK = "gateway: ip link set wan up; gateway: ip route replace default via 100.64.0.1"
SERVICE_BACK = "service: ip link set eth0 up; service: ip route replace default via 198.51.100.17"
TO_SERVICE = "ip daddr 198.51.100.20 drop"
PORT_DOWN = f"devices: snmp core-switch {IF}.8.2=int:2 {IF}.9.2=ticks:{UP_TICKS}"
ON_BATTERY = f"devices: snmp comms-ups {UPS}.4.1.0=int:5 {UPS}.2.2.0=int:60 {UPS}.2.3.0=int:22"
ON_MAINS = f"devices: snmp comms-ups {UPS}.4.1.0=int:3 {UPS}.2.1.0=int:2 {UPS}.2.2.0=int:0 {UPS}.2.3.0=int:45"

# One line a condition: a table is read across.
# fmt: off
PATH = (
    Condition("interface switched off", "probe: ip link set eth0 down", "local_interface_admin_down", PROBE_UP, within_s=5, seen_by=PROBE),
    Condition("cable out", "switch: ip link set to-probe down", "local_link_down", "switch: ip link set to-probe up", within_s=5, seen_by=PROBE),
    Condition("address lost", "probe: ip address flush dev eth0", "local_address_missing", "probe: ip address add 10.20.0.10/24 dev eth0; probe: ip route replace default via 10.20.0.1", within_s=15, seen_by=PROBE),
    Condition("own address taken", "peer: ip address add 10.20.0.10/24 dev eth0", "address_conflict", "peer: ip address del 10.20.0.10/24 dev eth0; peer: ip neigh flush all; gateway: ip neigh flush all; devices: ip neigh flush all", seen_by=PROBE),
    Condition("gateway address taken", "peer: ip address add 10.20.0.1/24 dev eth0", "gateway_address_conflict", "peer: ip address del 10.20.0.1/24 dev eth0; probe: ip neigh flush all; peer: ip neigh flush all; devices: ip neigh flush all", seen_by=PROBE),
    Condition("port in the wrong VLAN", "switch: ip link set to-probe nomaster", "lan_isolated", "switch: ip link set to-probe master br0", seen_by=PROBE),
    Condition("gateway dead", "gateway: ip link set lan down", "lan_gateway_down", "gateway: ip link set lan up", seen_by=PROBE),
    Condition("default route gone", "probe: ip route del default", "default_route_missing", "probe: ip route add default via 10.20.0.1", within_s=15, seen_by=PROBE),
    Condition("LAN loses 20 %", BRIDGE_LOSS, "lan_degraded", "switch: nft delete table bridge lab"),
    Condition("uplink cut", "gateway: ip link set wan down", "wan_uplink_down", WAN_BACK, seen_by=PROBE),
    Condition("first hop silent", drop('carrier', 'prerouting', 'drop'), "wan_uplink_unresponsive", free('carrier'), seen_by=PROBE),
    Condition("route out missing", "gateway: ip route replace unreachable default", "wan_route_missing", "gateway: ip route replace default via 100.64.0.1", seen_by=PROBE),
    Condition("carrier's core gone", "carrier: ip link set to-dc-a down; carrier: ip link set to-dc-b down; carrier: ip link set to-internet down", "carrier_path_down", "carrier: ip link set to-dc-a up; carrier: ip link set to-dc-b up; carrier: ip link set to-internet up; carrier: ip route replace 198.51.100.0/25 via 100.64.1.2; carrier: ip route replace 198.51.100.128/25 via 100.64.2.2", seen_by=PROBE),
    Condition("WAN loses 20 %", drop('gateway', 'forward', some(20)), "wan_degraded", free('gateway')),
    Condition("WAN loses 20 % on the way back", drop('gateway', 'forward', f'iifname wan {some(20)}'), "wan_degraded", free('gateway')),
    Condition("large packets vanish", drop('carrier', 'forward', 'ip length > 1400 drop'), "path_mtu_black_hole", free('carrier'), within_s=60, note='the size is measured every 20 s'),
    Condition("slow uplink", "gateway: tc qdisc add dev wan root tbf rate 256kbit burst 2000 limit 15000", "wan_capacity_low", "gateway: tc qdisc del dev wan root", within_s=75, note='the capacity is measured every 20 s'),
    Condition("internet gone", "carrier: ip link set to-internet down", "internet_unreachable", "carrier: ip link set to-internet up"),
    Condition("data centre B cut off", "carrier: ip link set to-dc-b down", "datacentre_unreachable", "carrier: ip link set to-dc-b up; carrier: ip route replace 198.51.100.128/25 via 100.64.2.2"),
    Condition("data centre A cut off", "carrier: ip link set to-dc-a down", "datacentre_unreachable", "carrier: ip link set to-dc-a up; carrier: ip route replace 198.51.100.0/25 via 100.64.1.2", seen_by=PROBE),
)
REMOTE = (
    Condition("edge does not forward to the service", "dc-a: ip route add blackhole 198.51.100.20/32", "remote_filtered_or_down", "dc-a: ip route del blackhole 198.51.100.20/32", allowed=('remote_host_down', 'remote_policy_reject')),
    Condition("firewall refuses", drop('dc-a', 'forward', 'ip daddr 198.51.100.20 reject with icmp type admin-prohibited'), "remote_policy_reject", free('dc-a')),
    Condition("isolation was announced", 'probe: suppress isolation cyber; ' + drop('dc-a', 'forward', 'ip daddr 198.51.100.20 reject with icmp type admin-prohibited'), "isolated_by_policy", free('dc-a'), seen_by=CENTRE),
    Condition("service host dead", "service: ip link set eth0 down", "remote_host_down", SERVICE_BACK),
    Condition("firewall drops", drop('dc-a', 'forward', TO_SERVICE), "remote_filtered_or_down", free('dc-a')),
    Condition("service stopped", "service: stop web", "remote_service_down", "service: start web"),
    Condition("one port filtered", drop('dc-a', 'forward', 'ip daddr 198.51.100.20 tcp dport 443 drop'), "remote_port_filtered", free('dc-a')),
    Condition("certificate expired", "service: mode web expired", "tls_certificate_invalid", "service: mode web"),
    Condition("service accepts and says nothing", "service: mode web silent", "remote_service_unresponsive", "service: mode web", within_s=35),
    Condition("service answers 503", "service: mode web error", "remote_service_error", "service: mode web"),
    Condition("service slow", "service: mode web slow", "remote_service_slow", "service: mode web"),
    Condition("captive portal", "internet: mode page portal", "captive_portal", "internet: mode page"),
    Condition("on-site server stopped", "peer: stop ward", "remote_service_down", "peer: start ward", domain='site'),
    Condition("time server off by 5 s", "service: mode time offset 5", "time_offset", "service: mode time"),
    Condition("time server not synchronised", "service: mode time unsynchronised", "time_offset", "service: mode time"),
    Condition("broker stopped", "broker: stop collector", "collector_unreachable", "broker: start collector", within_s=35, seen_by=PROBE, note='20 s by contract'),
)
LOCAL = (
    Condition("name server stopped", "peer: stop names", "dns_resolver_down", "peer: start names"),
    Condition("name server silent", "peer: mode names silent", "dns_resolver_unreachable", "peer: mode names"),
    Condition("name server fails", "peer: mode names servfail", "dns_resolution_failure", "peer: mode names"),
    Condition("name gone", "peer: mode names nxdomain", "dns_name_missing", "peer: mode names"),
    Condition("name server lies", "peer: mode names wrong", "dns_wrong_answer", "peer: mode names", allowed=('remote_filtered_or_down',)),
    Condition("stray DHCP server", "devices: launch rogue; probe: restart", "rogue_dhcp_server", "devices: stop rogue; probe: restart", within_s=40, note='DHCP is asked at the start, and every 10 minutes at the most'),
    Condition("no DHCP server", "peer: stop dhcp; probe: restart", "dhcp_no_offer", "peer: start dhcp; probe: restart", within_s=40, note='as above'),
    Condition("watched port down", PORT_DOWN, "switch_port_down", f"devices: snmp core-switch {IF}.8.2=int:1"),
    Condition("port shut by the switch", f"{PORT_DOWN} 1.3.6.1.4.1.9.9.548.1.3.1.1.2.2.0=int:2", "switch_port_err_disabled", f"devices: snmp core-switch {IF}.8.2=int:1 1.3.6.1.4.1.9.9.548.1.3.1.1.2.2.0=-"),
    Condition("switch restarted", f"devices: snmp core-switch {SYSTEM}.3.0=ticks:500 1.3.6.1.6.3.10.2.1.2.0=int:8 1.3.6.1.6.3.10.2.1.3.0=int:5", "device_rebooted", allowed=(HEALTHY,), within_s=30, note='said until the next polls find it steady'),
    Condition("port errors", f"devices: snmp core-switch {IF}.14.1=rising:900 {ETHER}.3.1=rising:900", "port_errors_high", f"devices: snmp core-switch {IF}.14.1=counter:1000000 {ETHER}.3.1=counter:1000000", allowed=('duplex_mismatch',)),
    Condition("duplex mismatch", f"devices: snmp core-switch {ETHER}.8.1=rising:50 {ETHER}.19.1=int:2", "duplex_mismatch", f"devices: snmp core-switch {ETHER}.8.1=counter:1000000 {ETHER}.19.1=int:3", allowed=('port_errors_high',)),
    Condition("spanning tree unrest", "devices: snmp core-switch 1.3.6.1.2.1.17.2.4.0=counter:25 1.3.6.1.2.1.17.2.3.0=ticks:100", "stp_instability"),
    Condition("PoE fault", "devices: snmp core-switch 1.3.6.1.2.1.105.1.1.1.6.1.2=int:4", "poe_fault", "devices: snmp core-switch 1.3.6.1.2.1.105.1.1.1.6.1.2=int:3"),
    Condition("UPS on battery", ON_BATTERY, "ups_on_battery", ON_MAINS),
    Condition("UPS nearly empty", f"{ON_BATTERY} {UPS}.2.1.0=int:3 {UPS}.2.3.0=int:4", "ups_battery_low", ON_MAINS),
    Condition("room too hot", f"devices: snmp room {GEIST}.2.1.5.1=int:345", "temperature_high", f"devices: snmp room {GEIST}.2.1.5.1=int:215"),
    Condition("fan of the switch dead", f"devices: snmp core-switch {CISCO_FAN}.3.1=int:6", "device_fault", f"devices: snmp core-switch {CISCO_FAN}.3.1=int:1"),
    Condition("printer jammed", f"devices: snmp printer {PRINTER}.5.1.2.1=hex:04", "printer_fault", f"devices: snmp printer {PRINTER}.5.1.2.1=hex:00"),
    Condition("SNMP agent of the UPS dead", "devices: snmp comms-ups silent", "snmp_agent_unresponsive", within_s=45, note="3 s and one retry a poll; a silent device is asked again after 1 to 15 minutes only"),
    Condition("UPS dead", drop('devices', 'input', 'ip daddr 10.20.0.5 drop'), "device_down", free('devices'), allowed=("snmp_agent_unresponsive",), within_s=45, note='as above'),
    Condition("store not writable", "probe: fill", "probe_degraded", "probe: empty"),
)
LOOK_ALIKES = (
    Condition("gateway filters ping", drop('gateway', 'input', 'icmp type echo-request drop'), HEALTHY, free('gateway')),
    Condition("smaller packets, honestly", "carrier: ip link set to-dc-b mtu 1400; dc-b: ip link set wan mtu 1400", HEALTHY),
    Condition("one lost packet", drop('gateway', 'input', 'icmp type echo-request quota until 84 bytes drop'), HEALTHY, free('gateway')),
    Condition("probe restarts", "probe: restart", HEALTHY, allowed=('starting',)),
    Condition("one anchor down, the other up", "internet: ip address del 203.0.113.99/32 dev lo", HEALTHY),
    Condition("names slow but right", "peer: mode names slow", HEALTHY, "peer: mode names"),
    Condition("toner low", f"devices: snmp printer {PRINTER}.5.1.2.1=hex:20", HEALTHY, f"devices: snmp printer {PRINTER}.5.1.2.1=hex:00"),
    Condition("497 days of uptime", f"devices: snmp core-switch {SYSTEM}.3.0=ticks:4294960000; probe: wait 15; devices: snmp core-switch {SYSTEM}.3.0=ticks:900", HEALTHY),
    Condition("counter begins anew", f"devices: snmp core-switch {IFX}.6.1=counter64:5 {IFX}.10.1=counter64:5 {IFX}.19.1=ticks:{UP_TICKS}", HEALTHY),
)
STORIES = (
    Condition("24 January 2018: the data centres' firewall drops after a change", drop('dc-a', 'prerouting', 'drop') + '; ' + drop('dc-b', 'prerouting', 'drop'), "datacentre_unreachable", free('dc-a') + '; ' + free('dc-b'), seen_by=PROBE),
    Condition("24 January 2018: the LAN of one site fails", "switch: ip link set br0 down; switch: ip link set to-gateway down; switch: ip link set to-peer down; switch: ip link set to-devices down", "lan_isolated", "switch: ip link set to-gateway up; switch: ip link set to-peer up; switch: ip link set to-devices up; switch: ip link set br0 up; gateway: ip link set lan up", seen_by=PROBE),
    Condition("uplink cut while a certificate is expired", "service: mode web expired; probe: wait 25; gateway: ip link set wan down", "wan_uplink_down", f"service: mode web; {WAN_BACK}", allowed=('tls_certificate_invalid',), within_s=60, seen_by=PROBE),
    Condition("UPS on battery, then switch gone", f"{ON_BATTERY}; probe: wait 15; devices: snmp core-switch silent", "ups_on_battery", also='snmp_agent_unresponsive', within_s=45, note='a silent device is asked again after 1 to 15 minutes only'),
    Condition("UPS on battery, then uplink cut", f"{ON_BATTERY}; probe: wait 15; gateway: ip link set wan down", "wan_uplink_down", f"{ON_MAINS}; {WAN_BACK}", also='ups_on_battery', allowed=('ups_on_battery',), within_s=60, seen_by=PROBE),
    Condition("uplink cut during the start", "gateway: ip link set wan down", "wan_uplink_down", WAN_BACK, during_start=True, within_s=40, seen_by=PROBE),
    Condition("service stopped during the start", "service: stop web", "remote_service_down", "service: start web", during_start=True, within_s=40),
    Condition("gateway dead, then the service too", "gateway: ip link set lan down; probe: wait 20; service: stop web", "lan_gateway_down", "gateway: ip link set lan up; service: start web", within_s=50, seen_by=PROBE),
)
# fmt: on
CONDITIONS = (*PATH, *REMOTE, *LOCAL, *LOOK_ALIKES, *STORIES)
