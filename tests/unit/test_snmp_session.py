"""The SNMP session: tables, sizes that adapt, v1, and that it can only read."""

from __future__ import annotations

from typing import Any

import pytest
from pysnmp.proto.api import v2c

from agent.model import Failure
from agent.snmp import message, oids
from agent.snmp.credentials import Credentials
from agent.snmp.device import ROWS_MOST_A_PDU, Pace
from agent.snmp.session import Table
from tests.rigs.snmp_agent import Agent, answer, asked, from_tree
from tests.rigs.snmp_asker import SYSTEM, Asker, failure, play


def rows_asked(peer: Agent) -> list[int]:
    pdus = [asked(request)[1] for request in peer.requests]
    return [int(v2c.apiBulkPDU.get_max_repetitions(p)) for p in pdus if isinstance(p, v2c.GetBulkRequestPDU)]


def port_table(rows: int) -> dict[str, Any]:
    names = {f"{oids.IF_NAME}.{i}": v2c.OctetString(f"p{i}") for i in range(1, rows + 1)}
    # The second column has holes, as real tables have.
    aliases = {f"{oids.IF_ALIAS}.{i}": v2c.OctetString(f"a{i}") for i in range(1, rows + 1) if i % 3}
    return SYSTEM | names | aliases


def test_a_table_is_read_in_columns_side_by_side() -> None:
    async def scene(asker: Asker, peer: Agent) -> Any:
        return await (await asker.session(peer.port)).table((oids.IF_NAME, oids.IF_ALIAS))

    table = play(from_tree(port_table(50)), scene)
    assert (table.complete, list(table.rows)[:3], len(table.rows)) == (True, ["1", "2", "3"], 50)
    assert table.rows["7"] == {oids.IF_NAME: b"p7", oids.IF_ALIAS: b"a7"}
    assert table.rows["9"] == {oids.IF_NAME: b"p9"}


def test_reading_a_table_stops_at_its_cap_and_goes_on_from_there() -> None:
    async def scene(asker: Asker, peer: Agent) -> Any:
        session = await asker.session(peer.port)
        found, tables = dict[str, Any](), list[Table]()
        for _ in range(10):
            table = await session.table(
                (oids.IF_NAME, oids.IF_ALIAS), rows_most=20, after=tables[-1].after if tables else ""
            )
            tables.append(table)
            for index, row in table.rows.items():
                found.setdefault(index, {}).update(row)
            if table.complete:
                break
        return found, tables

    found, tables = play(from_tree(port_table(50)), scene)
    assert all(len(table.rows) <= 20 for table in tables)
    assert [table.complete for table in tables[:2]] == [False, False]
    assert len(found) == 50 and tables[-1].complete
    assert all((oids.IF_ALIAS in row) is bool(int(index) % 3) for index, row in found.items())


def test_a_table_without_an_end_is_read_to_2000_rows() -> None:
    def endless(request: bytes) -> list[bytes]:
        _, pdu, (oid,) = asked(request)
        count, last = int(v2c.apiBulkPDU.get_max_repetitions(pdu)), oid.removeprefix(oids.IF_NAME).removeprefix(".")
        first = int(last or 0) + 1
        return [answer(request, {f"{oids.IF_NAME}.{i}": v2c.OctetString("x") for i in range(first, first + count)})]

    async def scene(asker: Asker, peer: Agent) -> Any:
        table = await (await asker.session(peer.port, most=25)).table((oids.IF_NAME,))
        return table, len(peer.requests)

    table, questions = play(endless, scene)
    assert (len(table.rows), table.complete) == (2000, False)
    assert questions < 120


def test_until_ends_a_reading_without_an_error() -> None:
    async def scene(asker: Asker, peer: Agent) -> Any:
        return await (await asker.session(peer.port)).table((oids.IF_NAME,), until=0.0)

    table = play(from_tree(port_table(5)), scene)
    assert (table.rows, table.complete, table.after) == ({}, False, "")


def test_rows_grow_to_25_only_where_that_is_configured() -> None:
    async def scene(asker: Asker, peer: Agent, most: int) -> list[int]:
        await (await asker.session(peer.port, most=most)).table((oids.IF_NAME,))
        return rows_asked(peer)

    assert set(play(from_tree(port_table(200)), lambda a, p: scene(a, p, 10))) == {10}
    grown = play(from_tree(port_table(600)), lambda a, p: scene(a, p, 25))
    assert (grown[0], max(grown)) == (10, ROWS_MOST_A_PDU)


def test_too_big_halves_the_rows_and_is_remembered_of_the_device() -> None:
    async def scene(asker: Asker, peer: Agent) -> list[int]:
        for _ in range(2):
            await (await asker.session(peer.port)).table((oids.IF_NAME,))
        return rows_asked(peer)

    found = play(from_tree(port_table(12), most=4), scene)
    assert found[:3] == [10, 5, 2]
    assert set(found[2:]) == {2}


def test_a_device_silent_at_large_questions_is_asked_smaller_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.snmp.exchange.ANSWER_TIMEOUT_S", 0.5)

    async def scene(asker: Asker, peer: Agent) -> Any:
        session = await asker.session(peer.port)
        await session.get([oids.SYS_NAME])
        return await session.table((oids.IF_NAME,)), rows_asked(peer)

    table, rows = play(from_tree(port_table(12), most=6, silent=True), scene)
    assert (len(table.rows), rows[:2]) == (12, [10, 5])


