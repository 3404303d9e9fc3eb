"""Prints one line for each long run as soon as it ends: how it went, how long it took, and what it printed."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str, str] | None:
    """Count a passed run without its dot: the line stands for it."""
    if isinstance(report, pytest.TestReport) and is_ours(report) and report.passed:
        return ("passed" if report.when == "call" else "", "", "")
    return None


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print the line past the capturing of output, which is over here."""
    if is_ours(report) and (report.when == "call" or not report.passed):
        said = "; ".join(report.capstdout.split("\n")[:-1])
        print(f"{report.outcome:7} {report.duration:5.0f} s  {report.nodeid.partition('::')[2]}: {said}", flush=True)


def is_ours(report: pytest.TestReport) -> bool:
    """Tell whether a report is of a test below this folder, whichever folder pytest was started from."""
    return HERE.name in Path(report.nodeid.partition("::")[0]).parts
