"""scapy's layers, imported as the packet child imports them: nothing is left in anybody's home.

Import this before anything that imports scapy: it makes its cache while it is imported.
"""

from __future__ import annotations

import os

import pytest

from agent.packets.child import own_environment

with pytest.MonkeyPatch.context() as patch:
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        patch.delenv(name)
    patch.setenv("HOME", own_environment()["HOME"])
    from scapy.config import conf

    conf.route_autoload = conf.route6_autoload = False
    from scapy.contrib import cdp, lldp
    from scapy.layers import dhcp, l2

    conf.contribs["LLDP"].strict_mode_disable()

__all__ = ["cdp", "dhcp", "l2", "lldp"]
