"""Which machine this is, so that a store copied to another one is noticed.

Only sources that any user may read: the same answer for the service and for root. The DMI UUID is
root's alone (mode 0400), so the permanent MAC stands in for it on a PC.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

BOARD_SERIAL = Path("/sys/firmware/devicetree/base/serial-number")
INTERFACES = Path("/sys/class/net")
MACHINE_ID = Path("/etc/machine-id")
PERMANENT = "0"  # addr_assign_type: the address that the maker gave the card


def machine_identity() -> str:
    """Give 16 hex digits that stay the same on this machine and differ on any other."""
    found = _read(BOARD_SERIAL) or _permanent_mac() or _read(MACHINE_ID) or "unknown"
    return hashlib.sha256(found.encode()).hexdigest()[:16]


def _permanent_mac() -> str:
    """Give the MAC of the first physical interface, by name; "" where there is none."""
    for interface in sorted(INTERFACES.glob("*")):
        if (interface / "device").exists() and _read(interface / "addr_assign_type") == PERMANENT:
            return _read(interface / "address")
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text().strip("\0\n ")
    except (OSError, UnicodeDecodeError):
        return ""
