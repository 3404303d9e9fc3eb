"""From an answer to a value, and from a value to a finding: what a symbol of a profile makes of it. Pure.

A value is a number, a word, a text, or several words (bits); None where the device does not know it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.model import Scalar
from agent.snmp.profile import CRITICAL, DEVICE_FAULT, ORDER, WARNING, StateMeaning, Symbol, Thresholds, Value, When

HYSTERESIS_RATIO = 0.03
"""A number that passed its limit must come back by this part of it before it counts as well again."""
UNIT_EXPONENT = 9
"""EntitySensorDataScale 9 is 'units': each step is a factor of 1,000 (RFC 3433)."""
SCALE_MOST, PRECISION_MOST = 17, 9
"""RFC 3433: the scale is 1 (yocto) to 17 (yotta), the precision -8 to 9; anything else is not a sensor's."""
SENSOR_LIMIT = 1_000_000_000
"""RFC 3433: a sensor's value of -1e9 or +1e9 means that it is out of its range."""
TEXT_MOST = 120
POSSIBLE = (
    ("_ratio", 0.0, 10_000.0),
    ("_celsius", -273.15, 10_000.0),
    ("_left_s", 0.0, 31_536_000.0),
    ("_s", 0.0, math.inf),
)
"""What a number of such a name can be at all: devices write others (-1, 255, 65535, 2147483647) for "not known"."""
SUFFIXES = (
    ("_left_s", "", 0.0),
    ("_ratio", " %", 100.0),
    ("_celsius", " °C", 1.0),
    ("_volts", " V", 1.0),
    ("_watts", " W", 1.0),
    ("_amperes", " A", 1.0),
    ("_hertz", " Hz", 1.0),
    ("_rpm", " rpm", 1.0),
)
Read = Callable[[str], "Value"]
"""Gives what was answered to a needed object: in a table the cell of the same row."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not well: how bad, in words, and the verdict's word for it ("" = none)."""

    health: str
    words: str
    finding: str = ""


def number(value: Value) -> float | None:
    """Take a number; devices also write numbers as text, as in "24.5". What is no finite number is None."""
    if isinstance(value, int):
        return value
    if isinstance(value, bytes):
        try:
            found = float(value.decode("ascii").strip().rstrip("%").strip())
        except ValueError:
            return None
        return found if math.isfinite(found) else None  # "nan", "inf", "1e999"
    return None


def text(value: Value) -> str | None:
    """Take printable text, cut to a readable length; an OID or address as it is."""
    if isinstance(value, bytes):
        shown = "".join(c if c.isprintable() else " " for c in value.decode("utf-8", "replace"))
        return " ".join(shown.split())[:TEXT_MOST] or None
    return value if isinstance(value, str) else None


def holds(when: When | None, read: Read) -> bool:
    """Tell whether a condition holds; what is not answered does not."""
    return when is None or str(read(when.oid)) in when.values


def measured(symbol: Symbol, value: Value, read: Read) -> Scalar:
    """Make the value of a symbol from what was answered; counters are not for here."""
    if value is None or not (holds(symbol.when, read) and holds(symbol.valid, read)):
        return None
    if symbol.form == "text":
        return text(value)
    if symbol.form == "bits":
        return ",".join(bits(symbol, value)) if isinstance(value, bytes) else None
    found = number(value)
    if found is None or found in symbol.unknown:
        return None
    if symbol.mapping:
        return dict(symbol.mapping).get(int(found), f"other_{int(found)}")
    return _scaled(symbol, found, read)


def _scaled(symbol: Symbol, found: float, read: Read) -> float | int | None:
    if symbol.sensor_scale:
        if abs(found) >= SENSOR_LIMIT:
            return None
        scale, precision = number(read(symbol.sensor_scale)), number(read(symbol.sensor_precision))
        scale, precision = UNIT_EXPONENT if scale is None else scale, precision or 0
        if not (1 <= scale <= SCALE_MOST and abs(precision) <= PRECISION_MOST):
            return None
        found *= 10.0 ** (3 * (scale - UNIT_EXPONENT) - precision)
    if symbol.divide_by:
        whole = number(read(symbol.divide_by))
        if whole is None or whole <= 0 or found < 0:
            return None
        found /= whole
    if symbol.scale_factor != 1 or symbol.add:
        found = found * symbol.scale_factor + symbol.add
    if symbol.most is not None and found > symbol.most:
        return None
    least, most = next(((low, high) for end, low, high in POSSIBLE if symbol.name.endswith(end)), (-math.inf, math.inf))
    if not least <= found <= most:
        return None
    return int(found) if found == int(found) else round(found, 6)


