"""Every topic: who writes it, whether it is retained, and which message it carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

ORG = "siteprobe/v1/{org}"
BASE = f"{ORG}/{{site}}/{{node}}"
QOS = 1


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `message` names the schema; for `live` and `late` it is one a record type."""

    address: str
    message: str
    sentence: str
    retained: bool = False
    from_agent: bool = True


TOPICS: Mapping[str, Topic] = MappingProxyType(
    {
        "status": Topic(
            f"{BASE}/status", "status", "Whether the agent is connected; also its Will (delay 0).", retained=True
        ),
        "about": Topic(
            f"{BASE}/about", "about", "What the agent is and asks: at connect and on change, ≤ 32 KiB.", retained=True
        ),
        "heartbeat": Topic(
            f"{BASE}/heartbeat", "heartbeat", "The site's card: at connect and every 60 s.", retained=True
        ),
        "verdict": Topic(f"{BASE}/verdict", "verdict", "What is the matter: at connect and on change.", retained=True),
        "state": Topic(
            f"{BASE}/state/{{check}}",
            "state",
            "State of one check: at connect and on change; empty once the check is removed.",
            retained=True,
        ),
        "live": Topic(
            f"{BASE}/live/{{type}}/{{check}}",
            "record",
            "One record, first sent within 30 s of being taken; records of no check have `site` as check.",
        ),
        "late": Topic(
            f"{BASE}/late/{{type}}",
            "late",
            "Backlog and replay: an array of 1 to 100 records of the type, ascending in seq, ≤ 32 KiB.",
        ),
        "command": Topic(
            f"{BASE}/command/{{name}}",
            "command",
            "The centre asks the agent for something; a retained one is refused.",
            from_agent=False,
        ),
        "response": Topic(f"{BASE}/response", "response", "What became of a command."),
        "pace": Topic(
            f"{ORG}/fleet/pace",
            "pace",
            "The centre slows the backlog of all agents down, for a time.",
            retained=True,
            from_agent=False,
        ),
    }
)
"""All topics by name; the QoS is 1 everywhere."""

PARAMETERS: Mapping[str, str] = MappingProxyType(
    {
        "org": "Organisation, as in the config's identity.",
        "site": "Site, as in the config's identity.",
        "node": "Agent: also its client id and the CN of its certificate.",
        "check": "Name of the check; `site` for records of no check.",
        "type": "Record type.",
        "name": "Name of the command.",
    }
)
