"""A real test that fails is played once more in a new process, and named; what fails twice stays a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = """
import pathlib
import pytest

@pytest.fixture(scope="module")
def good():
    mark = pathlib.Path(__file__).with_suffix(".mark")
    found = mark.exists()
    mark.touch()
    return found
"""
ONCE = """
def test_{n}(good):
    assert good, "{n} was too slow"
"""


def run(directory: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Play one file of tests in a tree of its own."""
    (directory / "test_it.py").write_text(text)
    (directory / "pytest.ini").write_text("[pytest]\n")
    return subprocess.run(
        [sys.executable, "-m", "tests.once_more", "test_it.py"],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("tests", [1, 2])
def test_what_passes_the_second_time_is_named(tmp_path: Path, tests: int) -> None:
    """Also where the tests share a scene that is made once for the whole file."""
    done = run(tmp_path, SHARED + "".join(ONCE.format(n=n) for n in range(tests)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 was too slow" in done.stdout, "the first time is told whole"
    named = done.stdout.partition("failed once and passed once, please look at why: ")[2].split()
    assert named == [str(tests), *(f"test_it.py::test_{n}" for n in range(tests))]


def test_too_many_are_a_failure(tmp_path: Path) -> None:
    done = run(tmp_path, SHARED + "".join(ONCE.format(n=n) for n in range(3)))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED 3 tests; up to 2 would be played once more" in done.stdout


def test_what_fails_twice_is_a_failure(tmp_path: Path) -> None:
    done = run(tmp_path, "def test_it():\n    assert False, 'always'\n")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("1 failed") == 2
    assert "passed once" not in done.stdout


@pytest.mark.parametrize(("text", "code"), [("def test_it():\n    assert 1 + 1 == 2\n", 0), ("import nothing\n", 2)])
def test_the_rest_is_as_pytest_says(tmp_path: Path, text: str, code: int) -> None:
    done = run(tmp_path, text)
    assert done.returncode == code, done.stdout + done.stderr
    assert "once more" not in done.stdout
