"""Every message described once: its fields with their JSON types and units, its topic, its retain flag.

The manual, the JSON Schemas and the AsyncAPI document are made from here (`agent.describe`); the fields of
a check type's own records stand in the class of the check (`facts`). Contract, section 3.
"""

from agent.wording.cards import ABOUT, HEARTBEAT, STATE, STATUS, VERDICT
from agent.wording.commands import ARGUMENTS, COMMAND, PACE, RESPONSE, RESPONSE_CODES, RESULTS
from agent.wording.records import CHECK, FAILURES, HEAD, LATE, OUTCOME, OWN_RECORDS
from agent.wording.topics import TOPICS, Topic

__all__ = [
    "ABOUT",
    "ARGUMENTS",
    "CHECK",
    "COMMAND",
    "FAILURES",
    "HEAD",
    "HEARTBEAT",
    "LATE",
    "OUTCOME",
    "OWN_RECORDS",
    "PACE",
    "RESPONSE",
    "RESPONSE_CODES",
    "RESULTS",
    "STATE",
    "STATUS",
    "TOPICS",
    "VERDICT",
    "Topic",
]
