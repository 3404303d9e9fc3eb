"""A PostgreSQL server of the test's own: a fresh cluster in a folder of its own, reached over a Unix socket only.

Skips the test where PostgreSQL is not installed. initdb refuses to run as root, so root becomes `nobody` for it.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import pytest

START_S = 30.0


def binaries() -> Path:
    """Find the newest installed server, or skip the test."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if not found:
        pytest.skip("needs PostgreSQL, which is not installed")
    return found[-1].parent


class Postgres:
    """One server with one client, psql."""

    def __init__(self) -> None:
        """Find the programs; `with` makes the cluster and starts the server."""
        self._bin = binaries()
        self._user = "nobody" if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Make the cluster and start the server."""
        # Not in pytest's own folder: `nobody` may not pass through it; and a socket's path must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="siteprobe-pg-"))
        if self._user:
            shutil.chown(self._folder, self._user)
        data = str(self._folder / "data")
        self._run("initdb", "--auth=trust", "--username=test", "--no-sync", "--encoding=UTF8", "--pgdata", data)
        self._log = self._folder / "log"
        settings = ("listen_addresses=", f"unix_socket_directories={self._folder}", "fsync=off")
        options = [word for setting in settings for word in ("-c", setting)]
        with self._log.open("wb") as log:
            command = [str(self._bin / "postgres"), "-D", data, *options]
            self._process = subprocess.Popen(command, user=self._user, stdout=log, stderr=log, cwd=self._folder)
        self._await_ready()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server at once and remove everything."""
        assert self._process
        self._process.terminate()
        self._process.wait(START_S)
        shutil.rmtree(self._folder)

    def _await_ready(self) -> None:
        end = time.monotonic() + START_S
        while subprocess.run(self._client("pg_isready"), check=False, capture_output=True).returncode:
            assert time.monotonic() < end, self._log.read_text()
            time.sleep(0.05)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), *arguments]
        subprocess.run(command, check=True, user=self._user, cwd=self._folder, capture_output=True, timeout=60)

    def _client(self, program: str, *arguments: str) -> list[str]:
        return [str(self._bin / program), "--host", str(self._folder), "--username=test", *arguments]

    def fresh_database(self) -> None:
        """Begin with an empty database."""
        self.ask("DROP SCHEMA public CASCADE", {})
        self.ask("CREATE SCHEMA public", {})

    def ask(self, sql: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Run a statement with `:name` parameters; whole numbers come back as such. Raises CalledProcessError."""
        text = re.sub(r"(?<!:):(\w+)", lambda found: literal(values[found[1]]), sql)
        command = self._client("psql", "--dbname=postgres", "--no-psqlrc", "--csv", "--tuples-only", "--quiet")
        asked = [*command, "--set=ON_ERROR_STOP=1", "--command", text]
        done = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=30)
        rows = csv.reader(io.StringIO(done.stdout))
        return [tuple(int(cell) if cell.isdecimal() else cell for cell in row) for row in rows if row]


def literal(value: Any) -> str:
    """Write a value as SQL."""
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"
