"""The real agent as a process of its own: its config, its start and end, and what the kernel counts for it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.broker import BenchError
from bench.peers import Peers

SITEPROBE = Path(__file__).parent.parent / ".venv" / "bin" / "siteprobe"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

CONFIG = """\
version: 1
clock: trusted
identity: {{org: bench, site: bench, node: bench}}
mqtt: {{url: "mqtt://127.0.0.1:{port}", spread: 1s}}
buffer: {{directory: {directory}}}
safety: {{packets_per_second: 0, burst: 0, target_per_second: 0, target_burst: 0}}
standard: false
checks:
{checks}
"""


def address(number: int) -> str:
    """Give one of the addresses of the loopback network, a different one for each number."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


def icmp(count: int, interval: str, replies: int = 1, first: int = 0) -> list[str]:
    """Write icmp checks, each of an address of its own."""
    numbers = range(first, first + count)
    keys = f"type: icmp, interval: {interval}, count: {replies}"
    return [f"{{name: icmp-{n}, {keys}, target: {address(n)}}}" for n in numbers]


def services(count: int, interval: str, peers: Peers) -> list[str]:
    """Write `count` checks each of tcp, http and dns (where there is a name server), all of which pass."""
    url = f'"http://127.0.0.1:{peers.http}/"'
    lines = []
    for n in range(count):
        lines.append(f"{{name: tcp-{n}, type: tcp, interval: {interval}, target: 127.0.0.1, port: {peers.tcp}}}")
        lines.append(f"{{name: http-{n}, type: http, interval: {interval}, url: {url}}}")
        if peers.dns:
            asked = f"server: {peers.dns}, query: bench.example.org"
            lines.append(f"{{name: dns-{n}, type: dns, interval: {interval}, {asked}}}")
    return lines


def config(port: int, directory: Path, checks: Sequence[str]) -> str:
    """Write the whole config."""
    listed = "\n".join(f"  - {check}" for check in checks)
    return CONFIG.format(port=port, directory=directory / "buffer", checks=listed)


@dataclass(frozen=True)
class Service:
    """A running agent, as the kernel sees it."""

    process: subprocess.Popen[bytes]
    started: float

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def still_runs(self) -> None:
        """Raise BenchError if it ended by itself."""
        if self.process.poll() is not None:
            raise BenchError(f"the agent ended by itself with {self.process.returncode}")

    def rest(self, seconds: float) -> tuple[float, float]:
        """Let it run, and give the span of time (time.monotonic) that it had."""
        begin = time.monotonic()
        while (left := begin + seconds - time.monotonic()) > 0:
            self.still_runs()
            time.sleep(min(left, 0.5))
        return begin, time.monotonic()

    def rss_bytes(self) -> int:
        """Give VmRSS of proc(5)."""
        return int(self._value("status", "VmRSS:")) * 1024

    def written_bytes(self) -> int:
        """Give what it caused to be written to the storage layer (write_bytes of proc_pid_io(5))."""
        return int(self._value("io", "write_bytes:"))

    def cpu_s(self) -> float:
        """Give user and system time in seconds (fields 14 and 15 of proc_pid_stat(5))."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def _value(self, file: str, key: str) -> str:
        for line in Path(f"/proc/{self.pid}/{file}").read_text().splitlines():
            if line.startswith(key):
                return line.split()[1]
        raise BenchError(f"/proc/{self.pid}/{file} has no {key}")


@contextmanager
def service(text: str, directory: Path) -> Iterator[Service]:
    """Run `siteprobe run` with a config; raises BenchError with its last words if it ended by itself."""
    file, log = directory / "siteprobe.yaml", directory / "siteprobe.log"
    file.write_text(text)
    with log.open("w") as output:
        started = time.monotonic()
        command = [str(SITEPROBE), "run", "-c", str(file)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield Service(process, started)
    except (BenchError, OSError) as error:
        raise BenchError(f"{error}; the agent's last words:\n{log.read_text()[-2000:]}") from error
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
