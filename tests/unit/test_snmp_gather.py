"""Reading a profile piece by piece: within the time, fairly, and no more than is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from agent.model import Failed, Failure
from agent.snmp import oids
from agent.snmp.conclude import conclude
from agent.snmp.gather import Gathered, gather
from agent.snmp.neighbours import Neighbours, look
from agent.snmp.profile import Metric, Profile, Symbol, TableName, When

A, B, C = ("1.3.6.1.4.1.99999.1.1", "1.3.6.1.4.1.99999.2.1", "1.3.6.1.4.1.99999.3.1")


class Device:
    """Answers like a session from a table; each question takes one second of the deadline."""

    def __init__(self, objects: dict[str, Any], silent: str = "never") -> None:
        self.objects, self.silent = objects, silent
        self.asked: list[str] = []
        self.deadline = 0.0

    def begin(self, seconds: float) -> Device:
        self.deadline = asyncio.get_running_loop().time() + seconds
        self.asked.clear()
        return self

    def _spend(self, kind: str, oid: str) -> None:
        self.asked.append(f"{kind} {oid}")
        self.deadline -= 1
        if oid.startswith(self.silent):
            self.deadline -= 3
            raise Failed(Failure.TIMEOUT, "no answer")

    async def get(self, oids: Sequence[str]) -> dict[str, Any]:
        assert 0 < len(oids) <= 33 and len(set(oids)) == len(oids)
        self._spend("get", oids[0])
        return {oid: self.objects.get(oid) for oid in oids}

    async def bulk(self, oid: str, repetitions: int) -> list[tuple[str, Any]]:
        self._spend("bulk", oid)
        ordered = sorted(self.objects, key=lambda name: tuple(map(int, name.split("."))))
        after = [name for name in ordered if tuple(map(int, name.split("."))) > tuple(map(int, oid.split(".")))]
        return [(name, self.objects[name]) for name in after[: min(repetitions, 10)]] or [(oid, None)]


def table(column: str, name: str, **options: Any) -> Metric:
    symbols = (Symbol(oid=column, name=f"{name}_ratio", **options),)
    return Metric(table=TableName(name=name), symbols=symbols)


def rows(column: str, count: int) -> dict[str, Any]:
    return {f"{column}.{i}": i for i in range(1, count + 1)}


def run(play: Callable[[], Any]) -> None:
    asyncio.run(play())


def values(profile: Profile, known: Gathered) -> dict[str, Any]:
    return conclude(profile, known, {}, False, set(), asyncio.get_running_loop().time()).fields


def test_rows_are_found_once_and_then_the_cells_of_all_tables_are_asked_together() -> None:
    async def play() -> None:
        device, known = Device(rows(A, 4) | rows(B, 5)), Gathered()
        profile = Profile(title="t", metrics=(table(A, "a"), table(B, "b"), table(C, "c")))
        await gather(device.begin(60), profile, known, False)  # type: ignore[arg-type]
        assert device.asked == [f"bulk {A}", f"bulk {B}", f"bulk {B}.5", f"bulk {C}", f"get {A}.1"]
        await gather(device.begin(60), profile, known, False)  # type: ignore[arg-type]
        assert device.asked == [f"get {A}.1"]
        assert values(profile, known) == {"a_ratio": 4, "b_ratio": 5}
        assert known.unread == []

    run(play)


def test_what_does_not_fit_into_a_poll_goes_on_in_the_next() -> None:
    async def play() -> None:
        device, known = Device(rows(A, 95)), Gathered()
        profile = Profile(title="t", metrics=(table(A, "a"),))
        polls = 0
        while known.unread or not polls:
            await gather(device.begin(5), profile, known, False)  # type: ignore[arg-type]
            assert len(device.asked) <= 5
            polls += 1
            assert polls < 10
        assert (polls, values(profile, known)) == (3, {"a_ratio": 95})

    run(play)


def test_while_rows_are_found_anew_the_last_complete_pass_stands() -> None:
    async def play() -> None:
        device, known = Device(rows(A, 25)), Gathered()
        metric = Metric(table=TableName(name="a", fresh=True), symbols=(Symbol(oid=A, name="a_ratio", fold="rows"),))
        profile = Profile(title="t", metrics=(metric,))
        await gather(device.begin(60), profile, known, False)  # type: ignore[arg-type]
        device.objects = rows(A, 12)
        seen = []
        for _ in range(3):
            await gather(device.begin(2), profile, known, False)  # type: ignore[arg-type]
            seen.append((values(profile, known)["a_ratio"], known.unread))
        assert seen == [(25, ["a"]), (12, []), (12, ["a"])]

    run(play)


def test_a_table_that_is_never_answered_holds_up_no_other() -> None:
    async def play() -> None:
        device, known = Device(rows(A, 3) | rows(B, 3), silent=A), Gathered()
        profile = Profile(title="t", metrics=(table(A, "a"), table(B, "b")))
        for _ in range(3):
            await gather(device.begin(5), profile, known, False)  # type: ignore[arg-type]
        assert (known.unread, values(profile, known)) == (["a"], {"b_ratio": 3})

    run(play)


def test_an_endless_table_is_cut_and_rows_that_do_not_matter_are_not_asked() -> None:
    async def play() -> None:
        device, known = Device(rows(A, 3000)), Gathered()
        only = When(oid=A, values=("1", "1999", "2500"))
        metric = Metric(
            table=TableName(name="a", rows_most=50), symbols=(Symbol(oid=A, name="a_ratio", when=only, fold="rows"),)
        )
        profile = Profile(title="t", metrics=(metric,))
        await gather(device.begin(900), profile, known, False)  # type: ignore[arg-type]
        assert known.tables[metric].rows == ["1", "1999"]
        assert len(device.asked) == 201
        assert values(profile, known) == {"a_ratio": 2}

    run(play)


def test_facts_are_asked_rarely_and_personal_ones_only_where_wanted() -> None:
    async def play() -> None:
        fact = Symbol(oid=A + ".0", name="model", form="text", fact=True)
        name = Symbol(oid=B + ".0", name="owner", form="text", personal=True)
        profile = Profile(title="t", metrics=(Metric(symbol=fact), Metric(symbol=name)))
        device, known = Device({A + ".0": b"X1", B + ".0": b"Mrs Example"}), Gathered()
        await gather(device.begin(60), profile, known, False)  # type: ignore[arg-type]
        assert known.scalars == {A + ".0": b"X1"}
        await gather(device.begin(60), profile, known, True)  # type: ignore[arg-type]
        assert known.scalars == {B + ".0": b"Mrs Example"}
        known.forget()
        await gather(device.begin(60), profile, known, False)  # type: ignore[arg-type]
        assert known.scalars == {A + ".0": b"X1"}

    run(play)


def test_a_label_that_people_chose_is_not_even_asked() -> None:
    async def play() -> None:
        name = TableName(name="a", label=B, label_personal=True)
        profile = Profile(title="t", metrics=(Metric(table=name, symbols=(Symbol(oid=A, name="a_ratio"),)),))
        device, known = Device(rows(A, 2) | {f"{B}.1": b"Dr Example"}), Gathered()
        await gather(device.begin(60), profile, known, False)  # type: ignore[arg-type]
        state = known.tables[profile.metrics[0]]
        assert set(state.cells) == {f"{A}.1", f"{A}.2"}

    run(play)


def neighbour(port: int, chassis: str, mark: int = 0) -> dict[str, Any]:
    return {f"{oids.LLDP_CHASSIS_ID}.{mark}.{port}.1": chassis.encode()}


def test_neighbours_are_read_again_only_when_the_switch_says_that_they_changed() -> None:
    async def play() -> None:
        local = {f"{oids.LLDP_LOCAL_PORT_ID}.{port}": f"Gi1/0/{port}".encode() for port in (1, 2, 3)}
        device = Device({oids.LLDP_LAST_CHANGE: 100, **neighbour(1, "aa"), **neighbour(2, "bb"), **local})
        seen = Neighbours()
        assert await look(device.begin(60), seen) == (2, [])  # type: ignore[arg-type]
        assert await look(device.begin(60), seen) == (2, [])  # type: ignore[arg-type]
        assert device.asked == [f"get {oids.LLDP_LAST_CHANGE}"]
        device.objects = {oids.LLDP_LAST_CHANGE: 900, **neighbour(1, "Dr Example", 9), **neighbour(3, "cc"), **local}
        count, words = await look(device.begin(60), seen)  # type: ignore[arg-type]
        assert count == 2
        assert sorted(words) == [
            "the neighbour on port Gi1/0/1 is another device than before",
            "the neighbour on port Gi1/0/2 is gone",
            "the neighbour on port Gi1/0/3 is new",
        ]
        # The time mark of a row may change without the neighbour: that is no change.
        device.objects = {oids.LLDP_LAST_CHANGE: 950, **neighbour(1, "Dr Example", 50), **neighbour(3, "cc"), **local}
        assert await look(device.begin(60), seen) == (2, [])  # type: ignore[arg-type]

    run(play)


def test_a_switch_without_neighbours_to_tell_says_nothing() -> None:
    async def play() -> None:
        assert await look(Device({}).begin(60), Neighbours()) == (None, [])  # type: ignore[arg-type]
        assert await look(Device({}, silent="1").begin(60), Neighbours()) == (None, [])  # type: ignore[arg-type]

    run(play)


def test_a_switch_that_started_anew_changes_all_neighbours_in_one_sentence() -> None:
    async def play() -> None:
        many = {key: value for port in range(1, 20) for key, value in neighbour(port, "aa").items()}
        device, seen = Device({oids.LLDP_LAST_CHANGE: 100, **many}), Neighbours()
        await look(device.begin(60), seen)  # type: ignore[arg-type]
        device.objects = {oids.LLDP_LAST_CHANGE: 5}
        assert await look(device.begin(60), seen) == (  # type: ignore[arg-type]
            0,
            ["the neighbours on 19 ports changed"],
        )

    run(play)
