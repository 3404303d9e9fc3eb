"""When the way works again, devices that were silent because of it are not left alone any longer."""

from __future__ import annotations

import random

from agent.checks import Toolbox
from agent.snmp.credentials import Credentials
from agent.snmp.device import Access, Device
from agent.snmp.session import Snmp


def test_pauses_of_silent_devices_end_when_the_way_is_back() -> None:
    tools = Toolbox()
    snmp = tools.get(Snmp)
    access = Access(object(), random.Random(1))  # type: ignore[arg-type]  # nobody is asked here
    device = snmp._devices.setdefault(("192.0.2.1", 161), Device())
    device.accesses[Credentials(version="2c", community="x")] = access
    for _ in range(4):
        access.silence.another(100.0)
    assert access.silence.left_s(101.0) > 30
    tools.reopen()
    assert access.silence.left_s(101.0) == 0
    access.silence.another(101.0)
    assert access.silence.left_s(102.0) > 100, "one that is still silent is left alone for longer"
