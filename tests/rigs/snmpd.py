"""A real snmpd on a free UDP port of 127.0.0.1, with its files in a temporary directory."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rigs import need

COMMUNITY = "canary-public"
AUTH_KEY = "canary-auth-key"
PRIV_KEY = "canary-priv-key"
CONFIG = f"""
agentaddress udp:127.0.0.1:{{port}}
rocommunity {COMMUNITY} 127.0.0.1
rouser sealed authpriv
rouser signed auth
rouser weak authpriv
rouser sha1 authpriv
rouser sha224 authpriv
rouser sha384 authpriv
rouser sha512 authpriv
view narrow included 1.3.6.1.2.1.1.5
rouser narrow auth -V narrow
rouser open noauth
sysName rig-switch
sysContact Mrs Example
sysLocation cupboard 3
sysObjectID 1.3.6.1.4.1.99999.1
"""
USERS = f"""
createUser sealed SHA-256 "{AUTH_KEY}" AES "{PRIV_KEY}"
createUser signed SHA-256 "{AUTH_KEY}"
createUser weak MD5 "{AUTH_KEY}" DES "{PRIV_KEY}"
createUser sha1 SHA "{AUTH_KEY}" AES "{PRIV_KEY}"
createUser sha224 SHA-224 "{AUTH_KEY}" AES "{PRIV_KEY}"
createUser sha384 SHA-384 "{AUTH_KEY}" AES-192 "{PRIV_KEY}"
createUser sha512 SHA-512 "{AUTH_KEY}" AES-256 "{PRIV_KEY}"
createUser narrow SHA-256 "{AUTH_KEY}"
createUser barred SHA-256 "{AUTH_KEY}"
createUser open
"""


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Snmpd:
    def __init__(self, directory: Path) -> None:
        self.port = free_udp_port()
        self._program = need.tool("snmpd")
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "persistent").mkdir()
        (directory / "snmpd.conf").write_text(CONFIG.format(port=self.port))
        (directory / "persistent" / "snmpd.conf").write_text(USERS)

    def start(self) -> None:
        here, persistent = self._directory, self._directory / "persistent"
        paths = {"SNMP_PERSISTENT_DIR": str(persistent), "SNMPCONFPATH": f"{here}:{persistent}", "MIBS": ""}
        command = [self._program, "-f", "-Lf", "log", "-I", "-smux", "-p", "pid"]
        self._process = subprocess.Popen(command, cwd=here, env={**os.environ, **paths}, stderr=subprocess.DEVNULL)
        for _ in range(100):
            if "NET-SNMP version" in self.log():
                return
            time.sleep(0.05)
        raise RuntimeError(f"snmpd did not start: {self.log()}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None
            (self._directory / "log").unlink(missing_ok=True)

    def restart(self) -> None:
        self.stop()
        self.start()

    def forget_engine(self) -> None:
        """Come back as another device: new engine id, boots from 1."""
        self.stop()
        (self._directory / "persistent" / "snmpd.conf").write_text(USERS)
        with (self._directory / "snmpd.conf").open("a") as config:
            config.write("engineID another-device\n")
        self.start()

    def log(self) -> str:
        path = self._directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""


@contextmanager
def snmpd(directory: Path) -> Iterator[Snmpd]:
    daemon = Snmpd(directory)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
