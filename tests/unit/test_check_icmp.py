"""The icmp check counts, times and judges a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest

from agent.check import Traffic
from agent.checks import Context, Toolbox
from agent.checks.icmp import Icmp, deafness, judged, measured, told, with_aftermath
from agent.clock import Clock
from agent.model import Facts, Failed, Failure
from agent.net.icmp import Aftermath, Echo, IcmpError
from agent.net.icmp_wire import open_wire
from agent.net.resolve import Resolver
from agent.options import Host, options_of
from agent.policy import Policy
from agent.runner import Run, Runner
from agent.safety import Gate
from tests.rigs.ask import as_dict, ask


def echo(rtt_s: float | None = None, error: IcmpError | None = None, **more: object) -> Echo:
    made = Echo(ip_address("10.0.0.1"), 1, b"", 0, 0.0, 0, lambda _: None)
    made.rtt_s, made.error, made.timestamping = rtt_s, error, str(more.get("by", "kernel" if rtt_s else ""))
    made.duplicates = 1 if more.get("twice") else 0
    made.reordered = bool(more.get("reordered"))
    return made


def echoes(*rtts: float | None) -> list[Echo]:
    return [echo(rtt) for rtt in rtts]


def test_the_figures_of_a_run() -> None:
    assert measured(echoes(0.010, 0.020, 0.012)) == {
        "sent": 3,
        "received": 3,
        "loss_ratio": 0.0,
        "rtt_min_s": 0.010,
        "rtt_mean_s": 0.014,
        "rtt_max_s": 0.020,
        "ipdv_s": 0.009,  # (10 ms + 8 ms) / 2
        "duplicates": 0,
        "reordered": 0,
        "timestamping": "kernel",
    }


def test_variation_is_between_neighbours_that_were_both_answered() -> None:
    assert "ipdv_s" not in measured(echoes(0.010, None, 0.020))
    assert measured(echoes(0.010, None, 0.020, 0.021))["ipdv_s"] == 0.001
    assert measured(echoes(0.010, None, 0.020))["loss_ratio"] == 0.3333


def test_a_run_without_replies_has_no_times() -> None:
    assert measured(echoes(None, None)) == {"sent": 2, "received": 0, "loss_ratio": 1.0}
    assert measured([]) == {"sent": 0, "received": 0}


def test_the_percentile_needs_twenty_replies() -> None:
    assert "rtt_p95_s" not in measured(echoes(*[n / 1000 for n in range(1, 20)]))
    assert measured(echoes(*[n / 1000 for n in range(1, 21)]))["rtt_p95_s"] == 0.019
    assert measured(echoes(*[n / 1000 for n in range(1, 101)]))["rtt_p95_s"] == 0.095


def test_odd_replies_are_counted_and_the_worst_clock_named() -> None:
    found = measured([echo(0.01, twice=True), echo(0.01, by="kernel_rx"), echo(0.01, reordered=True)])
    assert (found["duplicates"], found["reordered"], found["timestamping"]) == (1, 1, "kernel_rx")
    assert measured([echo(0.01), echo(0.01, by="user")])["timestamping"] == "user"


OVERLOAD = Failed(Failure.OVERLOAD, "no packet budget")
NO_ROUTE = Failed(Failure.LOCAL_ROUTE, "no route")
BUSY = deafness(1.5, overflowed=False)
ERROR = IcmpError("10.0.0.1", 1, "10.9.9.9", 3, 1)


@pytest.mark.parametrize(
    ("sent", "stopped", "deaf", "failure"),
    [
        (echoes(0.01, None), None, "", None),
        (echoes(0.01, None), OVERLOAD, BUSY, None),
        ([echo(error=ERROR), echo(0.01)], None, "", None),
        (echoes(None, None), None, "", Failure.TIMEOUT),
        (echoes(None, None), None, BUSY, Failure.OVERLOAD),
        (echoes(None), OVERLOAD, "", Failure.TIMEOUT),
        (echoes(None), NO_ROUTE, "", Failure.LOCAL_ROUTE),
        ([], OVERLOAD, "", Failure.OVERLOAD),
        ([], NO_ROUTE, "", Failure.LOCAL_ROUTE),
        ([echo(), echo(error=ERROR)], OVERLOAD, "", Failure.UNREACHABLE),
    ],
)
def test_judgement(sent: Sequence[Echo], stopped: Failed | None, deaf: str, failure: Failure | None) -> None:
    failed = judged(sent, stopped, deaf)
    assert (failed.failure if failed else None) is failure


def test_who_was_deaf_knows_of_no_loss() -> None:
    assert [bool(deafness(late_s, overflowed)) for late_s, overflowed in ((0.9, False), (1.1, False), (0, True))] == [
        False,
        True,
        True,
    ]
    assert "loss_ratio" not in measured(echoes(0.01, None), BUSY)
    assert measured(echoes(0.01, None), BUSY)["received"] == 1
    assert measured(echoes(0.01, 0.01), BUSY)["loss_ratio"] == 0.0


def test_what_came_after_a_run_is_in_the_next_record_and_only_there() -> None:
    aftermath = Aftermath(late_replies=2, duplicates=1)
    silent = with_aftermath(measured(echoes(None)), aftermath)
    assert (silent["late_replies"], "duplicates" in silent) == (2, False)
    assert (aftermath.late_replies, aftermath.duplicates) == (0, 1)  # it waits for a record with replies
    answered = with_aftermath(measured([echo(0.01, twice=True)]), aftermath)
    assert (answered["late_replies"], answered["duplicates"], aftermath.duplicates) == (0, 2, 0)


def test_an_icmp_error_names_who_sent_it() -> None:
    failed = judged([echo(error=ERROR)], None, "")
    assert failed is not None
    assert failed.fields == {"responder": "10.9.9.9", "icmp_type": 3, "icmp_code": 1}


def test_each_echo_is_explained() -> None:
    assert "0.500 ms" in told(echo(0.0005))
    assert "3/1 from 10.9.9.9" in told(echo(error=ERROR))
    assert "not answered" in told(echo())


def test_what_it_declares() -> None:
    check = Icmp(name="a", target="gateway", count=5)
    assert check.sends() == (Traffic("gateway", "icmp", None, 5),)
    assert (check.asked, check.layer_or_default, check.default_timeout_s) == ("gateway", "service", 4.0)
    kinds = {o.key: o.kind for o in options_of(Icmp)}
    assert isinstance(kinds["target"], Host) and kinds["target"].read("gateway") == "gateway"
    with pytest.raises(ValueError, match="from 0 to 1472"):
        kinds["packet_size"].read("1473")


def test_a_denied_target_is_never_asked() -> None:
    found = ask(Icmp(name="a", target="127.0.0.1", timeout_s=1), deny=(ip_network("127.0.0.0/8"),))
    assert isinstance(found, Facts)
    assert (found.failure, found.fields["sent"], found.address) == (Failure.LOCAL_POLICY, 0, "127.0.0.1")


@pytest.fixture
def icmp_allowed() -> None:
    try:
        open_wire(4).sock.close()
    except Failed as failed:
        pytest.skip(f"needs an ICMP socket: {failed.detail}")


@pytest.mark.usefixtures("icmp_allowed")
class TestOnLoopback:
    """With the real endpoint."""

    def test_it_passes_and_ends_early(self) -> None:
        began = time.monotonic()
        found = as_dict(ask(Icmp(name="a", target="127.0.0.1", timeout_s=20, count=2)))
        assert (found["failure"], found["sent"], found["received"], found["address"]) == (None, 2, 2, "127.0.0.1")
        assert time.monotonic() - began < 10

    def test_a_confirmation_is_one_echo(self) -> None:
        assert as_dict(ask(Icmp(name="a", target="127.0.0.1", count=50), once=True))["sent"] == 1

    def test_a_short_timeout_draws_the_echoes_together(self) -> None:
        found = as_dict(ask(Icmp(name="a", target="127.0.0.1", timeout_s=0.5, count=20)))
        assert (found["failure"], found["sent"], found["received"]) == (None, 20, 20)
        assert "rtt_p95_s" in found

    def test_a_budget_that_ends_on_the_way_leaves_what_was_sent(self) -> None:
        """Loopback is not rated, so a gate that lets two through stands for an empty budget."""

        class Narrow(Gate):
            left = 2

            async def permit(self, *words: object, **more: object) -> object:  # type: ignore[override]
                self.left -= 1
                if self.left < 0:
                    raise OVERLOAD
                return await super().permit(*words, **more)  # type: ignore[arg-type]

        async def story() -> Facts:
            gate, tools = Narrow(Policy()), Toolbox()
            deadline = asyncio.get_running_loop().time() + 2
            try:
                return await Icmp(name="a", target="127.0.0.1").run(Context(gate, tools, Resolver(gate), deadline))
            finally:
                await tools.aclose()

        found = asyncio.run(story())
        assert (found.failure, found.fields["sent"], found.fields["received"]) == (None, 2, 2)

    def test_a_starved_loop_still_reads_what_came_in_time(self) -> None:
        async def story() -> Facts:
            gate, tools = Gate(Policy()), Toolbox()
            loop = asyncio.get_running_loop()
            ctx = Context(gate, tools, Resolver(gate), loop.time() + 0.3)
            loop.call_later(0.02, time.sleep, 1.3)  # the whole process stands still
            try:
                return await Icmp(name="a", target="127.0.0.1", count=3).run(ctx)
            finally:
                await tools.aclose()

        found = asyncio.run(story())
        assert (found.failure, found.fields["received"]) == (None, found.fields["sent"])
        assert float(str(found.fields["rtt_max_s"])) < 1

    def test_a_stall_past_every_deadline_is_overload_or_the_truth_but_never_loss(self) -> None:
        """Through the runner, whose own limit is due at the same moment as the check's."""

        async def story(stall_s: float) -> Run:
            gate, tools = Gate(Policy()), Toolbox()
            runner = Runner(gate, tools, Resolver(gate), Clock("trusted"))
            asyncio.get_running_loop().call_later(0.05, time.sleep, stall_s)  # the whole process stands still
            try:
                return await runner.run(Icmp(name="a", target="127.0.0.1", count=3, timeout_s=0.3))
            finally:
                await tools.aclose()

        for stall_s in (0.3, 0.8, 1.6):  # until after the check's deadline, the runner's, and far beyond
            fields = asyncio.run(story(stall_s)).record.fields
            assert fields.get("failure") in (None, "overload"), fields
            assert fields.get("loss_ratio", 0.0) == 0.0, fields
