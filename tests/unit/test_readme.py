"""What the README tells a stranger to write is accepted, and so is what the bench writes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent import checks
from bench.peers import Peers
from bench.service import config, icmp, services

TREE = Path(__file__).parents[2]
README = (TREE / "README.md").read_text()
CONTRIBUTING = (TREE / "CONTRIBUTING.md").read_text()


def siteprobe(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    command = [sys.executable, "-m", "agent", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)


def readme_config() -> str:
    """Give the config of ten lines."""
    found = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(readme_config(), id="readme"),
        pytest.param(
            config(1883, Path("/tmp/bench"), [*icmp(3, "1s"), *services(2, "5s", Peers(1024, 1025, "127.0.0.1"))]),
            id="bench",
        ),
    ],
)
def test_the_config_is_valid(tmp_path: Path, text: str) -> None:
    file = tmp_path / "siteprobe.yaml"
    file.write_text(text)
    done = siteprobe("config", "check", "-c", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_commands_of_the_readme_are_those_that_exist() -> None:
    table = README.partition("| command |")[2].partition("\n\n")[0]
    named = re.findall(r"^\| `siteprobe ([a-z]+)", table, re.MULTILINE)
    shown = re.findall(r"^  ([a-z]+)  ", siteprobe("--help").stdout.partition("Commands:")[2], re.MULTILINE)
    assert shown
    assert sorted(set(named)) == sorted(shown)


def test_the_check_types_of_the_readme_are_those_that_exist() -> None:
    table = README.partition("| type |")[2].partition("\n\n")[0]
    named = [name for row in table.splitlines() for name in re.findall(r"`([a-z]+)`", row.split("|")[1])]
    assert sorted(named) == sorted(checks.load())


def test_the_first_screen_says_what_it_is_and_how_to_begin() -> None:
    first = "\n".join(README.splitlines()[:20])
    for words in ("It measures the network", "make demo", "make test", "](docs/overview.svg)"):
        assert words in first


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_every_make_target_that_is_named_exists(text: str) -> None:
    targets = re.findall(r"^([a-z.]+):", (TREE / "Makefile").read_text(), re.MULTILINE)
    named = set(re.findall(r"^make ([a-z.]+)|`make ([a-z.]+)", text, re.MULTILINE))
    assert named
    assert {one or other for one, other in named} <= set(targets)


def test_every_module_on_a_floor_exists() -> None:
    table = CONTRIBUTING.partition("| floor |")[2].partition("\n|--")[2].partition("\n\n")[0]
    named = re.findall(r"`([a-z_]+(?:/|\.py))`", table)
    assert named
    assert [name for name in named if not (TREE / "agent" / name).exists()] == []


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_every_file_that_is_named_exists(text: str) -> None:
    named = re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(r"`((?:config|docs|systemd|tests)/[^`]+)`", text)
    assert named
    named = [name for name in named if "NAME" not in name]
    assert [name for name in named if not (TREE / name).exists()] == []
