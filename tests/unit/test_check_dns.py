"""The dns check against a scripted name server: questions, answers and what they mean."""

from __future__ import annotations

from collections.abc import Sequence

import dns.flags
import dns.message
import dns.reversename
import dns.rrset
import pytest

from agent.check import Traffic
from agent.checks.dns import QUERY, Dns
from agent.model import Failure
from tests.rigs.name_server import NAME, ask, records, reply
from tests.rigs.servers import LOOPBACK


def test_passes_with_answers_sorted() -> None:
    facts = ask(records(f"{NAME} A 198.51.100.21", f"{NAME} A 198.51.100.20"))
    assert facts.failure is None
    assert facts.address == LOOPBACK
    assert facts.fields["answers"] == "198.51.100.20,198.51.100.21"
    assert facts.fields["rcode"] == "NOERROR"
    assert isinstance(facts.fields["response_s"], float)
    assert list(facts.fields) == ["response_s", "rcode", "answers"]


@pytest.mark.parametrize(
    ("record", "data", "shown"),
    [
        ("AAAA", "2001:DB8:0:0::1", "2001:db8::1"),
        ("SRV", "0 100 389 DC1.example.org.", "0 100 389 dc1.example.org"),
        ("MX", "10 mail.example.org.", "10 mail.example.org"),
        ("MX", "0 .", "0 ."),
        ("NS", "ns.example.org.", "ns.example.org"),
        ("TXT", '"v=spf1 " "-all"', "v=spf1 -all"),
        ("TXT", r'"a\000b\255"', "a\N{REPLACEMENT CHARACTER}b\\xff"),
        ("CNAME", "www.example.org.", "www.example.org"),
        ("SOA", "ns.example.org. host.example.org. 1 2 3 4 5", "ns.example.org host.example.org 1 2 3 4 5"),
    ],
)
def test_every_record_type_is_shown_and_compared_as_text(record: str, data: str, shown: str) -> None:
    facts = ask(records(f"{NAME} {record} {data}"), record=record, expect=[shown])
    assert facts.failure is None
    assert facts.fields["answers"] == shown


def test_asks_a_recursive_question_with_edns_and_a_fresh_id() -> None:
    seen: list[dns.message.Message] = []

    def answer(query: bytes) -> list[bytes]:
        seen.append(dns.message.from_wire(query))
        return [reply(query, f"{NAME} A 198.51.100.20")]

    for _ in range(3):
        ask(answer)
    assert all(query.flags & dns.flags.RD for query in seen)
    assert {query.payload for query in seen} == {1232}
    assert len({query.id for query in seen}) > 1


@pytest.mark.parametrize("address", ["198.51.100.20", "2001:db8::1"])
def test_a_ptr_query_may_be_an_address(address: str) -> None:
    owner = dns.reversename.from_address(address).to_text()
    facts = ask(records(f"{owner} PTR epr.example.org."), query=address, record="PTR")
    assert facts.fields["answers"] == "epr.example.org"


def test_follows_cname_within_the_answer() -> None:
    chain = (
        f"{NAME} CNAME www.example.org.",
        "www.example.org. CNAME host.example.org.",
        "host.example.org. A 10.0.0.1",
    )
    assert ask(records(*chain)).fields["answers"] == "10.0.0.1"


def test_a_cname_that_leads_nowhere_is_a_wrong_answer() -> None:
    facts = ask(records(f"{NAME} CNAME www.example.org."))
    assert facts.failure is Failure.DNS_MISMATCH


def test_a_cname_that_leads_to_itself_is_a_failure() -> None:
    facts = ask(records(f"{NAME} CNAME {NAME}"))
    assert facts.failure is Failure.PROTOCOL


@pytest.mark.parametrize(
    ("rcode", "failure"),
    [
        ("NXDOMAIN", Failure.DNS_NXDOMAIN),
        ("SERVFAIL", Failure.DNS_SERVFAIL),
        ("REFUSED", Failure.DNS_REFUSED),
        ("NOTIMP", Failure.PROTOCOL),
        ("FORMERR", Failure.PROTOCOL),
        ("BADVERS", Failure.PROTOCOL),
    ],
)
def test_every_rcode_has_its_failure_and_its_fields(rcode: str, failure: Failure) -> None:
    facts = ask(records(rcode=rcode))
    assert facts.failure is failure
    assert facts.fields["rcode"] == rcode
    assert "response_s" in facts.fields
    assert rcode in facts.detail


def test_a_failure_without_the_question_is_still_an_answer() -> None:
    assert ask(records(rcode="SERVFAIL", change=lambda answer: answer.question.clear())).failure is Failure.DNS_SERVFAIL


def test_no_record_of_the_type_is_a_wrong_answer() -> None:
    facts = ask(records())
    assert facts.failure is Failure.DNS_MISMATCH
    assert facts.fields["answers"] == ""


@pytest.mark.parametrize(
    ("answers", "expect", "right"),
    [
        (("10.0.0.1",), ("10.0.0.1",), True),
        (("10.0.0.1",), ("10.0.0.1", "10.0.0.2"), True),
        (("10.0.0.1", "10.0.0.3"), ("10.0.0.1", "10.0.0.2"), False),
        (("10.0.0.3",), ("10.0.0.1",), False),
    ],
)
def test_expect_lists_what_is_allowed(answers: Sequence[str], expect: Sequence[str], right: bool) -> None:
    facts = ask(records(*(f"{NAME} A {address}" for address in answers)), expect=expect)
    assert facts.failure is (None if right else Failure.DNS_MISMATCH)
    assert facts.fields["answers"] == ",".join(answers)


def test_expect_compares_addresses_and_names_not_letters() -> None:
    assert ask(records(f"{NAME} AAAA 2001:db8::1"), record="AAAA", expect=["2001:0DB8:0::1"]).failure is None
    assert ask(records(f"{NAME} NS Ns.Example.org."), record="NS", expect=["ns.example.org."]).failure is None


def test_declares_what_it_sends_and_where() -> None:
    check = Dns(name="a", server="resolver", query=NAME)
    assert check.sends() == (Traffic("resolver", "udp", 53, 1), Traffic("resolver", "tcp", 53, 1))
    assert check.asked == "resolver"
    assert check.layer_or_default == "dns"
    assert (check.default_timeout_s, check.main_field) == (2.0, "response_s")


@pytest.mark.parametrize(
    "text",
    [
        ".",
        "epr",
        "epr.example.org",
        "epr.example.org.",
        "_ldap._tcp.dc._msdcs.example.org",
        "10.0.0.1",
        "2001:db8::1",
        "::1",
    ],
)
def test_what_may_be_asked_for(text: str) -> None:
    assert QUERY.read(text) == text


@pytest.mark.parametrize("text", ["", "a..b", "a b", "-a", "a" * 64, "*.example.org", "http://a"])
def test_what_may_not_be_asked_for(text: str) -> None:
    with pytest.raises(ValueError, match="DNS name"):
        QUERY.read(text)
