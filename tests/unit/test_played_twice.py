"""A real test that fails once is played again and named; one that fails twice, or a third such test, is a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real import conftest

ONCE = """
import pathlib

def test_{n}():
    mark = pathlib.Path("{n}.mark")
    first = not mark.exists()
    mark.touch()
    assert not first, "{n} was too slow"
"""


def run(directory: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a small tree of its own that has the conftest.py of tests/real."""
    shutil.copy(conftest.__file__, directory)
    (directory / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "pytest_rerunfailures"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        command, cwd=directory, env=environment, check=False, capture_output=True, text=True, timeout=30
    )


@pytest.mark.parametrize(("tests", "code"), [(1, 0), (2, 0), (3, 1)])
def test_so_many_may_fail_once(tmp_path: Path, tests: int, code: int) -> None:
    done = run(tmp_path, "".join(ONCE.format(n=n) for n in range(tests)))
    assert done.returncode == code, done.stdout + done.stderr
    assert f"played twice, since they failed once: {tests}\n  test_it.py::test_0\n" in done.stdout
    assert "0 was too slow" in done.stdout
    assert ("FAILED at most 2" in done.stdout) == bool(code)


def test_none_may_fail_twice(tmp_path: Path) -> None:
    done = run(tmp_path, "def test_it():\n    assert False, 'always'\n")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 rerun" in done.stdout
