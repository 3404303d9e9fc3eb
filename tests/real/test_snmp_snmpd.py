"""The `snmp` check against the real net-snmp agent."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.checks import Context, Toolbox
from agent.checks.snmp import SnmpCheck
from agent.model import Facts, Failed, Failure
from agent.policy import Policy
from agent.safety import Gate
from tests.rigs.snmpd import AUTH_KEY, COMMUNITY, PRIV_KEY, Snmpd, snmpd


class Known:
    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text


SEALED = {"user": "sealed", "auth_key": Known(AUTH_KEY), "priv_key": Known(PRIV_KEY)}
SIGNED = {"user": "signed", "auth_key": Known(AUTH_KEY)}
WEAK = SEALED | {"user": "weak", "auth_protocol": "MD5", "priv_protocol": "DES"}
CLEAR = {"community": Known(COMMUNITY)}
CALM = {"thresholds": tuple((field, (2.0,)) for field in ("cpu_ratio", "disk_used_ratio"))}
"""This machine may be busy and its disk full: that is not what these tests are about."""

Poll = Callable[..., Awaitable[Facts]]


async def literal(target: str, deadline: float) -> str:
    return target


def scene(directory: Path, play: Callable[[Snmpd, Poll], Awaitable[None]]) -> None:
    """Play against a fresh snmpd; polls share the engine, and their memory by `name`."""

    async def go(daemon: Snmpd) -> None:
        tools, gate = Toolbox(), Gate(Policy())
        memories: dict[str, dict[str, Any]] = {}

        async def poll(name: str = "switch", within: float = 5.0, **options: Any) -> Facts:
            check = SnmpCheck(name=name, target="127.0.0.1", port=daemon.port, **(CALM | options))
            assert check.problems() == []
            deadline = asyncio.get_running_loop().time() + within
            memory = memories.setdefault(name, {})
            return await check.run(Context(gate, tools, literal, deadline, "snmp", memory=memory))

        try:
            await play(daemon, poll)
        finally:
            await tools.aclose()

    with snmpd(directory) as daemon:
        asyncio.run(go(daemon))


@pytest.mark.parametrize("who", [SEALED, SIGNED, WEAK, CLEAR], ids=["authPriv", "authNoPriv", "md5-des", "v2c"])
def test_the_system_group(tmp_path: Path, who: dict[str, Any]) -> None:
    async def play(daemon: Snmpd, poll: Poll) -> None:
        facts = await poll(**who)
        assert facts.fields["sys_name"] == "rig-switch"
        assert facts.fields["sys_object_id"] == "1.3.6.1.4.1.99999.1"
        assert facts.fields["boots"] == 1
        assert facts.fields["health"] == "ok"
        assert 0 <= float(facts.fields["uptime_s"] or 0) < 60
        assert "Example" not in repr(facts)

    scene(tmp_path, play)


def test_every_way_of_not_being_let_in_is_told_apart(tmp_path: Path) -> None:
    async def play(daemon: Snmpd, poll: Poll) -> None:
        async def failed(**options: Any) -> tuple[Failure, str]:
            with pytest.raises(Failed) as caught:
                await poll("other", **options)
            return caught.value.failure, caught.value.detail

        await poll(**SEALED)
        assert await failed(**SEALED | {"auth_key": Known("wrong-wrong")}) == (
            Failure.AUTH,
            "wrong key for the SNMPv3 user sealed: compare auth_key and auth_protocol with the device",
        )
        assert await failed(**SIGNED | {"user": "nobody"}) == (
            Failure.AUTH,
            "the device does not know the SNMPv3 user nobody",
        )
        assert (await failed(user="signed"))[0] is Failure.AUTH
        failure, detail = await failed(**SEALED | {"priv_key": Known("wrong-wrong")}, within=1.0)
        assert (failure, "priv_key" in detail) == (Failure.TIMEOUT, True)
        failure, detail = await failed(community=Known("wrong"), within=1.0)
        assert (failure, "wrong community" in detail) == (Failure.TIMEOUT, True)
        # None of it disturbs the right user of the same name.
        assert (await poll(**SEALED)).more == ()

    scene(tmp_path, play)


@pytest.mark.parametrize("who", [SEALED, CLEAR], ids=["v3", "v2c"])
def test_a_restart_in_the_middle_is_survived_and_told(tmp_path: Path, who: dict[str, Any]) -> None:
    async def play(daemon: Snmpd, poll: Poll) -> None:
        await poll(**who)
        daemon.stop()
        with pytest.raises(Failed) as caught:
            await poll(**who)
        assert caught.value.failure is Failure.REFUSED
        daemon.start()
        facts = await poll(**who)
        assert facts.fields["boots"] == 2
        assert [(kind, fields["kind"]) for kind, fields in facts.more] == [("event", "device_rebooted")]
        assert (await poll(**who)).more == ()

    scene(tmp_path, play)


def test_a_device_that_was_exchanged_is_discovered_again(tmp_path: Path) -> None:
    async def play(daemon: Snmpd, poll: Poll) -> None:
        await poll(**SEALED)
        daemon.forget_engine()
        assert (await poll(**SEALED)).fields["sys_name"] == "rig-switch"

    scene(tmp_path, play)


def test_ports_by_name_and_index_with_rates(tmp_path: Path) -> None:
    async def play(daemon: Snmpd, poll: Poll) -> None:
        first = await poll(**SEALED, watch_ports=("lo", "9999"))
        assert first.fields["health"] == "warning"
        assert first.fields["reason"] == "port 9999 is not on this device"
        assert [(kind, fields["port"], fields["name"], fields["oper"]) for kind, fields in first.more] == [
            ("snmp_port", 1, "lo", "up")
        ]
        assert first.more[0][1]["in_bits_per_s"] is None
        # snmpd reads the kernel's counters at most once in 3 s; its own answers are traffic on lo.
        await asyncio.sleep(3.2)
        second = await poll(**SEALED, watch_ports=("1",))
        rate = second.more[0][1]["in_bits_per_s"]
        assert isinstance(rate, float) and 0 < rate < 1e10
        assert second.more[0][1]["in_errors"] == 0
        assert (second.fields["ports_up"], second.fields["ports_down"]) == (1, 0)

    scene(tmp_path, play)


def test_a_host_is_known_by_what_it_answers(tmp_path: Path) -> None:
    async def play(daemon: Snmpd, poll: Poll) -> None:
        fields = (await poll(**SEALED, within=20.0)).fields
        assert fields["profile"] == "host"
        for part in ("disk_used_ratio", "memory_free_ratio"):
            value = fields[part]
            assert isinstance(value, int | float) and 0 <= value <= 1, part
        assert float(fields["host_uptime_s"] or 0) > 0
        full = await poll("full", **SEALED, within=20.0, thresholds=(("disk_used_ratio", (0.000001,)),))
        assert full.fields["health"] == "warning"
        assert re.fullmatch(r"disk /\S* is \S+ % full(; .*)?", str(full.fields["reason"]))

    scene(tmp_path, play)


def tried(daemon: Snmpd, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `siteprobe snmp try` with the secrets in the environment."""
    secrets = {"AUTH": AUTH_KEY, "PRIV": PRIV_KEY, "COMMUNITY": COMMUNITY}
    return subprocess.run(
        [sys.executable, "-m", "agent", "snmp", "try", "127.0.0.1", "--port", str(daemon.port), *options],
        env={**os.environ, **secrets},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_a_device_is_tried_by_hand_and_explained(tmp_path: Path) -> None:
    sealed = ("--user", "sealed", "--auth-key", "env:AUTH", "--priv-key", "env:PRIV", "--watch-port", "lo")
    with snmpd(tmp_path) as daemon:
        done = tried(daemon, *sealed)
        assert done.returncode in (0, 1), done.stderr
        for words in (
            "profile host",
            "no profile names its sysObjectID",
            "ask get 1.3.6.1.2.1.1.2.0",
            "answer",
            "health",
        ):
            assert words in done.stdout
        assert "snmp_port: port = 1, name = lo" in done.stdout
        answer = json.loads(tried(daemon, "--community", "env:COMMUNITY", "--json").stdout)
        assert answer["record"]["profile"] == "host" and answer["explanation"]
        assert not {AUTH_KEY, PRIV_KEY, COMMUNITY} & set(re.split(r"\W*\s\W*", done.stdout + str(answer)))
        wrong = tried(daemon, *sealed[:2], "--auth-key", "env:COMMUNITY")
        assert (wrong.returncode, "wrong key" in wrong.stdout) == (2, True)
        clear = tried(daemon, "--community", COMMUNITY)
        assert (clear.returncode, "env:NAME" in clear.stderr) == (3, True)
        assert tried(daemon).returncode == 3
