"""What errors of the kernel and of routers mean."""

from __future__ import annotations

import errno

import pytest

from agent.model import Failure
from agent.net.errors import failed_from_icmp, failed_from_os_error


@pytest.mark.parametrize(
    ("number", "failure"),
    [
        (errno.ECONNREFUSED, Failure.REFUSED),
        (errno.ECONNRESET, Failure.RESET),
        (errno.EHOSTUNREACH, Failure.UNREACHABLE),
        (errno.ENETUNREACH, Failure.LOCAL_ROUTE),
        (errno.EADDRNOTAVAIL, Failure.LOCAL_ADDRESS),
        (errno.ENETDOWN, Failure.LOCAL_LINK),
        (errno.EPERM, Failure.LOCAL_PERMISSION),
        (errno.EACCES, Failure.LOCAL_PERMISSION),
        (errno.EMFILE, Failure.OVERLOAD),
        (errno.ENFILE, Failure.OVERLOAD),
        (errno.ENOBUFS, Failure.OVERLOAD),
        (errno.ENOMEM, Failure.OVERLOAD),
        (errno.ETIMEDOUT, Failure.TIMEOUT),
        (errno.ENOTTY, Failure.INTERNAL),
    ],
)
def test_errno(number: int, failure: Failure) -> None:
    failed = failed_from_os_error(OSError(number, "x"), sent=0)
    assert (failed.failure, failed.fields) == (failure, {"sent": 0})
    assert len(failed.detail) > 5


def test_error_without_a_number() -> None:
    assert failed_from_os_error(TimeoutError()).failure is Failure.TIMEOUT
    assert failed_from_os_error(OSError("all of them failed")).failure is Failure.INTERNAL


@pytest.mark.parametrize(
    ("words", "responder", "failure"),
    [
        ((3, 0), "10.0.0.1", Failure.UNREACHABLE),
        ((3, 1), "10.0.0.1", Failure.UNREACHABLE),
        ((3, 3), "10.0.0.1", Failure.REFUSED),
        ((3, 6), "10.0.0.1", Failure.UNREACHABLE),
        ((3, 9), "10.0.0.1", Failure.PROHIBITED),
        ((3, 10), "10.0.0.1", Failure.PROHIBITED),
        ((3, 13), "10.0.0.1", Failure.PROHIBITED),
        ((11, 0), "10.0.0.1", Failure.UNREACHABLE),
        ((12, 0), "10.0.0.1", Failure.PROTOCOL),
        ((1, 0), "fd00::1", Failure.UNREACHABLE),
        ((1, 1), "fd00::1", Failure.PROHIBITED),
        ((1, 3), "fd00::1", Failure.UNREACHABLE),
        ((1, 4), "fd00::1", Failure.REFUSED),
        ((1, 6), "fd00::1", Failure.PROHIBITED),
        ((2, 0), "fd00::1", Failure.UNREACHABLE),
        ((3, 0), "fd00::1", Failure.UNREACHABLE),
    ],
)
def test_icmp(words: tuple[int, int], responder: str, failure: Failure) -> None:
    failed = failed_from_icmp(*words, responder)
    assert failed.failure is failure
    assert failed.fields == {"responder": responder, "icmp_type": words[0], "icmp_code": words[1]}
    assert responder in failed.detail


def test_own_address_means_a_silent_neighbour() -> None:
    failed = failed_from_icmp(3, 13, "10.0.0.2", ("10.0.0.2",))
    assert (failed.failure, failed.fields["responder"]) == (Failure.UNREACHABLE, "10.0.0.2")
    assert "neighbour" in failed.detail
