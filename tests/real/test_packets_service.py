"""The real service with a DHCP check: the library and its memory stay in the packet child, which ends with it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.real.test_dhcp_netns import GOOD, Lan
from tests.rigs.netns import Net
from tests.rigs.service import Service, config

WAIT_S = 30.0
MEBIBYTE = 2**20


def children_of(pid: int) -> dict[int, str]:
    """Give the processes that a process started, with their command lines."""
    found = {}
    for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found[int(word)] = Path(f"/proc/{word}/cmdline").read_text().replace("\0", " ")
    return found


def resident_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def test_the_service_never_imports_scapy_and_its_memory_does_not_grow(tmp_path: Path) -> None:
    checks: list[dict[str, Any]] = [
        {"name": "link", "type": "link", "interval": "5s"},
        {"name": "dhcp", "type": "dhcp", "expect_servers": ["10.20.0.1"], "timeout": "20s"},
        {"name": "listen", "type": "listen", "consent": "C-1", "interval": "1s"},
    ]
    safety = {"allow": ["10.20.0.0/16"], "deny": ["10.20.99.0/24"]}
    with Net() as net:
        lan = Lan(net, tmp_path)
        lan.serve(lan.gateway, *GOOD)
        prefix = ("ip", "netns", "exec", lan.probe)
        env = {"PYTHONPROFILEIMPORTTIME": "1"}  # each import of the service, and of it alone, goes to its log
        with Service(tmp_path / "agent", config(tmp_path, checks, safety=safety), env, prefix) as agent:
            before = resident_bytes(agent.pid)
            agent.wait_for(lambda status: status["states"]["dhcp"]["state"] == "up", WAIT_S)
            agent.wait_for(lambda status: status["states"]["listen"]["state"] == "up", WAIT_S)
            children = [pid for pid, command in children_of(agent.pid).items() if "agent.packets" in command]
            listening, asking = sorted(children, key=resident_bytes)
            spared = resident_bytes(asking) - resident_bytes(listening)
            assert spared > 15 * MEBIBYTE, "the library is in the child that asked, and in no other"
            grown = resident_bytes(agent.pid) - before
            assert grown < 12 * MEBIBYTE, f"the service grew by {grown} bytes"
            assert agent.stop() == 0
            end = time.monotonic() + WAIT_S
            while any(Path(f"/proc/{child}").exists() for child in children):
                assert time.monotonic() < end, "a child outlived the service"
                time.sleep(0.02)
        imports = agent.log
    assert "agent.packets.child" in imports and "import time:" in imports
    assert "scapy" not in imports and "agent.packets.dhcp" not in imports


def test_the_contract_on_imports_holds() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], capture_output=True, text=True, timeout=60, check=False)
    assert "scapy only in packets KEPT" in done.stdout, done.stdout
