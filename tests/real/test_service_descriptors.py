"""The whole agent without file descriptors: its own fault, said so; measuring and delivery come back by themselves."""

from __future__ import annotations

import resource
import stat
import time
from contextlib import ExitStack
from pathlib import Path

from tests.rigs.mosquitto import Mosquitto
from tests.rigs.servers import says
from tests.rigs.service import Ledger, Service, config, is_healthy, serving, tcp

CHECKS = 30


def test_without_descriptors_checks_are_unknown_and_all_comes_back(tmp_path: Path) -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(tmp_path))
        (port,) = stack.enter_context(serving(says(after_bytes=0)))
        checks = [tcp(f"port-{number}", port) for number in range(CHECKS)]
        agent = stack.enter_context(Service(tmp_path, config(tmp_path, checks, broker.port)))
        agent.wait_for(lambda status: status["verdict"]["verdict"] == "healthy")
        centre = stack.enter_context(Ledger(broker.port))
        pid = agent.pid
        held = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        whole = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (held, whole[1]))
        centre.wait_for(lambda _: (centre.newest("verdict") or {}).get("verdict") == "probe_degraded", 30)
        assert "file descriptors" in str(centre.newest("verdict"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, whole)
        agent.wait_for(is_healthy, 30)
        assert {record["outcome"] for record, _ in centre.records() if record["type"] == "tcp"} == {"pass", "unknown"}
        centre.wait_complete(agent, 30)
        assert agent.stop() == 0


def test_a_broker_lost_while_descriptors_are_short_does_not_end_the_agent(tmp_path: Path) -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(Mosquitto(tmp_path))
        (port,) = stack.enter_context(serving(says(after_bytes=0)))
        agent = stack.enter_context(Service(tmp_path, config(tmp_path, [tcp("port", port)], broker.port)))
        agent.wait_for(is_healthy)
        pid = agent.pid
        whole = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, whole[1]))
        broker.kill()
        time.sleep(4)  # more than one attempt: retry_max is 2 s
        resource.prlimit(pid, resource.RLIMIT_NOFILE, whole)
        broker.start()
        agent.wait_for(is_healthy, 30)
        assert agent.pid == pid and agent.stop() == 0


def test_a_secret_file_that_all_can_read_is_named_with_the_command_that_mends_it(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    secret.chmod(0o644)
    mqtt = {"username": "node", "password": {"file": str(secret)}}
    with (
        serving(says(after_bytes=0)) as ports,
        Service(tmp_path, config(tmp_path, [tcp("a", ports[0])], mqtt=mqtt)) as agent,
    ):
        found = agent.wait_for(lambda status: status["delivery"]["advice"])
        assert found["delivery"]["advice"].endswith(f"run: chmod o= {secret}")
        secret.chmod(stat.S_IRUSR | stat.S_IWUSR)
        agent.wait_for(lambda status: status["delivery"]["advice"] is None)
