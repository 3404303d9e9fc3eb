"""A file system that is full, has no inodes, or is read-only: small tmpfs mounts in a mount namespace of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.rigs import need

STORY = """
import asyncio, json, os, pathlib, subprocess, sys
from tests.rigs.journals import Bench
from agent.journal import keeper
keeper.RETRY_S = 0.1
root, word = pathlib.Path(sys.argv[1]), sys.argv[2]
subprocess.run(["mount", "-t", "tmpfs", "-o", sys.argv[3], "tmpfs", root], check=True)
filler = root / "filler"
def spoil():
    if word == "full":
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
    else:
        subprocess.run(["mount", "-o", "remount,ro", root], check=True)
def mend():
    if word == "full":
        filler.unlink()
    elif word == "read-only":
        subprocess.run(["mount", "-o", "remount,rw", root], check=True)
    else:
        subprocess.run(["mount", "-o", "remount,nr_inodes=100", root], check=True)
async def main():
    b = Bench(root / "store", commit_s=0.01)
    if word == "read-only":
        spoil()
    async with b.open() as j:
        if word == "full":
            await b.fill(j, 200)
            spoil()
            await b.fill(j, 2000, each=10)
        await b.fill(j, 100)
        assert j.in_memory
        print(j.trouble)
        mend()
        async with asyncio.timeout(10):
            while j.in_memory:
                await asyncio.sleep(0.02)
        await b.fill(j, 100)
        assert not j.in_memory and j.trouble == ""
    kinds = [f["kind"] for f in b.fields("event")]
    assert kinds[0] == "store_in_memory" and kinds[-1] == "store_back", kinds
    shown = {}
    for line in b.seen:
        assert shown.setdefault((line.ep, line.seq), line.text) == line.text
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("word", "options", "expected"),
    [
        ("full", "size=1m", "free some space"),
        ("no-inodes", "nr_inodes=2", "No space left on device"),
        ("read-only", "size=1m", "remount the file system read-write"),
    ],
)
def test_in_memory_and_back(tmp_path: Path, word: str, options: str, expected: str) -> None:
    need.root()
    unshare = [need.tool("unshare"), "-m", "--propagation", "private"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs mount namespaces, which this machine refuses")
    command = [*unshare, sys.executable, "-c", STORY, str(tmp_path), word, options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert expected in done.stdout
