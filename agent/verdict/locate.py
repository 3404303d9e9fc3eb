"""From a view of the path to one finding: the headline, its evidence, and what to ask next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent.clock import Instant
from agent.health import Health
from agent.illness import DEVICE_FAULT
from agent.loss import Loss
from agent.model import Layer, State
from agent.options import is_address
from agent.verdict.asking import confirm
from agent.verdict.beside import (
    beside_headline,
    beside_headlines,
    conflict_headlines,
    device_headlines,
    devices_to_look_at,
)
from agent.verdict.device_words import FINDINGS
from agent.verdict.graph import FAR, Node, Path, Says, down_members
from agent.verdict.naming import Headline, far_headline, isolate, service_headline, trunk_headline
from agent.verdict.quality import (
    DEGRADED,
    Segment,
    evidence_headlines,
    fails_wanted,
    losing,
    loss_headline,
    slow_headline,
    slow_services,
    withheld,
)
from agent.verdict.table import DNS_FAILURES, FAULTLESS, HEALTHY, ROWS, STARTING, SUPPRESSED, UNDETERMINED, Domain
from agent.verdict.view import View, look, unreachable
from agent.verdict.words import confidence, contradicting, evidence, recovered, sentence

STRETCHES = ((Layer.LINK, Layer.ADDRESS), (Layer.LAN, Layer.GATEWAY), (Layer.UPLINK, Layer.CARRIER))
NAMING = frozenset(DNS_FAILURES.values())
"""A service that fails for want of a name, or at a wrong address, is not at fault: the name servers are named first."""
MOST_ALSO = 20
ASKED_WITHIN_S = 20.0
"""What is down beside the path is asked again within seconds; a medical device, or who is left alone, takes longer."""
CUT_S = 6.0
"""At one echo a second: so many lost in a row happen once in 500 times at 36 % of loss."""
COLLECTOR_AFTER_S = 20.0
"""Contract, section 4: `collector_unreachable` after this long without a connection."""


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """What is known beside the checks. Empty texts mean: nothing to say.

    `suppressed` and `isolated` are the reasons of maintenance and of an announced isolation; `started`: there
    was a verdict before, so a check added later does not make everything `starting` again; `losses` are what the
    echoes of each segment say together.
    """

    now: Instant
    delivery_down_s: float = 0.0
    delivery_reason: str = ""
    probe_trouble: str = ""
    suppressed: str = ""
    isolated: str = ""
    started: bool = False
    losses: Mapping[str, Loss] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the checks say together. `held`: a fault is being confirmed, keep the last verdict.

    `ask` names checks to ask again at once; `unreachable` maps a check to the check that is its cause; `fail_after`
    says how many fails in a row make a failing check down, where that is not what its config says; `cut` that a
    place of the path is down as a whole.
    """

    verdict: str
    domain: Domain
    layer: str = ""
    since: Instant | None = None
    confidence: float = 1.0
    summary: str = ""
    next: str = ""
    cause: tuple[str, ...] = ()
    impacted: tuple[str, ...] = ()
    working: tuple[str, ...] = ()
    blind: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    contradicting: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    held: bool = False
    ask: tuple[str, ...] = ()
    unreachable: Mapping[str, str] = field(default_factory=dict)
    fail_after: Mapping[str, int] = field(default_factory=dict)
    cut: bool = False


def locate(path: Path, healths: Mapping[str, Health], facts: SiteFacts) -> Finding:
    """Say where the fault lies."""
    view = look(path, healths)
    if facts.suppressed:
        return _finding(view, Headline(SUPPRESSED, Domain.UNKNOWN, target=facts.suppressed), [], facts)
    lossy = losing(view, facts.losses)
    ratio = facts.losses[lossy].ratio if lossy else 0.0
    headlines = _headlines(view, facts, lossy, ratio)
    head = _starting(view) if _must_wait(view, facts.started) else next(iter(headlines), _no_fault(view))
    finding = _finding(view, head, headlines, facts)
    explained = lossy if lossy and head.verdict == DEGRADED[lossy] else None
    ask, held = confirm(view, facts.losses, facts.now, explained)
    held = (
        held
        or (not explained and _recovering(view, head))
        or (head.verdict == HEALTHY and _not_asked_since(view, facts))
    )
    wanted = fails_wanted(view, lossy, ratio)
    cut = any(_cut(view, node, facts.now) for node in view.frontier)
    return replace(finding, held=held and head.verdict != STARTING, ask=ask, fail_after=wanted, cut=cut)


