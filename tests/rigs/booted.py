"""A machine of its own whose process 1 is the real systemd, with siteprobe put on it by the README's commands.

    with Booted(folder) as machine:
        machine.install(config)
        machine.run("systemctl", "is-active", "siteprobe")

All its processes, its network and what it writes are gone at the end. Skips the test where the kernel or the
installed programs do not allow it, saying what is missing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from tests.rigs import need

TREE = Path(__file__).parents[2]
GROUPS = Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")
SPACES = ("-m", "-p", "-n", "-u", "-i", "-C")
BOOT_S = 30.0
PYTHON = "/usr/bin/python3"
PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
WITHOUT_NETWORK = "PYTHONPATH=/usr/src/packages PIP_NO_INDEX=1 PIP_NO_BUILD_ISOLATION=off PIP_IGNORE_INSTALLED=1"


class Booted:
    """The machine; `run` and `sh` do something on it as root."""

    def __init__(self, folder: Path) -> None:
        """Prepare a room in `folder`; nothing is started."""
        need.root()
        for name in ("unshare", "nsenter", "setpriv", "systemctl", "mosquitto", "mosquitto_sub"):
            need.tool(name)
        version = subprocess.run([PYTHON, "--version"], check=False, capture_output=True, text=True).stdout
        if f"Python 3.{sys.version_info.minor}." not in version:
            pytest.skip(f"needs {PYTHON} to be of the version that .venv is of")
        self._room = folder / "room"
        self._room.mkdir()
        self._log = folder / "boot.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._inside: list[str] = []
        self._group = Path()

    def __enter__(self) -> Self:
        """Boot it; skips the test where that is not possible."""
        try:
            root = next(place for place in GROUPS if (place / "cgroup.procs").exists())
            self._group = root / f"siteprobe-tests-{os.getpid()}"
            self._group.mkdir()
        except (StopIteration, OSError) as error:
            pytest.skip(f"needs a cgroup of its own (cgroup2), which this machine refuses: {error}")
        packages = next((TREE / ".venv" / "lib").glob("python3*")) / "site-packages"
        boot = [str(TREE / "tests/rigs/boot-systemd"), str(self._room), str(packages), str(TREE)]
        enter = f'echo $$ > {self._group}/cgroup.procs; exec unshare {" ".join(SPACES)} --fork --kill-child "$@"'
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(["sh", "-c", enter, "sh", *boot], stdout=log, stderr=log)
        try:
            self._await_boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _await_boot(self) -> None:
        assert self._process
        end, children = time.monotonic() + BOOT_S, Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        while time.monotonic() < end and self._process.poll() is None:
            first = children.read_text().split()
            if first:
                self._inside = ["nsenter", "-t", first[0], *SPACES, "-r", "-w", "--", "env", "-i", PATH]
                if self.sh("systemctl is-system-running 2>&1", check=False).strip() in ("running", "degraded"):
                    return
            time.sleep(0.2)
        pytest.skip(f"needs a systemd that starts in namespaces; here: {self._log.read_text() or 'nothing was said'}")

    def __exit__(self, *_: object) -> None:
        """End it: with its process 1 everything of it ends."""
        if self._process:
            self._process.kill()
            self._process.wait(10)
            self._process = None
        end = time.monotonic() + 10
        while self._group.exists() and time.monotonic() < end:
            for place in sorted(self._group.rglob("*/"), key=lambda path: -len(path.parts)):
                if place.is_dir():
                    _try_to_remove(place)
            _try_to_remove(self._group)
            time.sleep(0.05)

    def sh(self, script: str, *, check: bool = True, seconds: float = 60) -> str:
        """Run a shell script on it as root; gives what it printed."""
        done = subprocess.run(
            [*self._inside, "sh", "-c", script], check=False, capture_output=True, text=True, timeout=seconds
        )
        assert not check or done.returncode == 0, f"{script}: exit {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def write(self, place: str, text: str) -> None:
        """Write a file on it."""
        done = subprocess.run(
            [*self._inside, "sh", "-c", f"mkdir -p $(dirname {place}) && cat > {place}"],
            check=False,
            input=text.encode(),
            timeout=30,
        )
        assert done.returncode == 0

    def install(self, config: str) -> None:
        """Put siteprobe on it with the README's own commands, but with the packages of .venv: nothing is fetched."""
        self.write("/usr/src/siteprobe/my.yaml", config)
        for command in readme_commands():
            if "requirements.lock" in command:
                site = "$(/opt/siteprobe/bin/python -c 'import sysconfig; print(sysconfig.get_path(\"purelib\"))')"
                command = f"echo /usr/src/packages > {site}/packages.pth"
            self.sh(f"cd /usr/src/siteprobe && export {WITHOUT_NETWORK} && {command}")

    def status(self) -> dict[str, Any]:
        """Ask the running service, as the README says; {} where it does not run."""
        answer: dict[str, Any] = json.loads(self.sh("/opt/siteprobe/bin/siteprobe status --json", check=False) or "{}")
        return answer

    def wait_for(self, condition: Callable[[dict[str, Any]], Any], seconds: float) -> dict[str, Any]:
        """Wait until the service's answer meets the condition; gives the answer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.status()
            if found and condition(found):
                return found
            time.sleep(0.2)
        raise AssertionError(f"not within {seconds:g} s: {found}; log: {self.journal()}")

    def shown(self, key: str) -> str:
        """Give a property of the unit, as systemd has it."""
        return self.sh(f"systemctl show siteprobe --property={key} --value").strip()

    def journal(self) -> str:
        """Give what the service logged."""
        return self.sh("journalctl --unit siteprobe --no-pager --output cat")


def readme_commands() -> list[str]:
    """Give the commands of the README that install siteprobe, but for `git clone`, as root would type them."""
    text = (TREE / "README.md").read_text()
    block = re.search(r"## Install it on a Raspberry Pi\n\n```sh\n(.*?)```", text, re.DOTALL)
    assert block
    lines = [line.replace("sudo ", "") for line in block[1].splitlines()]
    return [line for line in lines if not line.startswith("git clone")]


def _try_to_remove(group: Path) -> None:
    """Remove an empty cgroup; one whose processes have not ended yet stays for now."""
    try:
        group.rmdir()
    except OSError:
        return
