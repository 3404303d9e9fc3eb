"""SNMP to a device that cannot be reached: who says so is heard, instead of waiting for an answer."""

from __future__ import annotations

import time

import pytest

from tests.rigs.ask import ask_inside
from tests.rigs.netns import Net

KNOWN = "__import__('tests.unit.test_check_snmp', fromlist=['Known']).Known()"
SNMP = f"snmp.SnmpCheck(name='a', target='{{}}', community={KNOWN})"


@pytest.mark.parametrize("target", ["10.9.0.1", "fd09::1", "10.1.0.77"], ids=["no route", "no route 6", "no neighbour"])
def test_a_device_beyond_a_missing_route_or_gone_from_the_lan_is_unreachable_not_silent(target: str) -> None:
    with Net() as net:
        probe, router = net.add("probe"), net.add("router", router=True)
        net.wire(probe, "eth0", router, "near")
        net.address(probe, "eth0", "10.1.0.2/24", "fd01::2/64")
        net.address(router, "near", "10.1.0.1/24", "fd01::1/64")
        net.route(probe, "default", "via", "10.1.0.1")
        net.ip("-n", probe, "-6", "route", "add", "default", "via", "fd01::1")
        began = time.monotonic()
        found = ask_inside(probe, SNMP.format(target))
        assert (found["failure"], "neighbour" in found["detail"]) == ("unreachable", True), found
        assert time.monotonic() - began < 5.5