def bits(symbol: Symbol, value: bytes) -> list[str]:
    """List the words of the bits that are set, the leftmost bit being 0 (RFC 2578 7.1.4)."""
    words = dict(symbol.mapping)
    places = range(len(value) * 8)
    return [words.get(i, f"other_{i}") for i in places if value[i // 8] & (0x80 >> i % 8)]


def judged(
    symbol: Symbol, value: Scalar, label: str, read: Read, fields: Mapping[str, Scalar], raised: set[tuple[str, str]]
) -> list[Finding]:
    """Say what is not well about a value; `raised` keeps which limits are passed, for the hysteresis."""
    if value is None:
        return []
    found: list[Finding] = []
    for word in str(value).split(",") if symbol.states else ():
        meaning = dict(symbol.states).get(word)
        if meaning:
            found.append(_of_state(symbol, meaning, word, label, fields))
    if symbol.thresholds and isinstance(value, int | float):
        found += _of_number(symbol, symbol.thresholds, value, label, read, fields, raised)
    return found


def _of_state(symbol: Symbol, meaning: StateMeaning, word: str, label: str, fields: Mapping[str, Scalar]) -> Finding:
    template = meaning.say or (spoken(symbol.name) + (" of {label}" if label else "") + " is {value}")
    words = sentence(template, {**fields, "label": label, "value": word.replace("_", " ")})
    return Finding(meaning.health, words, word_for(meaning.health, meaning.finding))


def _of_number(
    symbol: Symbol,
    limits: Thresholds,
    value: float,
    label: str,
    read: Read,
    fields: Mapping[str, Scalar],
    raised: set[tuple[str, str]],
) -> list[Finding]:
    health = ""
    for level, limit in ((WARNING, limits.warning), (CRITICAL, limits.critical)):
        key = (f"{symbol.name} {level}", label)
        passed = limit is not None and holds(limits.when, read) and beyond(value, limit, limits.below, key in raised)
        (raised.add if passed else raised.discard)(key)
        health = level if passed else health
    if not health:
        return []
    template = limits.say or (spoken(symbol.name) + (" of {label}" if label else "") + " {value}")
    words = sentence(template, {**fields, "label": label, "value": shown(symbol.name, value)})
    return [Finding(health, words, word_for(health, limits.finding))]


def word_for(health: str, finding: str) -> str:
    """Give the verdict's word: the profile's own; without one what is critical is a fault, a warning a notice."""
    return finding or (DEVICE_FAULT if health == CRITICAL else "")


def beyond(value: float, limit: float, below: bool, already: bool) -> bool:
    """Tell whether a limit is passed; one that was passed already needs a clear way back."""
    slack = abs(limit) * HYSTERESIS_RATIO if already else 0.0
    return value < limit + slack if below else value > limit - slack


def sentence(template: str, fields: Mapping[str, Scalar]) -> str:
    """Fill in a template; a part in [ ] is dropped where one of its fields is not known."""

    def filled(part: str) -> str | None:
        names = re.findall(r"{([a-z0-9_]+)}", part)
        if any(fields.get(name) is None for name in names):
            return None
        return re.sub(r"{([a-z0-9_]+)}", lambda m: shown(m[1], fields[m[1]]), part)

    text_ = re.sub(r"\[([^\[\]]*)\]", lambda m: filled(m[1]) or "", template)
    return re.sub(r"{([a-z0-9_]+)}", lambda m: shown(m[1], fields.get(m[1])), text_).strip()


def shown(name: str, value: Scalar) -> str:
    """Write a value for people, by the unit in its name."""
    if value is None:
        return "unknown"
    if isinstance(value, str | bool):
        return str(value)
    for suffix, unit, factor in SUFFIXES:
        if name.endswith(suffix):
            return f"{value / 60:.0f} min" if suffix == "_left_s" else _digits(value * factor, 3) + unit
    return f"{value / 60:.0f} min" if name.endswith("_s") and value >= 120 else _digits(value, 6)


def _digits(value: float, most: int) -> str:
    """Write a number with so many digits, but never as 1.23e+03."""
    return f"{value:.0f}" if round(abs(value)) >= 10**most else f"{value:.{most}g}"


def spoken(name: str) -> str:
    """Make words of a field's name, without its unit."""
    for suffix in (*(suffix for suffix, _, _ in SUFFIXES), "_s", "_bytes"):
        name = name.removesuffix(suffix)
    return name.replace("_", " ")


def worst(found: list[Finding]) -> str:
    """Give the worst health among findings."""
    return max((finding.health for finding in found), key=ORDER.index, default=ORDER[0])
