"""SNMP notifications: who may send them, what becomes of them, and what a flood costs."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.config import warnings
from agent.messages import EVENT_KINDS
from agent.snmp import ber, envelope, message, notices
from agent.snmp.credentials import Credentials
from agent.snmp.traps import Judge, Sender
from agent.trapping import _why
from tests.rigs.trapping import Rig, listening, read

SWITCH = "[{name: sw, type: snmp, target: 127.0.0.1, community: canary-public}]"
LINK_DOWN = "1.3.6.1.6.3.1.1.5.3"
UPS = "1.3.6.1.2.1.33.2"


def oid(text: str) -> bytes:
    return ber.tlv(ber.OID, ber.oid_bytes(text))


def octets(text: str) -> bytes:
    return ber.tlv(ber.OCTETS, text.encode())


def notification(
    name: str, *bindings: tuple[str, bytes], community: str = "canary-public", kind: int = message.TRAP_V2
) -> bytes:
    pairs = [(message.SYS_UP_TIME, b"\x43\x01\x05"), (message.SNMP_TRAP_OID, oid(name)), *bindings]
    listed = [ber.tlv(ber.SEQUENCE, oid(key), value) for key, value in pairs]
    pdu = ber.tlv(kind, ber.number(77), ber.number(0), ber.number(0), ber.tlv(ber.SEQUENCE, *listed))
    return ber.tlv(ber.SEQUENCE, ber.number(1), octets(community), pdu)


def play(config: Any, scene: Callable[[Rig], Awaitable[None]]) -> Rig:
    async def go() -> Rig:
        async with listening(config) as rig:
            await scene(rig)
            return rig

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("name", "bindings", "kind", "words"),
    [
        (LINK_DOWN, [(f"{notices.IF_INDEX}.7", ber.number(7))], "trap_link_down", "port 7 went down"),
        (LINK_DOWN, [(f"{notices.IF_DESCR}.7", octets("Gi1/0/7"))], "trap_link_down", "port Gi1/0/7 went down"),
        (LINK_DOWN, [], "trap_link_down", "a port went down"),
        ("1.3.6.1.6.3.1.1.5.4", [(f"{notices.IF_NAME}.7", octets("A7\n"))], "trap_link_up", "port A7 came up"),
        ("1.3.6.1.6.3.1.1.5.1", [], "trap_started", "the device started (coldStart)"),
        ("1.3.6.1.6.3.1.1.5.2", [], "trap_started", "the device's SNMP agent started again (warmStart)"),
        (
            "1.3.6.1.6.3.1.1.5.5",
            [(f"{notices.AUTH_ADDRESS}.0", b"\x40\x04\x0a\x00\x00\x09")],
            "trap_authentication_failure",
            "somebody asked the device with a wrong community or key, from 10.0.0.9",
        ),
        (
            f"{UPS}.0.1",
            [(f"{notices.MINUTES_LEFT}.0", ber.number(22))],
            "trap_on_battery",
            "the UPS runs on battery, about 22 min left",
        ),
        (f"{UPS}.1", [], "trap_on_battery", "the UPS runs on battery"),
        (
            f"{UPS}.3",
            [(f"{notices.ALARM_TEXT}.1", oid("1.3.6.1.2.1.33.1.6.3.3"))],
            "trap_battery_low",
            "the battery of the UPS is low",
        ),
        (
            f"{UPS}.4",
            [(f"{notices.ALARM_TEXT}.1", oid("1.3.6.1.2.1.33.1.6.3.2"))],
            "trap_on_mains",
            "the UPS runs on mains power again",
        ),
        ("1.3.6.1.4.1.318.0.5", [], "trap_on_battery", "the UPS runs on battery"),
        ("1.3.6.1.4.1.318.0.9", [], "trap_on_mains", "the UPS runs on mains power again"),
    ],
)
def test_what_known_notifications_say(name: str, bindings: list[tuple[str, bytes]], kind: str, words: str) -> None:
    found = notices.read(message.parse(notification(name, *bindings)).bindings)
    assert found == notices.Notice(kind, words)
    assert kind in EVENT_KINDS


@pytest.mark.parametrize("name", ["1.3.6.1.4.1.99.0.1", f"{UPS}.3", "1.3"])
def test_what_we_do_not_know_is_no_event(name: str) -> None:
    assert notices.read(message.parse(notification(name)).bindings) is None
    assert notices.read([]) is None


def test_a_notification_is_an_event_at_once_and_the_device_is_asked(tmp_path: Path) -> None:
    async def scene(rig: Rig) -> None:
        rig.send(notification(LINK_DOWN, (f"{notices.IF_INDEX}.7", ber.number(7))))
        await rig.until(lambda: rig.noted.asked == ["sw"])

    rig = play(read(tmp_path, SWITCH), scene)
    assert [dict(record.fields) for record in rig.noted.events] == [
        {
            "check": "sw",
            "layer": "device",
            "target": "127.0.0.1",
            "address": "127.0.0.1",
            "kind": "trap_link_down",
            "detail": "port 7 went down",
        }
    ]


def test_strangers_and_wrong_communities_are_counted_and_not_trusted(tmp_path: Path) -> None:
    async def scene(rig: Rig) -> None:
        for _ in range(3):
            rig.send(notification(LINK_DOWN), source="127.0.0.9")
        rig.send(notification(LINK_DOWN, community="canary-guess"))
        rig.send(notification(LINK_DOWN)[:-2])
        rig.send(notification(LINK_DOWN, kind=0xA0))
        rig.send(notification("1.3.6.1.4.1.99.0.1"))
        await rig.until(lambda: sum(rig.trapping.judge.dropped.values()) == 7)
        rig.trapping.summary()
        rig.trapping.summary()

    rig = play(read(tmp_path, SWITCH), scene)
    assert (rig.kinds(), rig.noted.asked) == (["traps_dropped"], [])
    detail = str(rig.noted.events[0].fields["detail"])
    assert detail == (
        "SNMP notifications not taken: 3 from addresses of no snmp check (the last 127.0.0.9), "
        "1 with a wrong community, user, key or level, 2 that were no readable notification"
    )


def test_an_inform_is_answered(tmp_path: Path) -> None:
    async def scene(rig: Rig) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
            device.setblocking(False)
            device.bind(("127.0.0.1", 0))
            device.sendto(notification(LINK_DOWN, kind=message.INFORM), ("127.0.0.1", rig.port))
            answer = message.parse(await asyncio.wait_for(loop.sock_recv(device, 9000), 20))
            assert (answer.kind, answer.request, answer.status) == (message.RESPONSE, 77, 0)
        await rig.until(lambda: rig.kinds() == ["trap_link_down"])

    play(read(tmp_path, SWITCH), scene)


def test_a_storm_of_notifications_becomes_few_events_and_questions(tmp_path: Path) -> None:
    async def scene(rig: Rig) -> None:
        for _ in range(100):
            rig.send(notification(LINK_DOWN))
        await rig.until(lambda: rig.trapping.judge.dropped["too_fast"] > 0 and bool(rig.noted.asked))
        await rig.summary_until("that came too fast")

    rig = play(read(tmp_path, SWITCH), scene)
    assert 20 <= rig.kinds().count("trap_link_down") < 40
    assert rig.noted.asked == ["sw"]


def test_a_flood_is_read_slowly_and_costs_no_memory(tmp_path: Path) -> None:
    async def scene(rig: Rig) -> None:
        cpu_s, began = time.process_time(), time.monotonic()
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        flood = await asyncio.create_subprocess_exec("python3", "-c", FLOOD, str(rig.port))
        await flood.wait()
        took_s = time.monotonic() - began
        print(f"CPU {(time.process_time() - cpu_s) / took_s:.1%} of one core during the flood")
        assert time.process_time() - cpu_s < took_s / 2
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss < 65_536  # kB; the flood is ten times that
        assert rig.trapping.judge.dropped["unknown"] < 1000 * took_s

    play(read(tmp_path, SWITCH), scene)


FLOOD = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.9", 0))
end = time.monotonic() + 1.0
while time.monotonic() < end:
    s.sendto(b"x" * 1200, ("127.0.0.1", int(sys.argv[1])))
"""


