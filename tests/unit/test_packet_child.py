"""The packet child as a process: started on demand, ended when idle, its death, silence and nonsense borne."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from agent.model import Failed, Failure
from agent.packets import PacketChild, neighbours
from agent.packets.child import own_command, own_environment
from agent.packets.lines import LINE_BYTES, packed, unpacked

ROOT = Path(__file__).resolve().parents[2]
LONG_S = 30.0
ECHO = "import sys\nfor line in sys.stdin: print(line.replace('given', 'found'), end='', flush=True)"


def program(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():
            await asyncio.sleep(0.02)


def played(scene: Callable[[PacketChild], Coroutine[Any, Any, Any]], code: str = ECHO, idle_s: float = 60.0) -> Any:
    async def play() -> Any:
        child = PacketChild(program(code), idle_s)
        try:
            return await scene(child)
        finally:
            await child.aclose()

    return asyncio.run(play())


def soon(seconds: float = LONG_S) -> float:
    return asyncio.get_running_loop().time() + seconds


def test_nothing_runs_before_the_first_question_and_one_child_answers_all() -> None:
    async def scene(child: PacketChild) -> None:
        assert child.pid is None
        found = await asyncio.gather(*(child.ask("x", soon(), number=n) for n in range(20)))
        assert [answer["number"] for answer in found] == list(range(20))
        pid = child.pid
        assert pid is not None and alive(pid)
        await child.ask("x", soon())
        assert child.pid == pid
        await child.aclose()
        assert child.pid is None and not alive(pid)

    played(scene)


def test_it_ends_when_idle_and_starts_again_without_waiting() -> None:
    async def scene(child: PacketChild) -> None:
        await child.ask("x", soon())
        first = child.pid
        assert first is not None
        await until(lambda: child.pid is None and not alive(first))
        await child.ask("x", soon())
        assert child.pid not in (None, first)

    played(scene, idle_s=0.2)


def test_who_wants_it_kept_is_heard() -> None:
    async def scene(child: PacketChild) -> None:
        await child.ask("x", soon(), keep_s=60.0)
        pid = child.pid
        await asyncio.sleep(0.5)
        await child.ask("x", soon())
        assert child.pid == pid

    played(scene, idle_s=0.05)


def test_a_death_is_one_clear_sentence_and_the_next_start_waits() -> None:
    code = "import sys; sys.stdin.readline(); sys.exit('no codec here')"

    async def scene(child: PacketChild) -> list[Failed]:
        found = []
        for _ in range(2):
            with pytest.raises(Failed) as raised:
                await child.ask("x", soon())
            found.append(raised.value)
        return found

    died, waits = played(scene, code)
    assert died.failure is waits.failure is Failure.INTERNAL
    assert "ended while it was asked (no codec here)" in died.detail
    assert "died; it is started again in" in waits.detail


def test_the_wait_after_deaths_doubles_up_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(child: PacketChild) -> list[int]:
        waits = []
        for _ in range(9):
            child._back_off()
            waits.append(round(child._not_before - asyncio.get_running_loop().time()))
        return waits

    assert played(scene) == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_an_answer_ends_the_count_of_deaths() -> None:
    async def scene(child: PacketChild) -> int:
        child._deaths = 5
        await child.ask("x", soon())
        return child._deaths

    assert played(scene) == 0


def test_a_silent_child_is_ended_at_the_deadline() -> None:
    async def scene(child: PacketChild) -> None:
        asking = asyncio.create_task(child.ask("x", soon(0.5)))
        await until(lambda: child.pid is not None)
        pid = child.pid
        assert pid is not None
        with pytest.raises(Failed) as raised:
            await asking
        assert raised.value.failure is Failure.OVERLOAD and "did not answer in time" in raised.value.detail
        await until(lambda: not alive(pid))

    played(scene, "import time; time.sleep(60)")


@pytest.mark.parametrize(
    "code",
    [
        "print('no json', flush=True); import time; time.sleep(60)",
        "print('[]', flush=True); import time; time.sleep(60)",
        f"print('x' * {LINE_BYTES * 3}, flush=True); import time; time.sleep(60)",
    ],
)
def test_a_child_that_talks_nonsense_is_ended(code: str) -> None:
    async def scene(child: PacketChild) -> Failed:
        with pytest.raises(Failed) as raised:
            await child.ask("x", soon())
        assert child.pid is None
        return raised.value

    assert played(scene, code).failure is Failure.INTERNAL


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"found": {}},
        {"found": []},
        {"found": {"neighbours": 7}},
        {"found": {"neighbours": [7]}},
        {"found": {"neighbours": [{"switch": "a"}]}},
        {"failure": "no such word"},
        {"failure": ["a", "list"]},
    ],
)
def test_an_answer_of_another_form_is_a_failed_question_and_no_more(answer: dict[str, Any]) -> None:
    async def scene(child: PacketChild) -> None:
        with pytest.raises(Failed) as raised:
            await neighbours(child, "eth0", soon(), seconds=0.1)
        assert raised.value.failure is Failure.INTERNAL

    line = packed({"id": 1, **answer}).decode().rstrip()
    played(scene, f"import sys\nfor line in sys.stdin: print({line!r}, flush=True)")


def test_what_it_writes_to_its_standard_error_is_read_and_bounded() -> None:
    code = "import sys; sys.stdin.readline(); sys.stderr.write('y' * 5_000_000 + chr(10) + 'z' * 9000); sys.exit(1)"

    async def scene(child: PacketChild) -> Failed:
        with pytest.raises(Failed) as raised:
            await child.ask("x", soon())
        return raised.value

    assert 100 < len(played(scene, code).detail) < 400


def test_a_command_that_is_not_there_is_told() -> None:
    async def scene() -> Failed:
        child = PacketChild(["/nowhere/python"])
        with pytest.raises(Failed) as raised:
            await child.ask("x", soon())
        await child.aclose()
        return raised.value

    failed = asyncio.run(scene())
    assert failed.failure is Failure.INTERNAL and "cannot be started: No such file" in failed.detail


def test_a_failure_that_the_child_reports_is_raised_and_is_no_death() -> None:
    code = ECHO.replace("line.replace('given', 'found')", "line.replace('do', 'failure')")

    async def scene(child: PacketChild) -> None:
        for _ in range(2):
            with pytest.raises(Failed) as raised:
                await child.ask("local_link", soon())
            assert raised.value.failure is Failure.LOCAL_LINK

    played(scene, code)


def test_lines_are_bounded_both_ways() -> None:
    with pytest.raises(ValueError, match="longer than"):
        packed({"id": 1, "given": {"x": "y" * LINE_BYTES}})
    assert unpacked(packed({"id": 1})) == {"id": 1}
    for bad in (b"", b"1", b"{}", b'{"id":"x"}', b"\xff"):
        with pytest.raises(ValueError):
            unpacked(bad)


PARENT = """
import asyncio, sys
from agent.packets import PacketChild, neighbours
async def main():
    child = PacketChild()
    try:
        await child.ask("neighbours", asyncio.get_running_loop().time() + 20, interface="none", seconds=1.0, known="")
    except Exception as error:
        print(child.pid, error.failure, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_the_real_child_ends_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, failure = parent.stdout.readline().split()
        assert failure in ("local_link", "local_permission")  # without root there is not even a socket
        assert alive(int(pid))
        parent.kill()
    end = time.monotonic() + LONG_S
    while alive(int(pid)):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_real_child_does_not_start_for_another_parent() -> None:
    command = [*own_command()[:-1], "1"]
    done = subprocess.run(command, stdin=subprocess.PIPE, env=own_environment(), cwd="/", timeout=LONG_S, check=False)
    assert done.returncode == 0


def test_scapy_in_the_childs_environment_leaves_nothing_behind_and_reads_no_routes(tmp_path: Path) -> None:
    code = (
        "from agent.packets import dhcp, neighbour; import scapy.config\n"
        "assert len(dhcp.discover_frame('02:00:00:00:00:01', 7, True, '255.255.255.255', 67)) == 342\n"
        "import scapy.route; assert not scapy.config.conf.route.routes, scapy.config.conf.route.routes"
    )
    places = [Path(own_environment()["HOME"]), Path.home() / ".cache/scapy", Path.home() / ".config/scapy", tmp_path]
    before = [(place, place.exists(), place.is_dir() and sorted(place.iterdir())) for place in places]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=own_environment() | {"TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert before == [(place, place.exists(), place.is_dir() and sorted(place.iterdir())) for place in places]


def test_the_child_gets_no_secret_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x")
    monkeypatch.setenv("MQTT_PASSWORD", "secret")
    assert not {"CREDENTIALS_DIRECTORY", "MQTT_PASSWORD"} & set(own_environment())
    assert own_command()[-1] == str(os.getpid())
