"""Notifications as net-snmp sends them: v1, v2c, v3; traps and informs; and the whole service that hears one."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.rigs import need
from tests.rigs.mosquitto import Mosquitto
from tests.rigs.service import Ledger, Service, config
from tests.rigs.snmpd import AUTH_KEY, COMMUNITY, PRIV_KEY, free_udp_port, snmpd
from tests.rigs.trapping import Rig, listening, read

KEYS = f"user: sealed, auth_key: {AUTH_KEY}, priv_key: {PRIV_KEY}"
SEALED = f"[{{name: sw, type: snmp, target: 127.0.0.1, {KEYS}}}]"
PLAIN = f"[{{name: sw, type: snmp, target: 127.0.0.1, community: {COMMUNITY}}}]"
ENGINE = "0x8000000001020304"
LINK_DOWN = ("''", "1.3.6.1.6.3.1.1.5.3", "1.3.6.1.2.1.2.2.1.1.7", "i", "7")
V3 = ("-v3", "-l", "authPriv", "-u", "sealed")


def sealed(auth: str = "SHA-256", priv: str = "AES", key: str = AUTH_KEY, priv_key: str = PRIV_KEY) -> tuple[str, ...]:
    return (*V3, "-a", auth, "-A", key, "-x", priv, "-X", priv_key)


async def send(rig: Rig, program: str, *words: str, folder: Path) -> int:
    """Run snmptrap or snmpinform (which waits for its answer) to the end; gives its exit code."""
    env = {"SNMPCONFPATH": str(folder), "SNMP_PERSISTENT_DIR": str(folder), "MIBS": "", "PATH": "/usr/bin:/bin"}
    command = [need.tool(program), *words[:-5], "-t", "5", "-r", "1", f"127.0.0.1:{rig.port}", *words[-5:]]
    process = await asyncio.create_subprocess_exec(
        *command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return await asyncio.wait_for(process.wait(), 30)


def heard(tmp_path: Path, checks: str, program: str, *words: str) -> Rig:
    async def go() -> Rig:
        async with listening(read(tmp_path, checks)) as rig:
            assert await send(rig, program, *words, folder=tmp_path) == 0
            await rig.until(lambda: bool(rig.noted.asked))
            return rig

    return asyncio.run(go())


COMMUNITY_WORDS = ("-c", COMMUNITY)
SENDINGS: dict[str, tuple[Any, ...]] = {
    "v2c-trap": (PLAIN, "snmptrap", "-v2c", *COMMUNITY_WORDS, *LINK_DOWN),
    "v2c-inform": (PLAIN, "snmpinform", "-v2c", *COMMUNITY_WORDS, *LINK_DOWN),
    "v3-trap": (SEALED, "snmptrap", *sealed(), "-e", ENGINE, *LINK_DOWN),
    "v3-inform": (SEALED, "snmpinform", *sealed(), *LINK_DOWN),
    "v3-signed": (
        f"[{{name: sw, type: snmp, target: 127.0.0.1, user: signed, auth_key: {AUTH_KEY}, auth_protocol: SHA-512}}]",
        *("snmptrap", "-v3", "-l", "authNoPriv", "-u", "signed", "-a", "SHA-512", "-A", AUTH_KEY, "-e", ENGINE),
        *LINK_DOWN,
    ),
    "v3-open": (
        "[{name: sw, type: snmp, target: 127.0.0.1, user: open}]",
        *("snmptrap", "-v3", "-l", "noAuthNoPriv", "-u", "open", "-e", ENGINE),
        *LINK_DOWN,
    ),
}


@pytest.mark.parametrize("name", SENDINGS)
def test_what_net_snmp_sends_becomes_an_event(tmp_path: Path, name: str) -> None:
    rig = heard(tmp_path, *SENDINGS[name])
    assert (rig.kinds(), rig.noted.asked) == (["trap_link_down"], ["sw"])
    assert rig.noted.events[0].fields["detail"] == "port 7 went down"


def test_a_v1_trap_of_a_ups(tmp_path: Path) -> None:
    async def go() -> None:
        async with listening(read(tmp_path, PLAIN)) as rig:
            command = [need.tool("snmptrap"), "-v1", "-c", COMMUNITY, f"127.0.0.1:{rig.port}"]
            command += ["1.3.6.1.4.1.318", "127.0.0.1", "6", "5", ""]
            await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, timeout=30)
            await rig.until(lambda: bool(rig.noted.asked))
            assert rig.kinds() == ["trap_on_battery"]

    asyncio.run(go())


@pytest.mark.parametrize(
    "words",
    [
        sealed(key="canary-wrong-key"),
        sealed(priv_key="canary-wrong-key"),
        sealed(auth="SHA"),
        ("-v3", "-l", "authNoPriv", "-u", "sealed", "-a", "SHA-256", "-A", AUTH_KEY),
        ("-v3", "-l", "noAuthNoPriv", "-u", "sealed"),
        ("-v3", "-l", "noAuthNoPriv", "-u", "nobody"),
        ("-v2c", "-c", COMMUNITY),
    ],
    ids=["wrong key", "wrong encryption key", "other protocol", "not encrypted", "not signed", "stranger", "v2c"],
)
def test_who_does_not_prove_to_be_the_device_is_counted(tmp_path: Path, words: tuple[str, ...]) -> None:
    async def go() -> None:
        async with listening(read(tmp_path, SEALED)) as rig:
            engine = ("-e", ENGINE) if words[0] == "-v3" else ()
            await send(rig, "snmptrap", *words, *engine, *LINK_DOWN, folder=tmp_path)
            await rig.until(lambda: rig.trapping.judge.dropped["not_allowed"] == 1)
            # The right one gets through all the same.
            await send(rig, "snmptrap", *sealed(), "-e", ENGINE, *LINK_DOWN, folder=tmp_path)
            await rig.until(lambda: rig.kinds() == ["trap_link_down"])

    asyncio.run(go())


def test_the_whole_service_hears_a_device_and_asks_it(tmp_path: Path) -> None:
    listen = free_udp_port()
    with snmpd(tmp_path) as daemon, Mosquitto(tmp_path) as broker, Ledger(broker.port) as ledger:
        check = {"name": "sw", "type": "snmp", "target": "127.0.0.1", "port": daemon.port, "interval": "1h"}
        values = config(
            tmp_path, [check | {"community": COMMUNITY}], broker.port, traps={"listen": f"127.0.0.1:{listen}"}
        )
        with Service(tmp_path / "a", values) as agent:
            agent.wait_logged("SNMP notifications are taken", 30)
            agent.wait_for(lambda status: "sw" in status["states"] and status["states"]["sw"]["state"] == "up", 30)
            subprocess.run(
                [need.tool("snmptrap"), "-v2c", "-c", COMMUNITY, f"127.0.0.1:{listen}", *LINK_DOWN],
                check=True,
                capture_output=True,
                timeout=30,
            )

            def told() -> bool:
                records = [record for record, _ in ledger.records()]
                polls = [record for record in records if record["type"] == "snmp"]
                return any(record.get("kind") == "trap_link_down" for record in records) and len(polls) >= 2

            agent.wait_for(lambda _: told(), 30)
