"""A real test that fails is played once more, and named at the end; more than two such tests are a failure.

Real daemons, real clocks and two busy cores: a wait can be too short once in a thousand. What fails twice in a row is
a fault, and so is a tree in which much fails now and then. Each name printed here deserves a look.
"""

from __future__ import annotations

import pytest

MOST_PLAYED_TWICE = 2
PLAYED_TWICE = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin an empty list of tests that were played twice."""
    config.stash[PLAYED_TWICE] = {}
    config.pluginmanager.register(Keeper(config.stash[PLAYED_TWICE]), "siteprobe-played-twice")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have each test of this folder played once more when it fails."""
    for item in items:
        if item.path.is_relative_to(__file__.rpartition("/")[0]):
            item.add_marker(pytest.mark.flaky(reruns=1))


class Keeper:
    """Remembers each test that is played once more, with the end of what went wrong the first time."""

    def __init__(self, played_twice: dict[str, str]) -> None:
        """Keep them in the given dict."""
        self._played_twice = played_twice

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """See a test's report."""
        if str(report.outcome) == "rerun":
            self._played_twice[report.nodeid] = report.longreprtext


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a green session in which too much had to be played twice."""
    too_many = len(session.config.stash[PLAYED_TWICE]) > MOST_PLAYED_TWICE
    if too_many and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was played twice, with what went wrong the first time."""
    found = config.stash[PLAYED_TWICE]
    if found:
        terminalreporter.write_line(f"\nplayed twice, since they failed once: {len(found)}")
    for test, wrong in found.items():
        terminalreporter.write_line(f"  {test}\n    " + wrong.replace("\n", "\n    "))
    if len(found) > MOST_PLAYED_TWICE:
        terminalreporter.write_line(f"FAILED at most {MOST_PLAYED_TWICE} may be played twice", red=True)
