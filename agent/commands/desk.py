"""Where commands come in: refused, or obeyed one by one; each is answered and kept as an `event`.

What can be asked for is in `deeds`. Nothing here, and nothing there, adds a target, changes the config, runs
code, or gives out a file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.clock import Instant
from agent.commands.deeds import Deeds, Hands, Kept
from agent.commands.dropped_file import NAME, age_s, mark_of, read_file
from agent.commands.pacing import Minute, Pace, read_pace
from agent.commands.request import Code, Command, Refused, Request, known_id, read
from agent.commands.seen import Seen
from agent.commands.suppression import Source, Suppression, Suppressions, read_suppression
from agent.config import Config
from agent.messages import base_topic, pace_topic
from agent.model import event

OBEYED_A_MINUTE = 60
"""Far more than a centre needs; what is obeyed costs a record each, and `report` a message a check."""
REFUSED_A_MINUTE = 60
"""So many refusals are answered and kept as events; of the rest one event tells the number. Junk has a budget of
its own, so that it cannot keep a real command from being obeyed."""
PACES_A_MINUTE = 10
"""So many events tell of a pace that changed or was none; each that is one is obeyed all the same."""
LOOK_S = 0.5
"""Between two looks at the file and at what may be over: a file is noticed, and checks end, within a second."""
NAME_LIMIT = 64


class Desk:
    """Takes messages from the centre, and keeps the suppression and the pace that follow from them."""

    def __init__(self, config: Config, journal: Kept, hands: Hands, now: Callable[[], Instant]) -> None:
        """Recall what is in force. `hands` is what commands may do; `journal` keeps events and small values."""
        identity = config.identity
        self._enabled = config.commands.enabled
        self._commands = f"{base_topic(identity.org, identity.site, identity.node)}/command/"
        self._pace_topic = pace_topic(identity.org)
        self._file = Path(config.buffer.directory) / NAME
        self._journal, self._hands, self._now = journal, hands, now
        self._seen = Seen(journal)
        self._suppressions = Suppressions(journal)
        self._deeds = Deeds(journal, hands, now, self._suppress)
        self._looked = False
        self._told: Suppression | None = None
        self._pace: Pace | None = None
        self._obeyed, self._refused = Minute(OBEYED_A_MINUTE), Minute(REFUSED_A_MINUTE)
        self._paces = Minute(PACES_A_MINUTE)
        self.waiting: asyncio.Queue[Request] = asyncio.Queue()
        self._open = False

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """What to subscribe to: every command, so that a refused one is answered too.

        Nothing where none is enabled; nothing before `run`, for `siteprobe run --once` obeys nobody.
        """
        return (f"{self._commands}+", self._pace_topic) if self._enabled and self._open else ()

    @property
    def in_force(self) -> Suppression | None:
        """The suppression that the agent acts on."""
        return self._told

    @property
    def suppression(self) -> dict[str, Any] | None:
        """Say what is suppressed, for `status`."""
        now = self._now()
        if (found := self._suppressions.present(now)) is None:
            return None
        source, held = found
        left_s = round(held.left_s(now), 1)
        return {"kind": held.kind, "reason": held.reason, "source": str(source), "left_s": left_s}

    async def run(self) -> None:
        """Obey what is asked, and end what is over, for the life of the process."""
        self._open = True
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            while True:
                group.create_task(self.obey(await self.waiting.get()))

    async def _watch(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Look at the file, and end what is over."""
        now = self._now()
        self._look_at_file(now)
        for source, over in self._suppressions.expire(now):
            self._say("suppression_ended", f"{over.kind} by {source} is over after {over.seconds:g} s", now)
        self._tell(now)
        if self._pace and not self._pace.in_force(now):
            self._set_pace(None, now)
        if beyond := self._refused.over(now) + self._paces.over(now):
            self._say("commands_dropped", f"{beyond} more came within a minute that have no event of their own", now)
        self._obeyed.over(now)

    def receive(self, topic: str, payload: bytes, retained: bool) -> None:
        """Take a message of the centre; whatever it is, it never raises."""
        now = self._now()
        if topic == self._pace_topic:
            self._paced(payload, now)
        elif topic.startswith(self._commands):
            self._commanded(Command(topic.removeprefix(self._commands), payload, retained), now)

    def _commanded(self, command: Command, now: Instant) -> None:
        try:
            request = self._admitted(read(command, self._enabled, now), now)
        except Refused as refused:
            if self._refused.take(now):
                self._answer(command.name, known_id(command.payload), refused.code, {"reason": refused.reason})
        else:
            self.waiting.put_nowait(request)

    def _admitted(self, request: Request, now: Instant) -> Request:
        if request.id in self._seen:
            raise Refused(Code.DUPLICATE, "a command of this id was obeyed before")
        if not self._obeyed.take(now):
            raise Refused(Code.BUSY, f"more than {OBEYED_A_MINUTE} commands came within a minute; try again later")
        self._seen.add(request.id)
        return request

    async def obey(self, request: Request) -> None:
        """Do what an admitted command asks for, and answer it."""
        code: Code = Code.OK
        try:
            result = await self._deeds.do(request)
        except Refused as refused:
            code, result = refused.code, {"reason": refused.reason}
        self._answer(request.name, request.id, code, result)

    def _answer(self, name: str, request_id: str | None, code: Code, result: Mapping[str, Any]) -> None:
        detail = str(result.get("reason") or "obeyed") if code is not Code.OK else "obeyed"
        self._say("command", detail, self._now(), name=name[:NAME_LIMIT], id=request_id, code=str(code))
        self._hands.respond("response", {"id": request_id, "ok": code is Code.OK, "code": str(code), "result": result})

    def _say(self, kind: str, detail: str, now: Instant, **fields: str | None) -> None:
        self._journal.append(event(kind, detail, now, **fields))

    # -- suppression -------------------------------------------------------------------------

    def _suppress(self, source: Source, asked: Suppression) -> None:
        """Begin a suppression, or end the one from this source where 0 seconds are asked for."""
        now = self._now()
        if asked.seconds:
            self._suppressions.begin(source, asked)
            detail = f"{asked.kind} by {source} for {asked.seconds:g} s" + (f": {asked.reason}" if asked.reason else "")
            self._say("suppression_began", detail, now)
        elif self._suppressions.end(source):
            self._say("suppression_ended", f"ended by {source}", now)
        self._tell(now)

    def _tell(self, now: Instant) -> None:
        """Have the agent act on what is suppressed, where that has changed."""
        present = self._suppressions.present(now)
        suppression = present[1] if present else None
        if suppression != self._told:
            self._told = suppression
            self._hands.suppress(suppression)

    def _look_at_file(self, now: Instant) -> None:
        mark, known = mark_of(self._file), self._looked or bool(self._suppressions.file_mark)
        if mark is None:
            return
        self._looked = True
        if mark == self._suppressions.file_mark:
            return
        self._suppressions.mark_file(mark)
        if not mark:
            if self._suppressions.end(Source.FILE):
                self._say("suppression_ended", f"the file {self._file} was removed", now)
            return
        try:
            asked = read_suppression(read_file(self._file), now)
        except ValueError as error:
            self._say("suppression_refused", f"{self._file}: {error}", now)
        else:
            self._begin(asked if known else asked.earlier(age_s(self._file, now.ts)), now)

    def _begin(self, asked: Suppression, now: Instant) -> None:
        """Begin what the file asks for, unless its time was over before we saw it."""
        if asked.seconds and asked.left_s(now) <= 0:
            said = f"the file {self._file} was for {asked.seconds:g} s, which were over before the agent started"
            self._say("suppression_ended", said, now)
        else:
            self._suppress(Source.FILE, asked)

    # -- pace --------------------------------------------------------------------------------

    def _paced(self, payload: bytes, now: Instant) -> None:
        try:
            pace = read_pace(payload, now)
        except ValueError as error:
            self._say_of_pace("pace_refused", str(error), now)
            return
        self._set_pace(pace if pace and pace.in_force(now) else None, now)

    def _set_pace(self, pace: Pace | None, now: Instant) -> None:
        """Take on a pace, None = the config's. The same one comes again at each connect."""
        if pace and self._pace:
            pace = replace(pace, received_ms=self._pace.received_ms) if pace.exp_ts == self._pace.exp_ts else pace
        if pace != self._pace:
            self._pace = pace
            said = pace.sentence if pace else "the centre's pace is over; the config's is back"
            self._say_of_pace("pace_changed", said, now)
            self._hands.pace(*(pace.values if pace else (False, None, None)))

    def _say_of_pace(self, kind: str, detail: str, now: Instant) -> None:
        if self._paces.take(now):
            self._say(kind, detail, now)
