"""What the centre may say to an agent, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from agent.model import Fact
from agent.wording.records import EPOCH, ID

Facts = Mapping[str, Fact]
ANY_TIME = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$"

COMMAND: Facts = MappingProxyType(
    {
        "id": Fact(str, "Chosen by the sender, new for each command; it comes back in the response."),
        "exp": Fact(str, "RFC 3339 time after which the command is refused; at most 60 s ahead.", pattern=ANY_TIME),
        "args": Fact(dict, "What the command takes; see there.", of={}),
    }
)

SPANS = "spans of numbers, [[from, to], …], both ends included"

ARGUMENTS: Mapping[str, tuple[str, Facts]] = MappingProxyType(
    {
        "replay": (
            "Sends records of the journal again, on the `late` topics.",
            {
                "ep": Fact(str, "Epoch of the numbers.", pattern=EPOCH),
                "ranges": Fact(tuple, f"Numbers wanted: {SPANS}."),
            },
        ),
        "report": ("Publishes about, heartbeat, verdict and all states again.", {}),
        "check": (
            "Runs a check of the config now.",
            {"check": Fact(str, "Name of the check.", pattern=ID)},
        ),
        "traceroute": (
            "Traces the way to the target of a check.",
            {"check": Fact(str, "Name of the check.", pattern=ID)},
        ),
        "suppress": (
            "Says that people work on the site, for a time; it ends by itself.",
            {
                "seconds": Fact(float, "For how long, at most 14400; 0 ends what a command began."),
                "kind": Fact(
                    str,
                    "maintenance stops all active checks; isolation keeps measuring.",
                    words=("maintenance", "isolation"),
                ),
                "reason": Fact(str, "Why, in words.", optional=True),
            },
        ),
    }
)
"""The commands by name: what each does, and its `args`."""

RESULTS: Mapping[str, Facts] = MappingProxyType(
    {
        "replay": {
            "queued": Fact(int, "Records that will come on the `late` topics."),
            "gone": Fact(tuple, f"Numbers that are not held any more: {SPANS}."),
        },
        "report": {"messages": Fact(int, "Messages that are published again.")},
        "suppress": {
            "kind": Fact(str, "As asked for."),
            "seconds": Fact(float, "As asked for."),
            "until": Fact(str, "When it ends by itself: UTC, RFC 3339.", pattern=ANY_TIME),
        },
    }
)
"""The `result` by command; of `check` and `traceroute` it is the record."""

RESPONSE_CODES: Mapping[str, str] = MappingProxyType(
    {
        "ok": "Done, or begun.",
        "unknown": "No such command.",
        "disabled": "The config does not enable it.",
        "expired": "`exp` has passed, or is too far ahead.",
        "retained": "It came as a retained message: commands are never retained.",
        "duplicate": "The id was used before.",
        "invalid": "It cannot be read, or its args are wrong.",
        "not_allowed": "The config forbids what it asks for.",
        "busy": "Another one of this kind is at work.",
        "failed": "It was tried and did not succeed.",
    }
)
"""The closed list of answers."""

RESPONSE: Facts = MappingProxyType(
    {
        "id": Fact(str, "Id of the command; null where it could not be read.", nullable=True),
        "ok": Fact(bool, "Whether the code is `ok`."),
        "code": Fact(str, "What became of it.", words=tuple(RESPONSE_CODES)),
        "result": Fact(dict, "What came of it; `{reason}`, a sentence, where it was refused.", of={}),
    }
)

PACE: Facts = MappingProxyType(
    {
        "hold": Fact(bool, "True holds the backlog back; fresh records go on.", optional=True),
        "late_rate": Fact(float, "Records a second of each agent's backlog; the smaller rate wins.", optional=True),
        "spread_s": Fact(float, "Seconds over which agents spread their reconnects.", optional=True),
        "exp": Fact(str, "RFC 3339 time at which it ends; at most 24 h ahead.", pattern=ANY_TIME),
    }
)
