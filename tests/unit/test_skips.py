"""A skip is named at the end; in CI it is a failure, unless .ci/allowed-skips lists it with a reason."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import conftest

SKIPPING = """
import pytest

def test_one():
    assert True

@pytest.mark.parametrize("n", [1])
def test_two(n):
    pytest.skip("snmpd is not installed")
"""


def run(directory: Path, allowed: str, ci: str = "true") -> subprocess.CompletedProcess[str]:
    """Run pytest in a small tree of its own that has our conftest.py."""
    (directory / ".ci").mkdir()
    (directory / ".ci" / "allowed-skips").write_text(allowed)
    (directory / "tests").mkdir()
    shutil.copy(conftest.__file__, directory / "tests")
    (directory / "tests" / "test_it.py").write_text(SKIPPING)
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(directory), "-p", "no:cacheprovider"]
    environment = os.environ | {"CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        command, cwd=directory, env=environment, check=False, capture_output=True, text=True, timeout=30
    )


@pytest.mark.parametrize(
    ("allowed", "ci", "code"),
    [
        ("", "", 0),
        ("# only a remark\n", "true", 1),
        ("tests/test_it.py::test_two # needs a kernel that CI lacks\n", "true", 0),
        ("tests/test_it.py::test_two[1] # needs a kernel that CI lacks\n", "true", 0),
        ("tests/test_it.py::test_two[2] # another one\n", "true", 1),
        ("tests/test_it.py::test_two\n", "true", 1),
    ],
)
def test_exit_code(tmp_path: Path, allowed: str, ci: str, code: int) -> None:
    done = run(tmp_path, allowed, ci)
    assert done.returncode == code, done.stdout + done.stderr
    assert "skipped 1:\n  tests/test_it.py::test_two[1] — snmpd is not installed\n" in done.stdout
    assert ("FAILED" in done.stdout) == bool(code)


def test_our_own_list_is_in_order() -> None:
    allowed = conftest.allowed_skips(conftest.ALLOWED_SKIPS.read_text())
    tree = conftest.ALLOWED_SKIPS.parent.parent
    assert [test for test in allowed if not (tree / test.partition("::")[0]).exists()] == []
