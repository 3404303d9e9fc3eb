"""Fifty switches of 48 ports on the loopback: one real snmpd that answers on as many addresses."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.broker import BenchError, tool, wait_for
from bench.service import address

COMMUNITY = "bench-community"
USER, AUTH_KEY, PRIV_KEY = "bench", "bench-auth-key", "bench-priv-key"
SWITCHES, PORTS = 50, 48
FIRST_INDEX = 1001
COLUMNS = {
    "1.3.6.1.2.1.31.1.1.1.1": ("octet_str", '"Gi1/0/{}"'),
    "1.3.6.1.2.1.2.2.1.8": ("integer", "1"),
    "1.3.6.1.2.1.31.1.1.1.6": ("counter", "12345{}"),
    "1.3.6.1.2.1.31.1.1.1.10": ("counter", "54321{}"),
    "1.3.6.1.2.1.2.2.1.14": ("counter", "{}"),
    "1.3.6.1.2.1.2.2.1.20": ("counter", "{}"),
    "1.3.6.1.2.1.31.1.1.1.15": ("uinteger", "1000"),
}
"""Seven columns of the port table: name, state, octets and errors both ways, speed (snmpd has no Counter64 to give)."""
OIDS = [f"{column}.{FIRST_INDEX + port}" for port in range(PORTS) for column in COLUMNS]


@dataclass(frozen=True)
class Rack:
    """Where the switches are: each has an address of its own, and all the same port."""

    port: int

    @property
    def addresses(self) -> list[str]:
        """Their addresses."""
        return [address(number) for number in range(SWITCHES)]


def _config(port: int) -> str:
    lines = [
        "agentaddress " + ",".join(f"udp:{address(number)}:{port}" for number in range(SWITCHES)),
        f"rocommunity {COMMUNITY} 127.0.0.0/8",
        f"rouser {USER} authpriv",
        "sysObjectID 1.3.6.1.4.1.99999.1",
    ]
    for column, (kind, value) in COLUMNS.items():
        for index in range(FIRST_INDEX, FIRST_INDEX + PORTS):
            lines.append(f"override {column}.{index} {kind} {value.format(index)}")
    return "\n".join(lines) + "\n"


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def rack() -> Iterator[Rack]:
    """Run the snmpd. Raises Missing, and BenchError where it does not start."""
    program, port = tool("snmpd"), _free_port()
    with tempfile.TemporaryDirectory(prefix="siteprobe-bench-") as place:
        here = Path(place)
        (here / "persistent").mkdir()
        (here / "snmpd.conf").write_text(_config(port))
        user = f'createUser {USER} SHA-256 "{AUTH_KEY}" AES "{PRIV_KEY}"\n'
        (here / "persistent" / "snmpd.conf").write_text(user)
        paths = {"SNMP_PERSISTENT_DIR": f"{here}/persistent", "SNMPCONFPATH": f"{here}:{here}/persistent", "MIBS": ""}
        command = [program, "-f", "-Lf", "log", "-I", "-smux", "-p", "pid"]
        process = subprocess.Popen(command, cwd=here, env={**os.environ, **paths}, stderr=subprocess.DEVNULL)
        try:
            log = here / "log"
            wait_for(lambda: log.exists() and "NET-SNMP version" in log.read_text(), 20, "snmpd did not start")
            yield Rack(port)
        finally:
            process.terminate()
            process.wait(10)


def bulkwalk_cpu_s(rack: Rack, times: int) -> float:
    """Read one switch so many times with net-snmp's snmpbulkwalk, a process a column; gives its CPU seconds."""
    used = 0.0
    for _ in range(times):
        for column in COLUMNS:
            command = [tool("snmpbulkwalk"), "-v2c", "-c", COMMUNITY, f"{rack.addresses[0]}:{rack.port}", column]
            process = subprocess.Popen(command, env={**os.environ, "MIBS": ""}, stdout=subprocess.DEVNULL)
            _, status, spent = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise BenchError(f"snmpbulkwalk ended with {process.returncode}")
            used += spent.ru_utime + spent.ru_stime
    return used


EXPORTER = """\
bench:
  walk: [{walk}]
  metrics:
{metrics}
  version: 2
  max_repetitions: 10
  auth: {{community: {community}}}
"""
METRIC = (
    "  - {{name: column{number}, oid: {oid}, type: {kind}, help: x, indexes: [{{labelname: ifIndex, type: gauge}}]}}"
)


def exporter_cpu_s(rack: Rack, times: int) -> float:
    """Read one switch so many times with prometheus-snmp-exporter; gives its CPU seconds, its start not counted."""
    program, port = tool("prometheus-snmp-exporter"), _free_port()
    kinds = {"octet_str": "DisplayString", "counter": "counter"}
    metrics = [
        METRIC.format(number=n, oid=oid, kind=kinds.get(kind, "gauge"))
        for n, (oid, (kind, _)) in enumerate(COLUMNS.items())
    ]
    with tempfile.TemporaryDirectory(prefix="siteprobe-bench-") as place:
        file = Path(place) / "snmp.yml"
        file.write_text(EXPORTER.format(walk=", ".join(COLUMNS), metrics="\n".join(metrics), community=COMMUNITY))
        command = [program, f"--config.file={file}", f"--web.listen-address=127.0.0.1:{port}"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            url = f"/snmp?module=bench&target={rack.addresses[0]}:{rack.port}"
            wait_for(lambda: "column0" in _fetch(port, url), 20, "prometheus-snmp-exporter gave no figures")
            before = _cpu_s(process.pid)
            for _ in range(times):
                _fetch(port, url)
            return _cpu_s(process.pid) - before
        finally:
            process.terminate()
            process.wait(10)


def _fetch(port: int, path: str) -> str:
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as stream:
            stream.sendall(f"GET {path} HTTP/1.0\r\nHost: bench\r\n\r\n".encode())
            parts = []
            while part := stream.recv(65536):
                parts.append(part)
            return b"".join(parts).decode("utf-8", "replace")
    except OSError:
        time.sleep(0.05)
        return ""


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
