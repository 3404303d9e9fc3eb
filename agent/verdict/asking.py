"""Whom to ask again at once, before a fault is said; and whether the headline waits for it.

Only the failing nodes nearest to the probe are asked again, one request each (contract, section 4). At once a
second kind of evidence is asked for: the other checks of the same place, the LAN peers of a silent gateway, another
name server, and for a transfer that stalls what measures the way itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.check import CheckOptions
from agent.clock import Instant
from agent.loss import Loss
from agent.model import Failure, Layer
from agent.verdict.beside import claimed
from agent.verdict.graph import FAR, PATH_LAYERS, UNASKED, Node, Says
from agent.verdict.naming import failure_of
from agent.verdict.quality import Segment, doubtful, silent_behind
from agent.verdict.view import View

HOLD_S = 30.0
"""How long a fault that is being confirmed may hold back a new headline."""
EVIDENCE_S = 20.0
"""How long a headline waits for a check beyond the fault that has not been asked since it began."""
GATEWAY = PATH_LAYERS.index(Layer.GATEWAY)
MOST_STALE = 3
MOST_MISSING = 4
MOST_BESIDE = 2
"""Of the nodes beside the path so many are confirmed at a time."""


def confirm(
    view: View, losses: Mapping[str, Loss], now: Instant, lossy: Segment | None = None
) -> tuple[tuple[str, ...], bool]:
    """Choose whom to ask at once, and whether the headline waits for it.

    What lies behind a fault and has not been asked since is asked once, so that a success there can clear it.
    A headline that says that a segment is `lossy` waits for nobody whose silence it explains, nor for an old fault
    farther on, which the answers that come and go would have asked again and again.
    """
    frontier = view.frontier
    explained = {n.key for n in frontier if lossy and silent_behind(view, n, lossy)}
    first_down = next((_order(n) for n in frontier if view.said[n.key] is Says.DOWN), len(PATH_LAYERS))
    suspects = [n for n in frontier if view.said[n.key] is Says.SUSPECT and _order(n) <= first_down]
    nearest = [n for n in suspects if _order(n) == min(_order(n) for n in suspects)]
    ask = [name for n in nearest for name in (*view.counting(n), *second_opinions(view, n))]
    held = any(_seconds(view.onset_ms(n), now) < HOLD_S for n in suspects if n.key not in explained)
    for node in frontier:
        missing = [*(view.outdated(node) if view.said[node.key] is Says.DOWN else []), *view.unproven(node)]
        ask += [n.checks[0].name for n in missing[:MOST_MISSING]]
        long_since = lossy is not None and _order(node) > GATEWAY and _seconds(view.onset_ms(node), now) >= HOLD_S
        waited_for = bool(missing) and node.key not in explained and not long_since
        held = held or (waited_for and _since_change_s(view, node, now) < EVIDENCE_S)
    if not suspects:
        ask += [c.name for c in view.undecided() if c.name in view.healths]
        ask += [name for node in _beside(view) for name in (*view.counting(node), *second_opinions(view, node))]
        ask += slowness(view)
    ask += [c.name for n in view.stale[:MOST_STALE] for c in n.checks]
    return tuple(dict.fromkeys([*ask, *claimed(view), *doubtful(view, losses), *view.mending()])), held


def second_opinions(view: View, node: Node) -> list[str]:
    """Name the checks of another kind that can tell more of a node that has begun to fail, and were not asked since."""
    others = [check for check in node.checks if not view.fails(check.name)]
    if node.layer is Layer.GATEWAY and Layer.LAN in view.nodes:
        others += view.nodes[Layer.LAN].checks
    if node.layer is Layer.DNS:
        others += _others_of(view, node)
    if node.layer is Layer.SERVICE and failure_of(view.newest(node)) in (Failure.STALLED, Failure.TIMEOUT):
        others += [check for n in view.nodes.values() for check in n.checks if check.type == "mtu"]
    if node.layer is Layer.DEVICE:
        others += [check for check, _ in view.same_address(node)]  # whether it answers at all is the next question
    began = view.onset_ms(node)
    return [check.name for check in others if _asked_ms(view, check) < began]


def slowness(view: View) -> list[str]:
    """Name a check that has begun to pass beyond a limit; for a service also what measures the way to it.

    A line that others fill makes a service slow too (field.md 4.3, row 30): only a packet train tells.
    """
    found = [(n, c) for n in view.nodes.values() for c in n.checks if view.healths.get(c.name, UNASKED).wavering]
    if not found:
        return []
    node, check = found[0]
    began = view.healths[check.name].onset
    trains = (c for n in view.nodes.values() for c in n.checks if c.type == "train" and node.layer is Layer.SERVICE)
    return [check.name, *(c.name for c in trains if began and _asked_ms(view, c) < began.mono_ms)]


def _others_of(view: View, node: Node) -> list[CheckOptions]:
    return [check for n in view.nodes.values() if n.layer is node.layer and n.key != node.key for check in n.checks]


def _beside(view: View) -> list[Node]:
    """List the nodes beside the path that have begun to fail, while the way to them is free."""
    others = (n for n in view.nodes.values() if not (n.on_path or n.hearsay))
    found = (n for n in others if view.said[n.key] is Says.SUSPECT)
    free = [n for n in found if view.blocker(n) is None]
    patient = [n for n in free if not n.checks[0].asked_again]  # minutes away: it must not hold up another
    return [*[n for n in free if n not in patient][:MOST_BESIDE], *patient]


def _asked_ms(view: View, check: CheckOptions) -> int:
    seen = view.healths.get(check.name, UNASKED).seen
    return seen.mono_ms if seen else 0


def _order(node: Node) -> int:
    return PATH_LAYERS.index(Layer.INTERNET if node.layer in FAR else node.layer)


def _seconds(since_ms: int, now: Instant) -> float:
    return (now.mono_ms - since_ms) / 1000


def _since_change_s(view: View, node: Node, now: Instant) -> float:
    """Say how long ago the node began to fail, or anything came back, whichever is later."""
    return _seconds(max(view.onset_ms(node), view.back_ms), now)
