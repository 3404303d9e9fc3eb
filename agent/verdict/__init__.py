"""Where the fault lies: a pure function of the checks and their health.

The rule (contract, section 4): one headline, the failing node nearest to the probe whose parent
passes. A success clears only what lies on its way. Path verdicts outrank what lies beside the path;
`collector_unreachable` comes last.
"""

from agent.verdict.graph import Path
from agent.verdict.locate import Finding, SiteFacts, locate
from agent.verdict.quality import Segment, segment_of, usual_loss
from agent.verdict.table import FAULTLESS, HEALTHY, ROWS, STARTING, SUPPRESSED, UNDETERMINED, Domain

__all__ = [
    "FAULTLESS",
    "HEALTHY",
    "ROWS",
    "STARTING",
    "SUPPRESSED",
    "UNDETERMINED",
    "Domain",
    "Finding",
    "Path",
    "Segment",
    "SiteFacts",
    "locate",
    "segment_of",
    "usual_loss",
]
