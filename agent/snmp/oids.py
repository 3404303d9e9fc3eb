"""The objects that are asked, as numbers (field.md 2.3): SNMPv2-MIB, SNMP-FRAMEWORK-MIB, IF-MIB."""

from __future__ import annotations

from types import MappingProxyType

SYS_OBJECT_ID = "1.3.6.1.2.1.1.2.0"
SYS_UP_TIME = "1.3.6.1.2.1.1.3.0"
SYS_CONTACT = "1.3.6.1.2.1.1.4.0"
SYS_NAME = "1.3.6.1.2.1.1.5.0"
SYS_LOCATION = "1.3.6.1.2.1.1.6.0"
ENGINE_BOOTS = "1.3.6.1.6.3.10.2.1.2.0"

IF_NAME = "1.3.6.1.2.1.31.1.1.1.1"
IF_ALIAS = "1.3.6.1.2.1.31.1.1.1.18"
IF_ADMIN_STATUS = "1.3.6.1.2.1.2.2.1.7"
IF_OPER_STATUS = "1.3.6.1.2.1.2.2.1.8"
IF_IN_DISCARDS = "1.3.6.1.2.1.2.2.1.13"
IF_IN_ERRORS = "1.3.6.1.2.1.2.2.1.14"
IF_OUT_DISCARDS = "1.3.6.1.2.1.2.2.1.19"
IF_OUT_ERRORS = "1.3.6.1.2.1.2.2.1.20"
IF_HC_IN_OCTETS = "1.3.6.1.2.1.31.1.1.1.6"
IF_HC_OUT_OCTETS = "1.3.6.1.2.1.31.1.1.1.10"
IF_HIGH_SPEED = "1.3.6.1.2.1.31.1.1.1.15"
IF_DISCONTINUITY = "1.3.6.1.2.1.31.1.1.1.19"
IF_HC_IN_UNICAST = "1.3.6.1.2.1.31.1.1.1.7"
IF_LAST_CHANGE = "1.3.6.1.2.1.2.2.1.9"
IF_FCS_ERRORS = "1.3.6.1.2.1.10.7.2.1.3"
IF_LATE_COLLISIONS = "1.3.6.1.2.1.10.7.2.1.8"
IF_DUPLEX = "1.3.6.1.2.1.10.7.2.1.19"
IF_DESCR = "1.3.6.1.2.1.2.2.1.2"
IF_SPEED = "1.3.6.1.2.1.2.2.1.5"
IF_IN_OCTETS = "1.3.6.1.2.1.2.2.1.10"
IF_OUT_OCTETS = "1.3.6.1.2.1.2.2.1.16"

LLDP_LAST_CHANGE = "1.0.8802.1.1.2.1.2.1.0"
LLDP_CHASSIS_ID = "1.0.8802.1.1.2.1.4.1.1.5"
LLDP_LOCAL_PORT_ID = "1.0.8802.1.1.2.1.3.7.1.3"
LLDP_LOCAL_PORT_DESC = "1.0.8802.1.1.2.1.3.7.1.4"

TICKS_PER_SECOND = 100
"""TimeTicks are hundredths of a second."""

ADMIN_WORDS = MappingProxyType({1: "up", 2: "down", 3: "testing"})
OPER_WORDS = MappingProxyType(
    {
        1: "up",
        2: "down",
        3: "testing",
        4: "unknown",
        5: "dormant",
        6: "not_present",
        7: "lower_layer_down",
    }
)

NEVER_WALKED = MappingProxyType(
    {
        "1.3.6.1.2.1.3.1": "ARP",
        "1.3.6.1.2.1.4.22": "ARP",
        "1.3.6.1.2.1.4.35": "ARP",
        "1.3.6.1.2.1.4.21": "routing",
        "1.3.6.1.2.1.4.24": "routing",
        "1.3.6.1.2.1.17.4.3": "forwarding",
        "1.3.6.1.2.1.17.7.1.2": "forwarding",
    }
)
"""Tables that are as long as the network is large (field.md 3.2); single entries of them may be read."""
