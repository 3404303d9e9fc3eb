"""What a test needs of this machine; without it the test is skipped, saying what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

BESIDE_PATH = "/usr/sbin:/sbin:/opt/siteprobe-tests/usr/sbin"
"""Where else a program may be; tests/install-debian-packages unpacks some into the last."""


def tool(name: str) -> str:
    """Give the path of a program, or skip the test."""
    path = shutil.which(name) or shutil.which(name, path=BESIDE_PATH)
    if path is None:
        pytest.skip(f"needs {name}, which is not installed")
    return path


def root() -> None:
    """Skip the test unless it runs as root."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


def tracing() -> str:
    """Give the path of an strace that may interfere with system calls, or skip the test."""
    path = tool("strace")
    command = [path, "-f", "-o", os.devnull, "-e", "inject=fdatasync:error=EIO:when=1", "true"]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs strace with leave to trace (ptrace), which this machine refuses")
    return path


def mounting() -> list[str]:
    """Give the command that runs another one in a mount namespace of its own, or skip the test."""
    root()
    command = [tool("unshare"), "-m", "--propagation", "private"]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs mount namespaces, which this machine refuses")
    return command


def loop_mounting(directory: Path) -> list[str]:
    """As `mounting`, where an ext4 file system in a file can be mounted too."""
    command, image, place = mounting(), directory / "try.image", directory / "try"
    mkfs = tool("mkfs.ext4")
    with image.open("wb") as file:
        file.truncate(2**20)
    place.mkdir()
    subprocess.run([mkfs, "-q", "-F", image], check=True, capture_output=True)
    tried = subprocess.run([*command, "mount", "-o", "loop", image, place], check=False, capture_output=True)
    image.unlink()
    place.rmdir()
    if tried.returncode:
        pytest.skip("needs loop devices and ext4, which this machine lacks")
    return command
