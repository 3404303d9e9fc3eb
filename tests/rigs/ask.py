"""Runs one check once, as the runner does, without a config: `ask(Tcp(name="a", target=…, port=…))`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.checks import Check, Context, Resolve, Toolbox
from agent.model import Facts, Failed, Failure
from agent.net.resolve import Resolver
from agent.policy import Policy
from agent.runner import GRACE_S
from agent.safety import Gate

ROOT = Path(__file__).resolve().parents[2]


def ask(check: Check, *, once: bool = False, resolve: Resolve | None = None, **policy: Any) -> Facts | Failed:
    """Run the check under its deadline, the gate open but for the `policy` keywords of `Policy`."""
    return asyncio.run(_ask(check, once, resolve, policy))


def ask_at_once(checks: Sequence[Check]) -> list[Facts | Failed]:
    """Run several checks at the same time, each with a gate that limits nothing."""

    async def every() -> list[Facts | Failed]:
        return list(await asyncio.gather(*(_ask(check, False, None, {"packets_per_second": 0}) for check in checks)))

    return asyncio.run(every())


async def _ask(check: Check, once: bool, resolve: Resolve | None, policy: dict[str, Any]) -> Facts | Failed:
    gate, tools = Gate(Policy(**policy)), Toolbox()
    seconds = check.timeout_s or check.default_timeout_s
    deadline = asyncio.get_running_loop().time() + seconds
    ctx = Context(gate, tools, resolve or Resolver(gate), deadline, check_type=check.type, once=once)
    try:
        async with asyncio.timeout_at(deadline + GRACE_S):
            return await check.run(ctx)
    except Failed as failed:
        return failed
    except TimeoutError:
        return Failed(Failure.TIMEOUT, f"no answer within {seconds:g} s")
    finally:
        await tools.aclose()


def as_dict(answer: Facts | Failed) -> dict[str, Any]:
    """Write the answer as one flat dictionary, the way a record would show it (failure None = pass)."""
    address = answer.address if isinstance(answer, Facts) else ""
    return {**answer.fields, "address": address, "failure": answer.failure, "detail": answer.detail}


def ask_inside(namespace: str, check: str, *, under: tuple[str, ...] = (), **policy: Any) -> dict[str, Any]:
    """Run a check inside a network namespace, in a process of its own; gives `as_dict` of the answer.

    `check` is Python, such as `icmp.Icmp(name="a", target="10.0.0.1")`; `under` is a command to run it
    under, such as setpriv(1).
    """
    module = check.partition(".")[0]
    keywords = "".join(f", {key}={value!r}" for key, value in policy.items())
    code = (
        f"import json; from ipaddress import IPv4Network, IPv6Network; from agent.checks import {module};"
        f"from tests.rigs.ask import as_dict, ask;"
        f"print(json.dumps(as_dict(ask({check}{keywords}))))"
    )
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, *under, sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