def _not_asked_since(view: View, facts: SiteFacts) -> bool:
    """Whether something beside the path was down when something came back just now: it is asked before all is well."""
    return bool(view.stale) and facts.now.mono_ms - view.back_ms < ASKED_WITHIN_S * 1000


def _cut(view: View, node: Node, now: Instant) -> bool:
    """Whether a place of the path is silent as a whole, and not only losing what is sent to it.

    Where 36 % are lost three echoes in a row are soon lost too; answers come in between, or within a few seconds.
    """
    if view.said[node.key] is not Says.DOWN or node.layer is Layer.SERVICE:
        return False
    if node.layer in (Layer.LINK, Layer.ADDRESS):
        return True
    down = (health for health in down_members(node, view.healths) if health.state is State.DOWN)
    return any(not health.loss.lost and _silent_s(health, now) >= CUT_S for health in down)


def _silent_s(health: Health, now: Instant) -> float:
    """Say for how long a check that is down got no answer, until the first one if it is getting well."""
    until = health.onset if health.mending and health.onset else now
    return (until.mono_ms - health.since.mono_ms) / 1000 if health.since else 0.0


def _must_wait(view: View, started: bool) -> bool:
    """While a check of the path has no state, only what the kernel itself says is a verdict."""
    nearest = next(iter(view.frontier), None)
    certain = (
        nearest is not None and nearest.layer in (Layer.LINK, Layer.ADDRESS) and view.said[nearest.key] is Says.DOWN
    )
    return bool(view.undecided()) and not certain and not started


def _starting(view: View) -> Headline:
    return Headline(STARTING, Domain.UNKNOWN, target=", ".join(check.name for check in view.undecided()))


def _no_fault(view: View) -> Headline:
    """Nothing is down; but only what was measured can be called healthy."""
    if Says.PASS in view.said.values():
        return Headline(HEALTHY, Domain.NONE)
    return Headline(UNDETERMINED, Domain.UNKNOWN, target="no check could measure anything")


def _recovering(view: View, head: Headline) -> bool:
    """Whether all that makes the headline passes again and only has to do so a few times more.

    Then the last verdict stays: what was behind a mended fault comes back a moment later than the fault
    itself, and must not be the next headline. A check that was not asked since something came back says nothing.
    """
    found = [health for node in head.nodes for health in down_members(node, view.healths)]
    mending = any(not health.fails for health in found)
    return mending and not any(health.fails and not view.outlived(health) for health in found)


def _headlines(view: View, facts: SiteFacts, lossy: Segment | None, ratio: float) -> list[Headline]:
    """List every fault that has a free way, the headline first: nearest to the probe, then what lies beside."""
    down = [n for n in view.frontier if view.said[n.key] is Says.DOWN]
    trunk = [trunk_headline(view, n) for n in down if n.layer not in (*FAR, Layer.SERVICE)]
    conflicts = conflict_headlines(view)
    trunk = [head for head in trunk if head.verdict not in {conflict.verdict for conflict in conflicts}]
    own, lan, wan = ([h for h in trunk if h.nodes[0].layer in layers] for layers in STRETCHES)
    impaired = (lossy and loss_headline(view, lossy, ratio)) or slow_headline(view)
    services = [service_headline(view, n) for n in down if n.layer is Layer.SERVICE]
    beside = beside_headlines(view)
    misled = any(head.verdict in NAMING for head in beside)
    by_name = [h for h in services if h.verdict in NAMING or (misled and not is_address(h.nodes[0].checks[0].asked))]
    others = sorted((h for h in services if h not in by_name), key=lambda head: head.verdict != "captive_portal")
    way = [*wan, *far_headline(view, [n for n in down if n.layer in FAR]), *evidence_headlines(view)]
    behind = [*others, *beside, *by_name, *slow_services(view)]
    behind = withheld(behind, view) if lossy else behind
    beyond = isolate(view, [*way, *behind], facts.isolated) if facts.isolated else [*way, *behind]
    return [
        *own,
        *conflicts,
        *lan,
        *([impaired] if impaired else []),
        *beyond,
        *device_headlines(view),
        *_of_our_own(view, facts),
    ]


