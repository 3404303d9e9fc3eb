"""The composition root: builds every part of the service, runs them together, ends them in order."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
from pathlib import Path
from typing import Any

from agent import __version__, cards, checks
from agent.check import CheckOptions
from agent.checks import Check
from agent.clock import Clock, ClockQuality
from agent.commands import Desk, Hands, Kind, Suppression
from agent.condition import Headway, away_s, own_trouble
from agent.config import Config, ConfigError, Surroundings, load
from agent.delivery import OwnDelivery
from agent.footprint import ProcessorShare, rss_bytes
from agent.journal import Journal
from agent.links import LinkWatch
from agent.machine import machine_identity
from agent.messages import HEARTBEAT_S, state_suffix
from agent.model import event
from agent.mqtt import readable_by_others, wire_factory
from agent.neighbourhood import watch
from agent.net.kernel import name_servers
from agent.net.resolve import Resolver
from agent.net.time_sources import time_sources
from agent.pipeline import Pipeline
from agent.publisher import Card, Publisher
from agent.rounds import Rounds
from agent.runner import Run, Runner
from agent.safety import TICK_S, Gate
from agent.systemd import Notifier, watchdog_interval_s
from agent.timekeeper import Timekeeper
from agent.tracer import Tracer
from agent.trapping import Trapping
from agent.verdict import SiteFacts
from agent.web.socket import serve_status

log = logging.getLogger("siteprobe")
JUDGE_S = 1.0
RESTART_SECTIONS = ("identity", "mqtt", "buffer", "clock", "commands")


def read_config(path: Path) -> Config:
    """Read the config with the check types that exist here; raises `ConfigError`."""
    host_name = socket.gethostname().partition(".")[0].lower()
    return load(path, checks.load(), Surroundings(host_name, name_servers(), time_sources()))


class Agent:
    """One running siteprobe."""

    def __init__(self, config: Config) -> None:
        """Build every part; nothing is sent or written before `run`."""
        self.config = config
        self.clock = Clock(config.clock)
        self.gate = Gate(config.safety)
        self.tools = checks.Toolbox()
        self.resolver = Resolver(self.gate)
        self.runner = Runner(self.gate, self.tools, self.resolver, self.clock)
        main_fields = {name: kind.main_field for name, kind in checks.load().items()}
        self.journal = Journal(
            config.buffer,
            config.identity.node,
            machine_identity(),
            lambda lines: self.publisher.committed(lines),  # noqa: PLW0108 - it is made further down
            self.clock.now,
            main_fields,
            connected=lambda: self.publisher.delivery.connected,
        )
        self.timekeeper = Timekeeper(self.clock, self.journal, log.warning)
        self.publisher = Publisher(
            config.identity,
            config.mqtt,
            self.journal,
            self._cards,
            self._wires(),
            self.clock.now,
            random.Random(),
            subscriptions=lambda: self.desk.subscriptions,
            on_message=lambda message: self.desk.receive(message.topic, message.payload, message.retain),
            warn=log.warning,
            inform=log.info,
        )
        self.tools.get(OwnDelivery).source = self.publisher.way
        self.rounds = Rounds(self.runner, config.identity.node, self._take, self._stalled)
        self.tracer = Tracer(self.runner, self.gate, self.journal, lambda: self.config.active)
        self.notifier = Notifier()
        self.restart = False
        self._stop = asyncio.Event()
        self._judging: asyncio.TimerHandle | None = None

    def _wires(self) -> Any:
        def dates() -> bool:
            return self.clock.now().clock != ClockQuality.UNSYNCED

        node, judge = self.config.identity.node, self.gate.judge_collector
        return wire_factory(self.config.mqtt, node, self.resolver, judge, dates)

    async def run(self) -> None:
        """Serve until told to stop; raises `StoreInUse` if another agent holds the store, `JournalEnded` in a group."""
        self._obey_signals()
        await self.open()
        self.notifier.ready(f"checks: {len(self.config.active)}")
        try:
            async with asyncio.TaskGroup() as group:
                links = LinkWatch(self.rounds, self.journal.append, self.clock.now).run()
                looks = watch(self.tools, self.journal.append, self.clock.now, lambda: self.config.active)
                asked = self.rounds.run(), self.desk.run(), self.tracer.run(), Trapping(self).run(), looks, links
                works = *asked, self._beat(), self._serve(), self.journal.kept()
                tasks = [group.create_task(work) for work in works]
                publishing = group.create_task(self.publisher.run())
                await self._stop.wait()
                if not self.restart:
                    self.notifier.stopping()
                for task in tasks:
                    task.cancel()
                await self.end(publishing)
        finally:
            await self.close()

    async def open(self) -> None:
        """Open the store and begin to judge; raises `StoreInUse`."""
        await self.journal.open()
        now = asyncio.get_running_loop().time()
        self.share = ProcessorShare(now)
        self._began_seq, self._headway = self.journal.next_seq, Headway(self.journal, now)
        detail = f"siteprobe {__version__}, config {self.config.digest}"
        self.journal.append(event("agent_started", detail, self.clock.now()), urgent=True)
        self.timekeeper.begin()
        self.pipeline = Pipeline(self.config, self.journal, self._post, self.clock.now(), self.tracer.went_down)
        self.rounds.plan(self.config.active)
        self.desk = Desk(self.config, self.journal, self._hands(), self.clock.now)
        self.desk.look()
        if self.journal.trouble:
            log.warning("%s", self.journal.trouble)
        log.info("%s; checks: %d, node %s", detail, len(self.config.active), self.config.identity.node)

    async def close(self) -> None:
        """Let go of sockets and store."""
        await self.tools.aclose()
        await self.journal.close()

    def _obey_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGINT, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload)

    def _hands(self) -> Hands:
        own, publisher = (self.rounds.ask_now, self.tracer.trace_now), self.publisher
        return Hands(publisher.respond, publisher.replay, self._report, *own, publisher.pace, self._suppress)

    async def end(self, publishing: asyncio.Task[None]) -> None:
        """Record the orderly end, then let the publisher say `stopped`."""
        self.journal.append(event("agent_stopped", "stopped in an orderly way", self.clock.now()), urgent=True)
        self.timekeeper.keep()
        await self.journal.flush()
        publishing.cancel()

    def _take(self, check: Check, run: Run) -> tuple[str, int]:
        number = self.journal.ep, self.journal.next_seq
        if self.pipeline.take(check, run.record, run.more):
            self._judge_soon()
        return number

    def _stalled(self, late_s: float) -> None:
        self.journal.append(event("stalled", f"the process stood still for {late_s:.0f} s", self.clock.now()))

    def _judge_soon(self) -> None:
        """Judge once for all that is taken within one tick: a judgement looks at every check."""
        if self._judging is None:
            self._judging = asyncio.get_running_loop().call_later(TICK_S, self._judge)

    def _judge(self) -> None:
        self._judging = None
        self.rounds.confirm(self.pipeline.judge(self.facts()))

    def _suppress(self, suppression: Suppression | None) -> None:
        """Stop or begin to ask, as the suppression in force wants it, and judge anew."""
        quiet = bool(suppression and suppression.kind == Kind.MAINTENANCE)
        if quiet is not self.gate.suppressed:
            self.gate.suppressed = quiet
            self.pipeline.suspend(suppression.words if suppression and quiet else "", self.clock.now())
            self.rounds.plan(self._asked())
        self._judge_soon()

    def _asked(self) -> list[CheckOptions]:
        """List the checks that run: while active ones are suppressed, those that send nothing."""
        return [check for check in self.config.active if not (self.gate.suppressed and check.sends())]

    def _report(self) -> int:
        cards = self._cards()
        for card in cards:
            self.publisher.post(card)
        return len(cards)

    async def _beat(self) -> None:
        """Judge each second what no record tells (the broker, the store), publish the heartbeat."""
        loop = asyncio.get_running_loop()
        next_beat, watched_s = loop.time() + HEARTBEAT_S, watchdog_interval_s()
        while True:
            await asyncio.sleep(JUDGE_S)
            self.timekeeper.look()
            self._judge()
            if watched_s and self._headway.made(loop.time()):
                self.notifier.watchdog()
            if loop.time() >= next_beat:
                next_beat += HEARTBEAT_S
                self.pipeline.keep_incident(self.clock.now())
                self.publisher.post(Card("heartbeat", self.heartbeat()))
                self.notifier.status(str(self.pipeline.verdict["summary"]))

    async def _serve(self) -> None:
        runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        await serve_status([Path(path) for path in (self.config.buffer.directory, runtime) if path], self.status)

    def reload(self) -> None:
        """Read the config anew: a bad one is refused and the old one kept; a changed home means a restart."""
        try:
            changed = read_config(Path(self.config.file))
        except ConfigError as error:
            for sentence in error.sentences():
                log.error("%s", sentence)
            self.journal.append(event("config_refused", error.places()[0], self.clock.now()), urgent=True)
            return
        if any(getattr(changed, name) != getattr(self.config, name) for name in RESTART_SECTIONS):
            self.restart = True
            self._stop.set()
            return
        self._use(changed)

    def _use(self, changed: Config) -> None:
        self.config = changed
        self.gate.use(changed.safety)
        self.runner.forget({check.name for check in changed.active})
        self.rounds.forget(changed.active)
        self.rounds.plan(self._asked())
        self.journal.append(event("config_reloaded", f"config {changed.digest}", self.clock.now()), urgent=True)
        self.pipeline.replace_config(changed, self.facts())
        self.publisher.post(Card("about", cards.about(changed, self.pipeline.devices)))
        log.info("config %s is in use; checks: %d", changed.digest, len(changed.active))

    def facts(self) -> SiteFacts:
        """Say what the verdict must know beside the checks."""
        now, delivery = asyncio.get_running_loop().time(), self.publisher.delivery
        down_s, held = away_s(delivery, self.share.began, now), self.desk.in_force
        quiet, isolated = (held.words if held and held.kind == kind else "" for kind in Kind)
        overdue = self.rounds.schedule.overdue(now)
        trouble = own_trouble(self.journal, self.pipeline.healths.values(), overdue, len(self.rounds.checks))
        return SiteFacts(self.clock.now(), down_s, delivery.reason, trouble, quiet, isolated)

    def _post(self, suffix: str, payload: Any, after_seq: int) -> None:
        self.publisher.post(Card(suffix, payload, after_seq))

    def _cards(self) -> list[Card]:
        verdict = self.pipeline.verdict
        states = (Card(state_suffix(name), card, card["seq"]) for name, card in self.pipeline.all_states().items())
        own = (Card("about", cards.about(self.config, self.pipeline.devices)), Card("heartbeat", self.heartbeat()))
        return [*own, Card("verdict", verdict, verdict["seq"]), *states]

    def heartbeat(self) -> cards.Payload:
        """Write the site's card as of now."""
        now, taken = asyncio.get_running_loop().time(), self.journal.next_seq - self._began_seq
        uptime_s = now - self.share.began
        own = cards.own(self.journal, self.publisher.delivery.unheard, self.config.buffer, uptime_s, taken)
        own |= {
            "rss_bytes": rss_bytes(),
            "cpu_ratio": self.share.ratio(now),
            "overdue_checks": self.rounds.schedule.overdue(now),
        }
        return cards.heartbeat(self.config, self.pipeline.verdict, self.pipeline.counts(), self.clock.now(), own)

    def status(self) -> dict[str, Any]:
        """Answer the local question `siteprobe status`."""
        now, delivery = self.clock.now(), self.publisher.delivery
        return {
            "node": self.config.identity.node,
            "version": __version__,
            "verdict": self.pipeline.verdict,
            "states": self.pipeline.all_states(),
            "buffer": cards.buffer(self.journal, self.config.buffer),
            "delivery": cards.delivery(delivery, asyncio.get_running_loop().time(), self.config.mqtt.url)
            | {"advice": readable_by_others(self.config.mqtt) or None},
            "clock": str(now.clock),
            "suppression": self.desk.suppression,
            "heartbeat": self.heartbeat(),
        }