def test_a_port_that_cannot_be_had_is_told_once_and_taken_when_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.trapping.LOOK_S", 0.05)

    async def go() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            rig = Rig(read(tmp_path, SWITCH, other.getsockname()[1]))
            task = asyncio.ensure_future(rig.trapping.run())
            await rig.until(lambda: bool(rig.noted.events))
            await asyncio.sleep(0.3)
        await rig.until(lambda: rig.trapping.open)
        assert rig.kinds() == ["traps_off"]
        assert "another program listens there" in str(rig.noted.events[0].fields["detail"])
        rig.listen(None)
        await rig.until(lambda: not rig.trapping.open)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(go())


def test_the_sentence_for_each_reason() -> None:
    place = ("0.0.0.0", 162)
    assert "CAP_NET_BIND_SERVICE" in _why(PermissionError(errno.EACCES, "no"), place)
    assert "does not have that address" in _why(OSError(errno.EADDRNOTAVAIL, "no"), place)
    assert _why(OSError(errno.ENOBUFS, "No buffer space"), place).endswith("No buffer space")


def test_a_listener_without_a_device_is_warned_of(tmp_path: Path) -> None:
    def warned(checks_yaml: str) -> list[str]:
        return [p.path for p in warnings(read(tmp_path, checks_yaml)) if p.path.startswith("traps")]

    assert warned("[]") == ["traps.listen"]
    assert warned(SWITCH) == []


