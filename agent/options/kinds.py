"""Kinds of one scalar: numbers, words, durations, sizes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from agent.options.words import UNITS_BYTES, UNITS_S, did_you_mean, duration, shown, size

ID_PATTERN = r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?"


@dataclass(frozen=True)
class Kind:
    """One kind of value: reads it, says what it expects, and describes itself as JSON Schema."""

    expects: ClassVar[str] = "a value"

    def read(self, text: str, quoted: bool = False) -> Any:
        """Turn the text of a YAML scalar into the value; raises ValueError with the reason."""
        raise ValueError(f"expected {self.words()}")

    def schema(self) -> dict[str, Any]:
        """Describe the YAML form as JSON Schema 2020-12."""
        return {"type": "string"}

    def words(self) -> str:
        """Name the kind for people."""
        return self.expects


def _bounds(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    return f" of at least {low:g}" if low is not None else f" of at most {high:g}" if high is not None else ""


@dataclass(frozen=True)
class Number(Kind):
    """A number with limits; `whole` refuses fractions."""

    low: float | None = None
    high: float | None = None
    whole: bool = False

    def read(self, text: str, quoted: bool = False) -> float | int:
        pattern = r"-?(0|[1-9][0-9]*)" if self.whole else r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?"
        if quoted or len(text) > 30 or not re.fullmatch(pattern, text):
            raise ValueError(f"expected {self.words()}, not {shown(text, quoted)}")
        value: float | int = int(text) if self.whole else float(text)
        if not math.isfinite(value):
            raise ValueError(f"expected {self.words()}, not {text}")
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            raise ValueError(f"expected {self.words()}, not {text}")
        return value

    def schema(self) -> dict[str, Any]:
        limits = {"minimum": self.low, "maximum": self.high}
        return {"type": "integer" if self.whole else "number"} | {k: v for k, v in limits.items() if v is not None}

    def words(self) -> str:
        return ("a whole number" if self.whole else "a number") + _bounds(self.low, self.high)


@dataclass(frozen=True)
class Flag(Kind):
    """`true` or `false`; YAML 1.1's yes, no, on and off stay strings and are refused here."""

    expects: ClassVar[str] = "true or false"

    def read(self, text: str, quoted: bool = False) -> bool:
        if quoted or text not in ("true", "false"):
            raise ValueError(f"expected true or false, not {shown(text, quoted)}")
        return text == "true"

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Text(Kind):
    """Any text of one line, optionally of a pattern (the whole must match)."""

    pattern: str = ""
    name: str = "text"
    longest: int = 500

    def read(self, text: str, quoted: bool = False) -> str:
        if not text or len(text) > self.longest or not text.isprintable():
            raise ValueError(f"expected {self.name} of 1 to {self.longest} printable characters")
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise ValueError(f"expected {self.words()}, not {shown(text, quoted)}")
        return text

    def schema(self) -> dict[str, Any]:
        plain = {"type": ["string", "number", "boolean"], "minLength": 1, "maxLength": self.longest}  # read as written
        return plain | ({"pattern": f"^(?:{self.pattern})$"} if self.pattern else {})

    def words(self) -> str:
        return self.name


ID_RULE = "a-z 0-9 and -, at most 40 characters, beginning and ending with a letter or digit"


def ident(name: str = "an id") -> Text:
    """Make the kind of org, site, node, tags, groups and check names."""
    return Text(ID_PATTERN, f"{name} ({ID_RULE})", 40)


@dataclass(frozen=True)
class Choice(Kind):
    """One word of a closed list."""

    options: tuple[str, ...] = ()

    def read(self, text: str, quoted: bool = False) -> str:
        if text not in self.options:
            raise ValueError(f"expected {self.words()}, not {shown(text, quoted)}{did_you_mean(text, self.options)}")
        return text

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.options)}

    def words(self) -> str:
        return "one of " + ", ".join(self.options)


@dataclass(frozen=True)
class WholeChoice(Kind):
    """One of a few whole numbers or version words, such as `5` or `3.1.1`."""

    options: tuple[str, ...] = ()

    def read(self, text: str, quoted: bool = False) -> str:
        if text not in self.options:
            raise ValueError(f"expected {self.words()}, not {shown(text, quoted)}")
        return text

    def schema(self) -> dict[str, Any]:
        numbers = [int(o) for o in self.options if o.isdigit()]
        return {"enum": [*self.options, *numbers]}

    def words(self) -> str:
        return " or ".join(self.options)


@dataclass(frozen=True)
class Duration(Kind):
    """A time span such as 500ms, 10s, 5m, 2h or 7d, in seconds as a float."""

    low: float = 0.0
    high: float = 366 * 86400.0

    def read(self, text: str, quoted: bool = False) -> float:
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)", text)
        if not match:
            raise ValueError(f"expected {self.words()}, not {shown(text, quoted)}")
        value = round(float(match[1]) * UNITS_S[match[2]], 6)
        if not self.low <= value <= self.high:
            raise ValueError(f"expected {self.words()}, not {text}")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$"}

    def words(self) -> str:
        return f"a duration such as 500ms, 10s, 5m, 2h or 7d, from {duration(self.low)} to {duration(self.high)}"


@dataclass(frozen=True)
class Size(Kind):
    """A size such as 256MiB, in bytes."""

    low: int = 0
    high: int = 2**40

    def read(self, text: str, quoted: bool = False) -> int:
        match = re.fullmatch(r"([0-9]{1,12})(B|KiB|MiB|GiB|kB|MB|GB)", text)
        if not match or not self.low <= int(match[1]) * UNITS_BYTES[match[2]] <= self.high:
            raise ValueError(f"expected {self.words()}, not {shown(text, quoted)}")
        return int(match[1]) * UNITS_BYTES[match[2]]

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB|kB|MB|GB)$"}

    def words(self) -> str:
        return f"a size such as 256MiB, from {size(self.low)} to {size(self.high)}"
