"""Looks at the certificates and the password on disk: changed ones are used soon, and one that ends is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent.clock import Instant, rfc3339
from agent.model import event
from agent.publisher.wire import Papers, Store, Wire

PAPERS_S = 15.0
"""Between two looks: a change takes two of them to be believed, and has to be in use within 60 s (rule 8)."""

DAY_S = 86400.0
WARN_DAYS = (0, 3, 14, 30)
"""Days before the end at which a warning is due, 0 = it has ended; the first that applies counts."""
WARNED = "certificate_warned"
"""Key under which the journal keeps the end and the days of the last warning, so that a restart repeats none."""


class OwnCertificate:
    """Judges how long our own certificate still lasts."""

    def __init__(self, store: Store, now: Callable[[], Instant]) -> None:
        """Keep what was warned of in `store`."""
        self._store, self._now = store, now

    def judge(self, papers: Papers) -> str:
        """Give one sentence if the certificate ends within 30 days, and record each warning as an event once."""
        ends_ts = papers.certificate_ends_ts
        if ends_ts is None:
            return ""
        left_s = ends_ts - self._now().ts
        days = next((days for days in WARN_DAYS if left_s <= days * DAY_S), None)
        if days is None:
            return ""
        in_days = "has ended" if left_s <= 0 else f"ends in {left_s / DAY_S:.1f} days"
        when = f"{in_days} ({rfc3339(ends_ts)})"
        sentence = f"our certificate {when}; renew mqtt.cert_file, a changed file is used within a minute"
        mark = f"{ends_ts:.0f} {days}"
        if self._store.recall(WARNED) != mark:
            self._store.remember(WARNED, mark)
            self._store.append(event("certificate_expiring", sentence, self._now()))
        return sentence


async def watch(
    wire: Wire, certificate: OwnCertificate, problems: dict[str, str], renew: Callable[[], Awaitable[None]]
) -> None:
    """Look for the length of the connection; `problems["papers"]` says what is wrong, `renew()` ends it, gently."""
    while True:
        papers = await wire.papers()
        problems.pop("papers", None)
        if trouble := papers.trouble or certificate.judge(papers):
            problems["papers"] = trouble
        if papers.renewed:
            await renew()
        await asyncio.sleep(PAPERS_S)
