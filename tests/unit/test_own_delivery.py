"""What the publisher measures of its own way, in virtual time: CONNACK, PUBACK, silence, why it is not connected."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli import siteprobe
from agent.delivery import OwnWay
from agent.model import Failure
from agent.publisher import Closed, NotConnected
from agent.publisher.wire import FAILURES
from tests.rigs.publishing import FakeNetwork, FakeStore, publishing
from tests.rigs.virtual_time import run


def test_asking_without_the_service_leaves_our_own_delivery_out(tmp_path: Path) -> None:
    file = tmp_path / "siteprobe.yaml"
    file.write_text(
        "version: 1\nidentity: {org: o, site: s, node: n-1}\nmqtt: {url: mqtt://127.0.0.1:1}\nstandard: false\n"
        "checks: [{name: delivery, type: mqtt}, {name: link, type: link, interface: lo}]\n"
    )
    told = json.loads(CliRunner().invoke(siteprobe, ["check", "--json", "-c", str(file)]).output)
    assert [answer["name"] for answer in told["checks"]] == ["link"]
    named = CliRunner().invoke(siteprobe, ["check", "delivery", "-c", str(file)])
    assert named.exit_code == 3 and "siteprobe status" in named.output


def way_after(seconds: float, net: FakeNetwork, records: int = 3) -> OwnWay:
    async def scene() -> OwnWay:
        store = FakeStore()
        async with publishing(store, net.open_wire) as publisher:
            publisher.committed(store.add(records))
            await asyncio.sleep(seconds)
            found = publisher.way()
            assert isinstance(found, OwnWay)
            return found

    return run(scene())


def test_a_connection_tells_its_connack_and_puback_delays() -> None:
    way = way_after(5, FakeNetwork(delay_s=0.25))
    assert way.connected and way.address == "192.0.2.1" and way.failure is None
    assert way.connack_s == pytest.approx(0.005, abs=0.001)
    assert way.puback_s == pytest.approx(0.25, abs=0.01)
    assert way.puback_max_s == pytest.approx(0.25, abs=0.01)
    assert way.waiting_s == 0


def test_a_broker_that_acknowledges_nothing_is_seen_waiting() -> None:
    net = FakeNetwork()
    net.code = lambda message: None
    way = way_after(12, net)
    assert way.connected and way.puback_s is None
    assert way.waiting_s == pytest.approx(12, abs=0.5)


def test_before_the_first_attempt_is_over_nothing_is_said() -> None:
    way = way_after(0.001, FakeNetwork())
    assert not way.connected and way.failure is None and not way.reason


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        (NotConnected("no answer"), Failure.TIMEOUT),
        (NotConnected("bad password", "refused"), Failure.AUTH),
        (NotConnected("no key", "certificate"), Failure.LOCAL_PERMISSION),
        (NotConnected("denied", "policy"), Failure.LOCAL_POLICY),
    ],
)
def test_without_a_connection_the_reason_is_told(said: NotConnected, failure: Failure) -> None:
    net = FakeNetwork()
    net.reachable, net.failure = False, said
    way = way_after(3, net)
    assert not way.connected
    assert (way.failure, way.reason) == (failure, said.reason)


def test_a_lost_connection_is_told_until_the_next_one() -> None:
    async def scene() -> None:
        net = FakeNetwork()
        async with publishing(FakeStore(), net.open_wire) as publisher:
            await asyncio.sleep(1)
            net.reachable = False
            net.wires[0].end(Closed("the broker closed the connection"))
            await asyncio.sleep(0.01)
            assert publisher.way().failure is Failure.RESET
            net.reachable = True
            await asyncio.sleep(30)
            assert publisher.way().connected and publisher.way().failure is None

    run(scene())


def test_an_error_of_its_own_outranks_the_kind() -> None:
    assert NotConnected("x", failure=Failure.REFUSED).failure is Failure.REFUSED
    assert NotConnected("x", "busy").failure is FAILURES["busy"]
