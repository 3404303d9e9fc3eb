"""The real agent as a process of its own, and the config that it runs with.

with RunningAgent(folder, config_text(folder, port, checks)) as agent:
    agent.stop()      # SIGTERM: an orderly end
    agent.kill()      # SIGKILL
    agent.start()
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

END_S = 15.0

CONFIG = """\
version: 1
clock: trusted
identity: {{org: {org}, site: {site}, node: {node}, title: Test site, tags: {{carrier: none}}}}
mqtt: {{url: "mqtt://127.0.0.1:{port}", protocol: "{protocol}", spread: 500ms, retry_max: 1s, late_rate: 0{mqtt}}}
buffer: {{directory: {directory}, commit: 100ms}}
safety: {{packets_per_second: 0, burst: 0, target_per_second: 0, target_burst: 0}}
standard: false
checks: {checks}
"""


def config_text(
    folder: Path,
    port: int,
    checks: Sequence[str],
    *,
    org: str = "o",
    site: str = "s",
    node: str = "n",
    protocol: str = "5",
    mqtt: str = "",
) -> str:
    """Write a config with these checks (each a YAML map); `mqtt` are further keys of that section."""
    listed = "".join(f"\n  - {check}" for check in checks) or " []"
    return CONFIG.format(
        org=org,
        site=site,
        node=node,
        port=port,
        protocol=protocol,
        mqtt=mqtt,
        directory=folder / "store",
        checks=listed,
    )


class RunningAgent:
    """One agent; its log goes to `log`."""

    def __init__(self, folder: Path, text: str) -> None:
        """Write the config; `start` runs it."""
        self.file, self.log = folder / "siteprobe.yaml", folder / "siteprobe.log"
        self.file.write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it, if it still runs."""
        if self._process:
            self.kill()

    def start(self) -> None:
        """Start it; that it lives is seen by what it publishes."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "agent.service", str(self.file)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self) -> None:
        """End it in an orderly way (SIGTERM); its exit code must be 0."""
        assert self._process
        self._process.terminate()
        assert self._process.wait(END_S) == 0, self.log.read_text()
        self._process = None

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self._process
        self._process.kill()
        self._process.wait(END_S)
        self._process = None

    def reload(self, text: str) -> None:
        """Write another config and have it read (SIGHUP)."""
        assert self._process
        self.file.write_text(text)
        self._process.send_signal(signal.SIGHUP)