def _of_our_own(view: View, facts: SiteFacts) -> list[Headline]:
    """List what impairs this probe itself, brokers that were asked, and last the way of its own results."""
    found = []
    if facts.probe_trouble:
        found.append(Headline("probe_degraded", Domain.PROBE, target=facts.probe_trouble))
    found += [beside_headline(view, node) for node in view.beside if node.layer is Layer.COLLECTOR]
    if facts.delivery_down_s >= COLLECTOR_AFTER_S:
        reason = facts.delivery_reason or "no connection"
        found.append(Headline("collector_unreachable", Domain.SERVICE, layer=str(Layer.COLLECTOR), target=reason))
    return found


def _finding(view: View, head: Headline, headlines: list[Headline], facts: SiteFacts) -> Finding:
    row = ROWS[head.verdict]
    words = {"target": head.target, "place": head.place, "responder": head.responder, "others": head.others}
    behind = unreachable(view)
    others = _also(head, headlines)
    faultless = head.verdict in FAULTLESS
    return Finding(
        verdict=head.verdict,
        domain=head.domain,
        layer=head.layer,
        since=_since(view, head, facts),
        confidence=1.0 if faultless else confidence(view, head),
        summary=sentence(row.summary.format(**words), _since(view, head, facts)),
        next=(head.verdict == HEALTHY and devices_to_look_at(view)) or row.next.format(**words),
        cause=tuple(c.name for n in head.nodes for c in n.checks),
        impacted=tuple(behind),
        working=tuple(view.words(Says.PASS)),
        blind=tuple(view.blind()),
        evidence=recovered(view.healths, facts.now) if head.verdict == HEALTHY else evidence(view, head),
        contradicting=contradicting(view, head),
        also=others,
        unreachable=behind,
    )


def _also(head: Headline, headlines: list[Headline]) -> tuple[str, ...]:
    """Name the other faults: a verdict of another name by its word, one of the same name with its checks."""
    others = [h for h in headlines if h is not head]
    words = [h.verdict for h in others if h.verdict != head.verdict]
    same = [f"{h.verdict}: {c.name}" for h in others if h.verdict == head.verdict for n in h.nodes for c in n.checks]
    return tuple(dict.fromkeys(words + same))[:MOST_ALSO]


def _since(view: View, head: Headline, facts: SiteFacts) -> Instant | None:
    if head.verdict == "collector_unreachable" and not head.nodes:  # our own connection
        now, down_s = facts.now, facts.delivery_down_s
        return replace(now, ts=now.ts - down_s, mono_ms=now.mono_ms - round(down_s * 1000))
    members = [view.healths.get(c.name, Health()) for n in head.nodes for c in n.checks]
    onsets = [_onset(head, health) for health in members]
    return min((o for o in onsets if o), key=lambda o: o.mono_ms, default=None)


def _onset(head: Headline, health: Health) -> Instant | None:
    """Say since when a check of a headline shows what the headline says; None where no record tells it."""
    if head.verdict in FINDINGS:
        ill_since = health.illness.since if health.illness.stands else health.since
        return ill_since if head.verdict == DEVICE_FAULT else None
    impaired = _impaired_since(health)
    return impaired if head.verdict in DEGRADED.values() else health.fault_onset or impaired


def _impaired_since(health: Health) -> Instant | None:
    """Say since when a check that passes is beyond a limit, or loses packets; None if it does neither."""
    return health.since if health.state is State.DEGRADED and not health.loss.lost else health.loss.since
