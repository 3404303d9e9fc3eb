"""The session against the real net-snmp agent: every version and algorithm, views, tables, a restart in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.model import Failed, Failure
from agent.policy import Policy
from agent.safety import Gate
from agent.snmp import oids
from agent.snmp.credentials import Credentials
from agent.snmp.session import Session, Snmp
from tests.rigs.snmpd import AUTH_KEY, COMMUNITY, PRIV_KEY, Snmpd, snmpd

V1, V2C = Credentials("1", COMMUNITY), Credentials("2c", COMMUNITY)
SYSTEM = (oids.SYS_NAME, oids.SYS_OBJECT_ID, oids.SYS_UP_TIME, oids.ENGINE_BOOTS)
ABSENT = "1.3.6.1.2.1.1.99.0"
NAMES = "1.3.6.1.2.1.1.9.1.3"  # sysORDescr: a table that every net-snmp has
OBJECTS = "1.3.6.1.2.1.1.9.1.2"


def v3(user: str, auth: str = "", priv: str = "", auth_key: str = AUTH_KEY, priv_key: str = PRIV_KEY) -> Credentials:
    return Credentials(
        "3",
        user=user,
        auth_protocol=auth or "SHA-256",
        auth_key=auth_key if auth else "",
        priv_protocol=priv or "AES-128",
        priv_key=priv_key if priv else "",
    )


SEALED = v3("sealed", "SHA-256", "AES-128")
WAYS = {
    "v1": V1,
    "v2c": V2C,
    "open": v3("open"),
    "signed": v3("signed", "SHA-256"),
    "md5-des": v3("weak", "MD5", "DES"),
    "sha1-aes128": v3("sha1", "SHA", "AES-128"),
    "sha224-aes128": v3("sha224", "SHA-224", "AES-128"),
    "sha256-aes128": SEALED,
    "sha384-aes192": v3("sha384", "SHA-384", "AES-192"),
    "sha512-aes256": v3("sha512", "SHA-512", "AES-256"),
}
Begin = Callable[..., Awaitable[Session]]


def scene(directory: Path, play: Callable[[Snmpd, Begin], Awaitable[None]]) -> None:
    async def go(daemon: Snmpd) -> None:
        snmp, gate = Snmp(), Gate(Policy())

        async def begin(who: Credentials, within: float = 20.0) -> Session:
            deadline = asyncio.get_running_loop().time() + within
            return await snmp.session(gate, "127.0.0.1", daemon.port, who, deadline, lambda line: None)

        try:
            await play(daemon, begin)
        finally:
            await snmp.aclose()

    with snmpd(directory) as daemon:
        asyncio.run(go(daemon))


@pytest.mark.parametrize("way", WAYS)
def test_each_version_and_algorithm_reads_objects_and_tables(tmp_path: Path, way: str) -> None:
    async def play(daemon: Snmpd, begin: Begin) -> None:
        session = await begin(WAYS[way])
        found = await session.get([*SYSTEM, ABSENT])
        assert list(found) == [*SYSTEM, ABSENT]
        assert (found[oids.SYS_NAME], found[oids.SYS_OBJECT_ID]) == (b"rig-switch", "1.3.6.1.4.1.99999.1")
        assert (found[oids.ENGINE_BOOTS], found[ABSENT]) == (1, None)
        table = await session.table((NAMES, OBJECTS))
        assert table.complete and len(table.rows) > 5
        assert all(isinstance(row[NAMES], bytes) and isinstance(row[OBJECTS], str) for row in table.rows.values())
        assert await session.get_next("2.99") == ("2.99", None)

    scene(tmp_path, play)


async def told(begin: Begin, who: Credentials, *wanted: str) -> tuple[Failure, str]:
    with pytest.raises(Failed) as caught:
        await (await begin(who, 1.5)).get(wanted or SYSTEM)
    return caught.value.failure, caught.value.detail


REFUSALS = {
    "unknown user": (v3("nobody", "SHA-256"), Failure.AUTH, "does not know the SNMPv3 user nobody"),
    "wrong key": (
        v3("signed", "SHA-256", auth_key="wrong-wrong"),
        Failure.AUTH,
        "wrong key for the SNMPv3 user signed",
    ),
    "other algorithm": (v3("signed", "SHA-512"), Failure.AUTH, "wrong key for the SNMPv3 user signed"),
    "level too low": (v3("sealed", "SHA-256"), Failure.AUTH, "look at its SNMP view"),
    "unsupported level": (v3("signed", "SHA-256", "AES-128"), Failure.AUTH, "at this security level"),
    "wrong encryption key": (v3("sealed", "SHA-256", "AES-128", priv_key="wrong-wrong"), Failure.TIMEOUT, "priv_key"),
    "no access": (v3("barred", "SHA-256"), Failure.AUTH, "look at its SNMP view"),
    "wrong community": (Credentials("2c", "wrong"), Failure.TIMEOUT, "wrong community"),
    "wrong community v1": (Credentials("1", "wrong"), Failure.TIMEOUT, "wrong community"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_each_refusal_has_its_sentence(tmp_path: Path, name: str) -> None:
    who, failure, words = REFUSALS[name]

    async def play(daemon: Snmpd, begin: Begin) -> None:
        found = await told(begin, who)
        assert (found[0], words in found[1]) == (failure, True), found
        # It disturbs nobody else.
        assert (await (await begin(SEALED)).get([oids.SYS_NAME]))[oids.SYS_NAME] == b"rig-switch"

    scene(tmp_path, play)


def test_what_a_view_hides_is_not_there(tmp_path: Path) -> None:
    async def play(daemon: Snmpd, begin: Begin) -> None:
        session = await begin(v3("narrow", "SHA-256"))
        assert await session.get(SYSTEM[:2]) == {oids.SYS_NAME: b"rig-switch", oids.SYS_OBJECT_ID: None}
        assert (await session.table((NAMES,))).rows == {}

    scene(tmp_path, play)


def test_a_restart_between_two_questions_of_one_run_is_survived(tmp_path: Path) -> None:
    async def play(daemon: Snmpd, begin: Begin) -> None:
        for who in (SEALED, V2C, V1):
            session = await begin(who)
            before = (await session.get(SYSTEM))[oids.ENGINE_BOOTS]
            await asyncio.to_thread(daemon.restart)
            after: Any = (await session.get(SYSTEM))[oids.ENGINE_BOOTS]
            assert isinstance(before, int) and after == before + 1

    scene(tmp_path, play)
