"""Whether a check loses packets on the way, as a pure function of the echoes it sent and lost.

A lost echo is chance, and many lost ones are a fault; how many is decided as Wald decides it (field.md 4.2): each
echo adds the logarithm of how much likelier it is under LOSSY than under USUAL, a sum below zero begins again
at zero (Page's CUSUM), and beyond DECIDES the loss is believed. After that CLEAN echoes in a row end it, or more where
less is lost.

With LOSSY 15 % and USUAL 2 % (1 % each way): five lost echoes of the first six, six of 20, or nine of 60. At 2 % of
random loss that happens by chance once in some 400,000 echoes, at 1 % practically never; 20 % is noticed after 37
echoes in the mean. A LAN usually loses nothing (0.5 % is worth a warning, field.md 2.4): there 20 % is noticed after 20
echoes, and 0.5 % is taken for a fault once in some 400,000.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from agent.clock import Instant

USUAL, USUAL_ON_LAN, LOSSY = 0.02, 0.005, 0.15
DECIDES = 10.0
"""ln of 22,000 to 1."""
CLEAN, MOST_CLEAN = 30, 120
"""So many answered in a row end a loss of 36 %; at less loss it takes more (52 at 20 %), up to the second."""
OVER_TO_ONE = math.log(1e5)
"""For taking a loss for over while it lasts: three places asked each second have 10,000 occasions an hour."""
REMEMBERED = 60
"""Echoes over which the ratio is taken; what is older fades."""
LEAST_RATIO, DEAD_RATIO = 0.03, 0.9
"""Beyond the second nothing comes through: that is not loss but silence (field.md 4.2: 5 to 90 %)."""
RIGHT_TO_ONE = math.log(1000.0)
"""Alpha and beta of 0.001 for taking a silent target for dead (field.md 4.2)."""
MOST_FAILS = 12


@dataclass(frozen=True, slots=True)
class Loss:
    """What the echoes of one check, or of a segment, say.

    `sent` and `lost` count since `since`, when the present streak began; `clean` those answered in a row, and `needed`
    how many of them end a loss that is believed.
    """

    score: float = 0.0
    sent: float = 0.0
    lost: float = 0.0
    clean: int = 0
    since: Instant | None = None
    believed: bool = False
    needed: int = CLEAN

    @property
    def ratio(self) -> float:
        """The part that is lost, 0 to 1; 0 while nothing speaks for loss."""
        return round(self.lost / self.sent, 3) if self.sent else 0.0

    @property
    def degrading(self) -> bool:
        """Whether packets are lost beyond doubt, and others come through."""
        return self.believed and LEAST_RATIO <= self.ratio < DEAD_RATIO

    @property
    def doubtful(self) -> bool:
        """Whether something was lost that is not decided yet, or has not been whole again for long enough."""
        return self.since is not None


def after(loss: Loss, sent: int, lost: int, at: Instant, usual: float = USUAL) -> Loss:
    """Take one run into account: so many echoes sent from `at` on, so many of them not answered.

    `usual` is the part that a healthy way of this kind may lose.
    """
    if not sent:
        return loss
    if not loss.doubtful and not lost:
        return replace(loss, clean=min(loss.clean + sent, REMEMBERED))
    fading = REMEMBERED / (loss.sent + sent) if loss.sent + sent > REMEMBERED else 1.0
    counted = replace(
        loss,
        score=max(loss.score + evidence(sent, lost, usual), 0.0),
        sent=(loss.sent + sent) * fading,
        lost=(loss.lost + lost) * fading,
        clean=0 if lost else loss.clean + sent,
        since=min((moment for moment in (loss.since, at) if moment), key=lambda moment: moment.mono_ms),
    )
    if lost:
        counted = replace(counted, needed=clean_needed(counted.ratio))
    enough = counted.needed if counted.believed else CLEAN
    if counted.clean >= enough or (not counted.score and not counted.believed):
        return Loss(clean=min(counted.clean, REMEMBERED))
    return replace(counted, believed=counted.believed or counted.score >= DECIDES)


def clean_needed(ratio: float) -> int:
    """Say how many answered in a row end a loss of this ratio: by chance once in 100,000 times."""
    part = min(max(ratio, LEAST_RATIO), DEAD_RATIO)
    return max(CLEAN, min(math.ceil(OVER_TO_ONE / -math.log(1 - part)), MOST_CLEAN))


def evidence(sent: int, lost: int, usual: float) -> float:
    """Say how much speaks for LOSSY against `usual`: the logarithm of the ratio of their likelihoods."""
    return lost * math.log(LOSSY / usual) + (sent - lost) * math.log((1 - LOSSY) / (1 - usual))


def fails_needed(usual: int, ratio: float) -> int:
    """Say how many fails in a row make something down where so much is lost on the way: `usual`, or more."""
    if ratio < USUAL:
        return usual
    return max(usual, min(math.ceil(RIGHT_TO_ONE / math.log(0.99 / min(ratio, 0.8))), MOST_FAILS))
