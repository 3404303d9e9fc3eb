"""LLDP and CDP frames as a switch sends them, made by scapy's own layers: the agent reads them with its own code."""

from __future__ import annotations

from tests.rigs.quiet_scapy import cdp, l2, lldp

SWITCH_MAC = "02:00:00:00:0a:01"
BRIDGE = 0x04


def lldp_frame(
    *, name: str = "sw1", port: str = "Gi1/0/1", vlan: int | None = None, life: int = 120, capabilities: int = BRIDGE
) -> bytes:
    """Write an LLDP frame; `capabilities` are those switched on (IEEE 802.1AB-2016, table 8-4)."""
    parts = lldp.LLDPDUChassisID(subtype=4, id=SWITCH_MAC) / lldp.LLDPDUPortID(subtype=5, id=port.encode())
    parts = parts / lldp.LLDPDUTimeToLive(ttl=life) / lldp.LLDPDUSystemName(system_name=name.encode())
    on = capabilities.to_bytes(2)
    raw = bytes(parts) + bytes((7 << 1, 4)) + on + on
    if vlan is not None:
        raw += bytes.fromhex("fe060080c201") + vlan.to_bytes(2)
    return bytes(l2.Ether(src=SWITCH_MAC, dst="01:80:c2:00:00:0e", type=0x88CC)) + raw + b"\0\0"


def cdp_frame(*, name: str = "sw1", port: str = "Gi1/0/1", vlan: int | None = None, capabilities: int = 0x28) -> bytes:
    """Write a CDP frame."""
    messages = [
        cdp.CDPMsgDeviceID(val=name.encode()),
        cdp.CDPMsgPortID(iface=port.encode()),
        cdp.CDPMsgCapabilities(cap=capabilities),
    ]
    if vlan is not None:
        messages.append(cdp.CDPMsgNativeVLAN(vlan=vlan))
    head = l2.Dot3(src=SWITCH_MAC, dst="01:00:0c:cc:cc:cc")
    snap = l2.LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / l2.SNAP(OUI=0x0C, code=0x2000)
    return bytes(head / snap / cdp.CDPv2_HDR(msg=messages))
