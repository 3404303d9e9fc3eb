"""A small network in namespaces: `with Net() as net: probe = net.add("probe"); …`. Needs root, ip and nft.

Links are made *inside* the namespaces, so no interface ever exists on this machine itself, and all is
taken away at the end. Nothing in a namespace has a way to the outside.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from tests.rigs import need

ROOT = Path(__file__).resolve().parents[2]


class Net:
    """Namespaces with names of their own, links between them, and the programs started in them."""

    def __init__(self) -> None:
        """Check what is needed; skips the test where it is missing."""
        need.root()
        self._ip = need.tool("ip")
        need.tool("nft")
        self._prefix = f"sp{secrets.token_hex(3)}"
        self._exit = ExitStack()

    def __enter__(self) -> Net:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._exit.close()

    def add(self, name: str, *, router: bool = False) -> str:
        """Make a namespace (its loopback up); a router forwards. Gives its full name."""
        namespace = f"{self._prefix}-{name}"
        self.ip("netns", "add", namespace)
        self._exit.callback(self.ip, "netns", "del", namespace)
        self.ip("-n", namespace, "link", "set", "lo", "up")
        # Without this an IPv6 neighbour is silent for its first second (duplicate address detection).
        self.sysctl(namespace, "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0")
        if router:
            self.sysctl(namespace, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        return namespace

    def wire(self, one: str, device: str, other: str, other_device: str) -> None:
        """Lay a cable between two namespaces, both ends up."""
        self.ip("-n", one, "link", "add", device, "type", "veth", "peer", "name", other_device, "netns", other)
        self.ip("-n", one, "link", "set", device, "up")
        self.ip("-n", other, "link", "set", other_device, "up")

    def address(self, namespace: str, device: str, *cidrs: str) -> None:
        """Give an interface addresses such as 10.1.0.2/24 or fd01::2/64."""
        for cidr in cidrs:
            self.ip("-n", namespace, "address", "add", cidr, "dev", device, *(["nodad"] if ":" in cidr else []))

    def route(self, namespace: str, *words: str) -> None:
        """Add a route: `route(ns, "default", "via", "10.1.0.1")`."""
        self.ip("-n", namespace, *(["-6"] if any(":" in w for w in words) else []), "route", "add", *words)

    def nft(self, namespace: str, hook: str, rule: str) -> None:
        """Add one rule to a hook (input, forward, output…): `nft(ns, "input", "ip protocol icmp drop")`."""
        chain = f"add chain inet t {hook} {{ type filter hook {hook} priority 0; }}"
        for line in ("add table inet t", chain, f"add rule inet t {hook} {rule}"):
            self.run(namespace, "nft", line)

    def sysctl(self, namespace: str, *settings: str) -> None:
        """Set kernel settings of a namespace."""
        self.run(namespace, "sysctl", "-q", "-w", *settings)

    def ip(self, *words: str) -> str:
        """Run ip(8) on this machine, for what is done to namespaces."""
        return _run([self._ip, *words])

    def run(self, namespace: str, *command: str) -> str:
        """Run a command in a namespace to its end; gives what it printed."""
        return _run([self._ip, "netns", "exec", namespace, *command])

    def start(self, namespace: str, *command: str) -> subprocess.Popen[str]:
        """Start a program in a namespace and wait for its first line; it is killed at the end, if not before."""
        program = subprocess.Popen(
            [self._ip, "netns", "exec", namespace, *command], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self._exit.callback(_stop, program)
        assert program.stdout is not None
        assert program.stdout.readline(), f"{command} ended before it was ready"
        return program

    def name_servers(self, namespace: str, *addresses: str) -> None:
        """Give a namespace a resolv.conf of its own (ip-netns(8)); programs started before do not see it."""
        folder = Path("/etc/netns") / namespace
        folder.mkdir(parents=True)
        self._exit.callback(shutil.rmtree, folder)
        (folder / "resolv.conf").write_text("".join(f"nameserver {address}\n" for address in addresses))


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def _stop(program: subprocess.Popen[str]) -> None:
    program.kill()
    program.wait()
    if program.stdout:
        program.stdout.close()