def test_weak_protection_of_devices_is_warned_of_once_a_kind(tmp_path: Path) -> None:
    keys = "auth_key: canary-key-1, priv_key: canary-key-2"
    lines = [f"{{name: s{n}, type: snmp, target: 127.0.0.1, community: canary-public}}" for n in range(5)]
    lines.append(
        f"{{name: old, type: snmp, target: 127.0.0.1, user: u, {keys}, auth_protocol: MD5, priv_protocol: DES}}"
    )
    lines.append("{name: open, type: snmp, target: 127.0.0.1, user: u}")
    lines.append(f"{{name: good, type: snmp, target: 127.0.0.1, user: u, {keys}}}")
    found = [str(problem) for problem in warnings(read(tmp_path, f"[{', '.join(lines)}]"))]
    weak = [line for line in found if "snmp check" in line and "no better" in line]
    assert len(weak) == 4
    assert any("s0, s1, s2 and 2 more: the community crosses" in line for line in weak)
    assert any("old: MD5 can be broken" in line for line in weak) and any("old: DES" in line for line in weak)
    assert any("open: without auth_key" in line for line in weak)
    assert not any("good" in line for line in weak)


def test_less_protection_than_configured_is_not_let_in() -> None:
    told: list[Any] = []
    judge = Judge(lambda *what: told.append(what))
    judge.use({"192.0.2.1": (Sender("sw", Credentials("3", user="probe", auth_key="canary-key")),)})
    plain_v3 = ber.tlv(
        ber.SEQUENCE,
        ber.number(3),
        ber.tlv(ber.SEQUENCE, ber.number(1), ber.number(9000), ber.tlv(ber.OCTETS, b"\x00"), ber.number(3)),
        ber.tlv(
            ber.OCTETS,
            ber.tlv(
                ber.SEQUENCE, octets("engine"), ber.number(1), ber.number(1), octets("probe"), octets(""), octets("")
            ),
        ),
        ber.tlv(ber.SEQUENCE, octets(""), octets(""), notification(LINK_DOWN)),
    )
    about = envelope.read(plain_v3)
    assert (about.engine, about.user, about.level) == (b"engine", b"probe", 0)
    assert judge.take(plain_v3, "192.0.2.1", 0.0) == []
    assert judge.take(notification(LINK_DOWN), "192.0.2.1", 0.0) == []
    assert (told, judge.dropped) == ([], {"not_allowed": 2})
