"""One command as it comes in: read strictly, or refused with a code of the closed list.

The rules (contract, section 3, rule 7), in the order in which they are asked: not retained, known, enabled,
well formed, unexpired, not seen before. A refusal names the first that fails.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from agent.clock import ClockQuality, Instant
from agent.config.sections import COMMANDS

PAYLOAD_LIMIT_BYTES = 32 * 1024
"""Half of what the broker may send us at all: room for a replay of 1,000 ranges."""
ID_LIMIT = 128
MOST_DIGITS = 20
"""Of a whole number: 64 bits and a sign."""
RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,20})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
"""Less than Python reads, which takes weeks and hours without minutes too."""
AHEAD_S = 60.0
"""A command is for now: its `exp` lies at most this far ahead (contract, section 3)."""


class Code(StrEnum):
    """The answer to a command: a closed list (contract, section 3)."""

    OK = "ok"
    UNKNOWN = "unknown"
    DISABLED = "disabled"
    EXPIRED = "expired"
    RETAINED = "retained"
    DUPLICATE = "duplicate"
    INVALID = "invalid"
    NOT_ALLOWED = "not_allowed"
    BUSY = "busy"
    FAILED = "failed"


class Refused(Exception):
    """A command that is not obeyed: the closed `code`, and one sentence for whoever sent it."""

    def __init__(self, code: Code, reason: str) -> None:
        """Keep the word to branch on and the sentence for people."""
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Command:
    """A message on `command/{name}`, as the broker delivered it."""

    name: str
    payload: bytes
    retained: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A well-formed command: `exp_ts` in seconds since 1970, `args` as sent."""

    name: str
    id: str
    exp_ts: float
    args: Mapping[str, Any]


def json_object(payload: bytes, limit_bytes: int) -> dict[str, Any]:
    """Read a payload as one JSON object; raises ValueError with one sentence for anything else.

    NaN and infinity are no JSON (RFC 8259); a half of a surrogate pair is no text that UTF-8 could carry on.
    """
    if len(payload) > limit_bytes:
        raise ValueError(f"the payload has {len(payload)} bytes, at most {limit_bytes} are read")
    try:
        found = json.loads(payload.decode(), parse_constant=_no_number, parse_int=_whole_number)
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeError:
        raise ValueError("the payload is not UTF-8") from None
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("the payload is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("the payload is not a JSON object")
    return found


def _no_number(word: str) -> float:
    raise ValueError(f"the payload is not JSON, which has no {word}")


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"the payload has a number of {len(digits)} digits, at most {MOST_DIGITS} are read")
    return int(digits)


def id_of(body: Mapping[str, Any]) -> str | None:
    """Give the id, a short printable text; None where there is none that can be sent back."""
    found = body.get("id")
    return found if isinstance(found, str) and 0 < len(found) <= ID_LIMIT and found.isprintable() else None


def known_id(payload: bytes) -> str | None:
    """Give the id of a payload that may be anything."""
    try:
        return id_of(json_object(payload, PAYLOAD_LIMIT_BYTES))
    except ValueError:
        return None


def timestamp(text: object) -> float:
    """Read an RFC 3339 time with its offset as seconds since 1970; raises ValueError with one sentence."""
    sentence = "exp is missing or not an RFC 3339 time such as 2026-11-22T14:03:22Z"
    if not isinstance(text, str) or not RFC3339.fullmatch(text):
        raise ValueError(sentence)
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(sentence) from None


def read(command: Command, enabled: Container[str], now: Instant) -> Request:
    """Read a command that may be obeyed, but for `duplicate`; raises `Refused`."""
    if command.retained:
        raise Refused(Code.RETAINED, "a retained command is never acted on; send it without the retain flag")
    if command.name not in COMMANDS:
        raise Refused(Code.UNKNOWN, f"there is no such command; known are {', '.join(COMMANDS)}")
    if command.name not in enabled:
        raise Refused(Code.DISABLED, f"{command.name} is not in commands.enabled of this probe's config")
    try:
        request = _well_formed(command)
    except ValueError as error:
        raise Refused(Code.INVALID, str(error)) from None
    _judge_time(request.exp_ts, now)
    return request


def _well_formed(command: Command) -> Request:
    body = json_object(command.payload, PAYLOAD_LIMIT_BYTES)
    found = id_of(body)
    if found is None:
        raise ValueError(f"id is missing or not a printable text of at most {ID_LIMIT} letters")
    args = body.get("args")
    if args is not None and not isinstance(args, dict):
        raise ValueError("args is not a JSON object")
    return Request(command.name, found, timestamp(body.get("exp")), args or {})


def _judge_time(exp_ts: float, now: Instant) -> None:
    """Judge `exp` by the clock as it is, also while it is unset: a wrong clock refuses, it never accepts more.

    A probe whose NTP is blocked but whose clock is right can be asked so, and one that woke up in 1970
    refuses; each refusal tells that the clock may be to blame.
    """
    unset = "; this probe's clock is not set" if now.clock == ClockQuality.UNSYNCED else ""
    left_s = exp_ts - now.ts
    if left_s <= 0:
        raise Refused(Code.EXPIRED, f"it expired {-left_s:.0f} s ago by this probe's clock{unset}")
    if left_s > AHEAD_S:
        raise Refused(Code.EXPIRED, f"exp is {left_s:.0f} s ahead, at most {AHEAD_S:.0f} are allowed{unset}")
