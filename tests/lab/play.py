"""Plays one condition of the lab from beginning to end, and judges it by what people outside see."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.lab.conditions import CENTRE, HEALTHY, Condition
from tests.lab.hospital import Hospital

BEGIN_S = 90.0
"""From the start of the agent to `healthy`, on a loaded machine."""
PATIENCE = 3.0
"""So many times the limit is waited for a verdict, to learn how late it comes."""
HOLD_S = 10.0
WATCH_S = 40.0
RECOVERED_WITHIN_S = 90.0
AFTERWARDS_S = 60.0
POLL_S = 0.1
HARMLESS_WORDS = (HEALTHY, "starting")


@dataclass
class Result:
    """What became of a condition: seconds to the verdict and to its end, and why it is not right ("" if it is)."""

    name: str
    expected: str
    got: str = ""
    seconds: float | None = None
    recovered_s: float | None = None
    evidence: str = ""
    confidence: float | None = None
    wrong: str = ""

    def as_row(self) -> dict[str, Any]:
        """Give it for a file."""
        return asdict(self)


class Watcher:
    """Collects what is said, at the centre or at the probe, with the second since `begin`."""

    def __init__(self, site: Hospital, at_centre: bool) -> None:
        """Look from one of the two places."""
        self._site, self._at_centre = site, at_centre
        self.begin(time.monotonic())

    def begin(self, at: float) -> None:
        """Forget what was said before."""
        self._began = at
        self._local: list[tuple[float, dict[str, Any]]] = []

    def said(self) -> list[tuple[float, dict[str, Any]]]:
        """Give the verdicts said since then, each with its second."""
        self._look()
        if not self._at_centre:
            return self._local
        return [
            (m.at - self._began, m.body) for m in list(self._site.heard) if m.topic == "verdict" and m.at >= self._began
        ]

    def _look(self) -> None:
        verdict = self._site.look().get("verdict", {})
        if verdict and (not self._local or self._local[-1][1]["seq"] != verdict["seq"]):
            self._local.append((time.monotonic() - self._began, verdict))

    def until(self, wanted: Callable[[dict[str, Any]], bool], seconds: float) -> tuple[float, dict[str, Any]] | None:
        """Wait for a verdict that is as wanted; None if none comes in time."""
        while time.monotonic() < self._began + seconds:
            found = next(((at, verdict) for at, verdict in self.said() if wanted(verdict)), None)
            if found:
                return found
            time.sleep(POLL_S)
        return None


def play(condition: Condition, folder: Path) -> Result:
    """Play a condition on a site of its own."""
    result = Result(condition.name, condition.verdict)
    before = condition.breaks if condition.during_start else ""
    with Hospital(folder, before) as site:
        watcher = Watcher(site, condition.seen_by == CENTRE and not condition.during_start)
        try:
            _steps(condition, site, watcher, result)
        except AssertionError as error:
            result.wrong = result.wrong or str(error)[:2000]
    return result


def _steps(condition: Condition, site: Hospital, watcher: Watcher, result: Result) -> None:
    if not condition.during_start:
        site.await_verdict(HEALTHY, seconds=BEGIN_S)
        waits = [float(word) for word in re.findall(r"wait (\d+)", condition.breaks)]
        watcher.begin(time.monotonic() + sum(waits))
        site.do(condition.breaks)
    if condition.is_look_alike:
        _stays_healthy(condition, watcher, result)
        return
    _is_found(condition, watcher, result)
    if condition.mends and result.got == condition.verdict:
        _is_over(condition, site, watcher, result)


def _stays_healthy(condition: Condition, watcher: Watcher, result: Result) -> None:
    end = time.monotonic() + WATCH_S
    while time.monotonic() < end:
        watcher.said()
        time.sleep(POLL_S)
    others = [v["verdict"] for _, v in watcher.said() if v["verdict"] not in (HEALTHY, *condition.allowed)]
    result.got, result.wrong = (others[0], f"said {others}") if others else (HEALTHY, "")


def _is_found(condition: Condition, watcher: Watcher, result: Result) -> None:
    def right(verdict: dict[str, Any]) -> bool:
        return verdict["verdict"] == condition.verdict and condition.also in ("", *_names(verdict["also"]))

    found = watcher.until(right, condition.within_s * PATIENCE)
    if found is None:
        said = [verdict["verdict"] for _, verdict in watcher.said()]
        result.got, result.wrong = (said or [""])[-1], f"not said; said {said}"
        return
    result.seconds, verdict = round(found[0], 1), found[1]
    result.got, result.confidence = verdict["verdict"], verdict["confidence"]
    result.evidence = "; ".join(verdict["evidence"])[:200]
    time.sleep(HOLD_S)
    result.wrong = "; ".join(_complaints(condition, watcher, result.seconds, verdict))


def _complaints(condition: Condition, watcher: Watcher, seconds: float, verdict: dict[str, Any]) -> Iterator[str]:
    true = {condition.verdict, *condition.allowed, *HARMLESS_WORDS}
    strange = [f"{v['verdict']} at {at:.0f} s" for at, v in watcher.said() if at >= 0 and v["verdict"] not in true]
    if strange:
        yield f"also said {', '.join(strange)}"
    after = [v["verdict"] for at, v in watcher.said() if at > seconds]
    if any(word not in (condition.verdict, *condition.allowed) for word in after):
        yield f"did not stay: {after}"
    if seconds > condition.within_s:
        yield f"late: {seconds:.0f} s, limit {condition.within_s:.0f} s"
    if condition.domain and verdict["fault_domain"] != condition.domain:
        yield f"domain {verdict['fault_domain']}, not {condition.domain}"


def _is_over(condition: Condition, site: Hospital, watcher: Watcher, result: Result) -> None:
    watcher.begin(time.monotonic())
    site.do(condition.mends)
    found = watcher.until(lambda verdict: verdict["verdict"] == HEALTHY, RECOVERED_WITHIN_S + 30)
    if found is None:
        result.wrong += f" not healthy again; said {[v['verdict'] for _, v in watcher.said()]}"
        return
    result.recovered_s = round(found[0], 1)
    if result.recovered_s > RECOVERED_WITHIN_S:
        result.wrong += f" recovery only after {result.recovered_s:.0f} s"
    true = {condition.verdict, *condition.allowed, *_names([condition.also]), *HARMLESS_WORDS}
    strange = [v["verdict"] for _, v in watcher.said() if v["verdict"] not in true]
    if strange:
        result.wrong += f" said while it was mended: {strange}"
    if condition.seen_by != CENTRE and not _arrives(site, condition.verdict):
        result.wrong += " the verdict did not reach the centre afterwards"


def _arrives(site: Hospital, verdict: str) -> bool:
    """Tell whether the record of the verdict reaches the centre, live or late."""
    end = time.monotonic() + AFTERWARDS_S
    while time.monotonic() < end:
        for heard in list(site.heard):
            bodies = heard.body if isinstance(heard.body, list) else [heard.body]
            if heard.topic in ("late/verdict", "live/verdict/site") and any(b["verdict"] == verdict for b in bodies):
                return True
        time.sleep(POLL_S)
    return False


def _names(also: list[str]) -> list[str]:
    return [word.partition(":")[0] for word in also if word]
