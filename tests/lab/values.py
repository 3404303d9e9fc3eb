"""What the devices of the lab say over SNMP while all is well. OIDs and units: field.md 2.3."""

from __future__ import annotations

from typing import Any

Values = dict[str, list[Any]]
SYSTEM, IF, IFX, ETHER = "1.3.6.1.2.1.1", "1.3.6.1.2.1.2.2.1", "1.3.6.1.2.1.31.1.1.1", "1.3.6.1.2.1.10.7.2.1"
CISCO, UPS, GEIST, PRINTER = "1.3.6.1.4.1.9.1.1208", "1.3.6.1.2.1.33.1", "1.3.6.1.4.1.21239.5.1", "1.3.6.1.2.1.25.3"
CISCO_FAN = "1.3.6.1.4.1.9.9.13.1.4.1"
PORTS = 3
UP_TICKS = 8_640_000


def system(name: str, object_id: str, description: str) -> Values:
    """The system group, and the boots of the SNMP engine."""
    return {
        f"{SYSTEM}.1.0": ["text", description],
        f"{SYSTEM}.2.0": ["oid", object_id],
        f"{SYSTEM}.3.0": ["ticks", UP_TICKS],
        f"{SYSTEM}.5.0": ["text", name],
        "1.3.6.1.6.3.10.2.1.2.0": ["int", 7],
        "1.3.6.1.6.3.10.2.1.3.0": ["int", UP_TICKS // 100],
    }


def port(index: int) -> Values:
    """One port of a switch, up at 1 Gbit/s, without errors."""
    columns: Values = {
        f"{IF}.1": ["int", index],
        f"{IF}.2": ["text", f"GigabitEthernet1/0/{index}"],
        f"{IF}.3": ["int", 6],
        f"{IF}.5": ["gauge", 1_000_000_000],
        f"{IF}.7": ["int", 1],
        f"{IF}.8": ["int", 1],
        f"{IF}.9": ["ticks", 100],
        f"{IFX}.1": ["text", f"Gi1/0/{index}"],
        f"{IFX}.15": ["gauge", 1000],
        f"{IFX}.18": ["text", ""],
        f"{IFX}.19": ["ticks", 0],
        f"{ETHER}.19": ["int", 3],
    }
    columns |= {f"{IF}.{column}": ["counter", 1000] for column in (10, 11, 13, 14, 16, 17, 19, 20)}
    columns |= {f"{IFX}.{column}": ["counter64", 1_000_000] for column in (6, 7, 8, 9, 10, 11, 12, 13)}
    columns |= {f"{ETHER}.{column}": ["counter", 0] for column in (2, 3, 4, 8, 9, 10, 11, 13, 16, 18)}
    return {f"{oid}.{index}": value for oid, value in columns.items()}


def switch() -> Values:
    """A Cisco access switch with a few ports, spanning tree, PoE, temperature, a fan."""
    values = system("core-switch", CISCO, "Cisco IOS Software, C2960X")
    values["1.3.6.1.2.1.2.1.0"] = ["int", PORTS]
    for index in range(1, PORTS + 1):
        values |= port(index)
        values[f"1.3.6.1.2.1.105.1.1.1.6.1.{index}"] = ["int", 3]
        values[f"1.3.6.1.2.1.105.1.1.1.3.1.{index}"] = ["int", 1]
    values |= {
        "1.3.6.1.2.1.17.2.3.0": ["ticks", 1_000_000],
        "1.3.6.1.2.1.17.2.4.0": ["counter", 5],
        "1.3.6.1.2.1.17.2.5.0": ["hex", "80000011223344"],
        "1.3.6.1.2.1.17.2.7.0": ["int", 1],
        "1.3.6.1.2.1.105.1.3.1.1.2.1": ["gauge", 370],
        "1.3.6.1.2.1.105.1.3.1.1.3.1": ["int", 1],
        "1.3.6.1.2.1.105.1.3.1.1.4.1": ["gauge", 60],
        "1.3.6.1.4.1.9.9.13.1.3.1.2.1": ["text", "inlet"],
        "1.3.6.1.4.1.9.9.13.1.3.1.3.1": ["gauge", 24],
        "1.3.6.1.4.1.9.9.13.1.3.1.4.1": ["int", 60],
        "1.3.6.1.4.1.9.9.13.1.3.1.6.1": ["int", 1],
        f"{CISCO_FAN}.2.1": ["text", "Fan 1"],
        f"{CISCO_FAN}.3.1": ["int", 1],
    }
    return values


def ups() -> Values:
    """A UPS by RFC 1628, on mains, full."""
    return system("comms-ups", "1.3.6.1.2.1.33", "UPS") | {
        f"{UPS}.1.2.0": ["text", "UPS 1500"],
        f"{UPS}.2.1.0": ["int", 2],
        f"{UPS}.2.2.0": ["int", 0],
        f"{UPS}.2.3.0": ["int", 45],
        f"{UPS}.2.4.0": ["int", 100],
        f"{UPS}.2.5.0": ["int", 540],
        f"{UPS}.2.7.0": ["int", 25],
        f"{UPS}.3.1.0": ["counter", 0],
        f"{UPS}.4.1.0": ["int", 3],
        f"{UPS}.4.4.1.5.1": ["int", 30],
        f"{UPS}.6.1.0": ["gauge", 0],
    }


def room() -> Values:
    """A Geist sensor in the comms room: 21.5 degrees, in tenths of a degree Celsius."""
    return system("room", "1.3.6.1.4.1.21239.42.1.32", "Watchdog 15") | {
        f"{GEIST}.1.7.0": ["int", 1],
        f"{GEIST}.2.1.3.1": ["text", "comms room"],
        f"{GEIST}.2.1.4.1": ["int", 1],
        f"{GEIST}.2.1.5.1": ["int", 215],
        f"{GEIST}.2.1.6.1": ["int", 40],
    }


def printer() -> Values:
    """A printer, idle, with toner."""
    return system("printer", "1.3.6.1.4.1.11.2.3.9.1", "HP ETHERNET MULTI-ENVIRONMENT") | {
        f"{PRINTER}.2.1.2.1": ["oid", "1.3.6.1.2.1.25.3.1.5"],
        f"{PRINTER}.2.1.3.1": ["text", "HP LaserJet"],
        f"{PRINTER}.2.1.5.1": ["int", 2],
        f"{PRINTER}.5.1.1.1": ["int", 3],
        f"{PRINTER}.5.1.2.1": ["hex", "00"],
        "1.3.6.1.2.1.43.11.1.1.6.1.1": ["text", "black toner"],
        "1.3.6.1.2.1.43.11.1.1.8.1.1": ["int", 100],
        "1.3.6.1.2.1.43.11.1.1.9.1.1": ["int", 60],
    }


DEVICES = {"core-switch": switch(), "comms-ups": ups(), "room": room(), "printer": printer()}
