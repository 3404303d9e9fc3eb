"""Counts and names what was skipped; in CI a skip that .ci/allowed-skips does not list is a failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ALLOWED_SKIPS = Path(__file__).parent.parent / ".ci" / "allowed-skips"
SKIPPED = pytest.StashKey[dict[str, str]]()


def allowed_skips(text: str) -> dict[str, str]:
    """Read `TEST # reason` lines into test -> reason; raises ValueError for a line without a reason."""
    lines = [line.strip() for line in text.splitlines()]
    found = {}
    for line in lines:
        if not line or line.startswith("#"):
            continue
        test, _, reason = (part.strip() for part in line.partition(" # "))
        if not reason:
            raise ValueError(f"{ALLOWED_SKIPS}: `{line}` has no reason; write: TEST # reason")
        found[test] = reason
    return found


def not_allowed(skipped: dict[str, str], allowed: dict[str, str]) -> list[str]:
    """Give the skipped tests that no line covers; a line without [parameters] covers all of a test's."""
    return [test for test in skipped if test not in allowed and test.partition("[")[0] not in allowed]


def pytest_configure(config: pytest.Config) -> None:
    """Begin an empty list of skips."""
    config.stash[SKIPPED] = {}
    config.pluginmanager.register(SkipKeeper(config.stash[SKIPPED]), "siteprobe-skips")


class SkipKeeper:
    """Remembers each skipped test, or whole file, with its reason."""

    def __init__(self, skipped: dict[str, str]) -> None:
        """Keep them in the given dict."""
        self._skipped = skipped

    def _keep(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            where = report.longrepr
            reason = where[2] if isinstance(where, tuple) else str(where)
            self._skipped[report.nodeid] = reason.removeprefix("Skipped: ")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """See a test's report."""
        self._keep(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """See the report of a file that was skipped as a whole."""
        self._keep(report)


def forbidden_skips(config: pytest.Config) -> list[str]:
    """Give one line for each skip that CI does not allow; none outside CI."""
    if os.environ.get("CI") != "true":
        return []
    skipped = config.stash.get(SKIPPED, {})
    try:
        allowed = allowed_skips(ALLOWED_SKIPS.read_text())
    except (OSError, ValueError) as error:
        return [str(error)]
    return [f"{test} was skipped, and .ci/allowed-skips does not list it" for test in not_allowed(skipped, allowed)]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a green session in CI that skipped what it may not skip."""
    if session.exitstatus == pytest.ExitCode.OK and forbidden_skips(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the count, then every skipped test with its reason."""
    skipped = config.stash[SKIPPED]
    terminalreporter.write_line(f"\nskipped {len(skipped)}" + (":" if skipped else ""))
    for test, reason in skipped.items():
        terminalreporter.write_line(f"  {test} — {reason}")
    for line in forbidden_skips(config):
        terminalreporter.write_line(f"FAILED {line}", red=True)
