"""What goes over the pipes: one JSON object a line, at most 64 KiB.

- a question: {"id": 7, "do": "discover", "given": {…}}
- its answer: {"id": 7, "found": {…}}, or {"id": 7, "failure": "local_permission", "detail": "…"}
"""

from __future__ import annotations

import json
from typing import Any

LINE_BYTES = 65536
"""Longest line either way; a longer one ends the child."""


def packed(message: dict[str, Any]) -> bytes:
    """Write a message as its line; raises ValueError where that is too long."""
    line = json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    if len(line) > LINE_BYTES:
        raise ValueError(f"a message of {len(line)} bytes is longer than {LINE_BYTES}")
    return line


def unpacked(line: bytes) -> dict[str, Any]:
    """Read a line; raises ValueError where it is no message."""
    message = json.loads(line)
    if not isinstance(message, dict) or not isinstance(message.get("id"), int):
        raise ValueError("a line that is no message")
    return message
