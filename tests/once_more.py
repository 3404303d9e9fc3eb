"""Play tests; those that fail are played once more, alone in a new process, and named at the end.

    python -m tests.once_more tests/real tests/lab

Real daemons, real clocks and two busy cores: a wait can be too short once in a thousand, and a scene that several
tests share would only be looked at again by a second try in the same process. What fails twice is a fault, and so is
a tree in which much fails now and then. Each name printed at the end deserves a look.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.conftest import forbidden_skips

AT_MOST = 2
"""So many tests may need their second try; a tree with more of them is not sound."""


class Failures:
    """Remembers each test that failed, in whichever phase, and whether a skip was not allowed."""

    def __init__(self) -> None:
        """Begin with none."""
        self.tests: list[str] = []
        self.skips: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """See a test's report."""
        if report.failed and report.nodeid not in self.tests:
            self.tests.append(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """See the end, before the exit code is made of it."""
        self.skips = forbidden_skips(session.config)


def main(paths: Sequence[str]) -> int:
    """Play the tests of files and folders; give pytest's exit code: that of the second try where there is one."""
    failures = Failures()
    code = int(pytest.main(["--quiet", *paths], plugins=[failures]))
    tests = failures.tests
    if code != pytest.ExitCode.TESTS_FAILED or not tests or failures.skips:
        return code
    if len(tests) > AT_MOST:
        print(f"FAILED {len(tests)} tests; up to {AT_MOST} would be played once more")
        return code
    print(f"\nplayed once more, alone: {len(tests)}", *tests, sep="\n  ", flush=True)
    again = subprocess.run([sys.executable, "-m", "pytest", "--quiet", *tests], check=False)
    if not again.returncode:
        print(f"failed once and passed once, please look at why: {len(tests)}", *tests, sep="\n  ")
    return again.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