def test_many_objects_are_halved_at_too_big() -> None:
    wanted = [f"{oids.IF_NAME}.{i}" for i in range(1, 41)]

    async def scene(asker: Asker, peer: Agent) -> Any:
        return await (await asker.session(peer.port)).get([*wanted, wanted[0]]), len(peer.requests)

    found, questions = play(from_tree(port_table(30), most=9), scene)
    assert list(found) == wanted
    assert (found[wanted[0]], found[wanted[39]]) == (b"p1", None)
    assert questions == 2 + 5


def test_pace_never_returns_to_what_was_too_big() -> None:
    pace = Pace(10, 25)
    pace.well(9)
    assert pace.now == 10
    for _ in range(40):
        pace.well(pace.now)
    assert pace.now == 25
    pace.silent(25)
    assert pace.now == 12
    pace.too_big(12)
    for _ in range(40):
        pace.well(pace.now)
    assert pace.now == 6


def test_address_route_and_forwarding_tables_are_never_walked() -> None:
    for oid in ("1.3.6.1.2.1.4.22.1.2", "1.3.6.1.2.1.4.24.4", "1.3.6.1.2.1.17.4.3.1.2", "1.3.6.1.2.1.17.7.1.2.2.1.2"):

        async def scene(asker: Asker, peer: Agent, oid: str = oid) -> None:
            try:
                await (await asker.session(peer.port)).table((oid,))
            finally:
                assert peer.requests == []

        assert failure(from_tree(SYSTEM), scene)[0] is Failure.LOCAL_POLICY


def test_nothing_but_reading_is_ever_on_the_wire() -> None:
    async def scene(asker: Asker, peer: Agent) -> set[int]:
        session = await asker.session(peer.port)
        await session.get([oids.SYS_NAME])
        await session.get_next(oids.SYS_NAME)
        await session.bulk(oids.IF_NAME, 5)
        await session.table((oids.IF_NAME, oids.IF_ALIAS))
        return {message.parse(request).kind for request in peer.requests}

    assert play(from_tree(port_table(3)), scene) == {0xA0, 0xA1, 0xA5}
    assert set(message.QUESTIONS.values()) == {0xA0, 0xA1, 0xA5}


def test_v1_asks_without_getbulk_and_lives_with_no_such_name() -> None:
    table = port_table(5)
    asked_kinds = []

    def v1_agent(request: bytes) -> list[bytes]:
        parsed = message.parse(request)
        asked_kinds.append((parsed.version, parsed.kind))
        names = [oid for oid, _ in parsed.bindings]
        reply = message.parse(from_tree(table)(as_version(request, 1))[0])
        absent = [place for place, (_, value) in enumerate(reply.bindings) if value is None]
        if absent:
            status = answer(as_version(request, 1), {n: v2c.Null("") for n in names}, 2, index=absent[0] + 1)
            return [as_version(status, 0)]
        return [as_version(from_tree(table)(as_version(request, 1))[0], 0)]

    async def scene(asker: Asker, peer: Agent) -> None:
        who = Credentials("1", "canary-secret")
        wanted = [oids.SYS_NAME, oids.SYS_CONTACT, oids.SYS_LOCATION]
        for questions in (3, 1):
            before = len(peer.requests)
            found = await (await asker.session(peer.port, who=who)).get(wanted)
            assert found == {oids.SYS_NAME: b"sw", oids.SYS_CONTACT: None, oids.SYS_LOCATION: None}
            assert len(peer.requests) - before == questions
        session = await asker.session(peer.port, who=who)
        assert await session.get_next(f"{oids.IF_ALIAS}.5") == (f"{oids.IF_ALIAS}.5", None)
        assert await session.bulk(oids.IF_NAME, 10) == [(f"{oids.IF_NAME}.1", b"p1")]
        read = await session.table((oids.IF_NAME, oids.IF_ALIAS))
        assert list(read.rows) == ["1", "2", "3", "4", "5"]
        assert read.rows["3"] == {oids.IF_NAME: b"p3"}

    play(v1_agent, scene)
    assert set(asked_kinds) == {(0, 0xA0), (0, 0xA1)}


def as_version(data: bytes, version: int) -> bytes:
    place = data.index(b"\x02\x01")
    return data[: place + 2] + bytes((version,)) + data[place + 3 :]


def test_an_object_that_the_device_cannot_read_hides_no_other() -> None:
    table = {f"{oids.IF_NAME}.{i}": v2c.OctetString(f"p{i}") for i in range(1, 41)}
    broken = [f"{oids.IF_NAME}.{i}" for i in (3, 40)]

    def script(request: bytes) -> list[bytes]:
        for place, oid in enumerate(asked(request)[2], 1):
            if oid in broken:
                return [answer(request, {}, status=5, index=place)]
        return from_tree(table)(request)

    async def scene(asker: Asker, peer: Agent) -> Any:
        return await (await asker.session(peer.port)).get(list(table))

    found = play(script, scene)
    assert [oid for oid, value in found.items() if value is None] == broken
    broken += [f"{oids.IF_NAME}.{i}" for i in range(10, 16)]
    assert failure(script, scene)[0] == Failure.PROTOCOL


@pytest.mark.parametrize(("most", "widths"), [(3, [3, 3, 3, 3]), (10, [10, 10]), (25, [10, 11])])
def test_a_column_is_never_asked_wider_than_the_check_allows(most: int, widths: list[int]) -> None:
    async def scene(asker: Asker, peer: Agent) -> Any:
        session, after = await asker.session(peer.port, most=most), oids.IF_NAME
        for _ in widths:
            after = (await session.bulk(after, ROWS_MOST_A_PDU))[-1][0]
        return rows_asked(peer)

    assert play(from_tree(port_table(50)), scene) == widths
