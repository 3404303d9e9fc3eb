"""The config in force as plain values that make a valid config again; secrets only by reference."""

from __future__ import annotations

from typing import Any

import yaml

from agent.check import CheckOptions
from agent.config.load import Config
from agent.config.secret import SecretSource
from agent.options import Duration, Kind, ListOf, MapOf, Nullable, Section, Size, duration, options_of, size

SHOWN_SECTIONS = ("identity", "mqtt", "buffer", "safety", "status", "commands", "traps")


def plain(kind: Kind, value: Any) -> Any:
    """Write a value in the form of the file, as JSON-like values."""
    if isinstance(value, SecretSource):
        return value.shown()
    if value is None:
        return None
    if isinstance(kind, Nullable):
        return f"[{value[0]}]:{value[1]}" if ":" in value[0] else f"{value[0]}:{value[1]}"
    if isinstance(kind, Duration):
        return duration(value)
    if isinstance(kind, Size):
        return size(value)
    if isinstance(kind, ListOf):
        return [plain(kind.item, item) for item in value]
    if isinstance(kind, MapOf):
        return {key: plain(kind.value, item) for key, item in value}
    if isinstance(kind, Section):
        return section(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)  # as people write it, and as it is shown when this output is read again
    return value if isinstance(value, bool | int | float | str) else str(value)


def section(value: Any) -> dict[str, Any]:
    """Write a section with every option that has a value."""
    written = {}
    for o in options_of(type(value)):
        found = getattr(value, o.field)
        if found not in ("", None, (), 0.0) or found != o.default:
            written[o.key] = plain(o.kind, found)
    return {key: item for key, item in written.items() if item not in ("", None)}


def check(value: CheckOptions) -> dict[str, Any]:
    """Write a check with its type first."""
    return {"name": value.name, "type": value.type} | section(value)


def effective(config: Config) -> dict[str, Any]:
    """Write the whole config, every short form as the check that it became."""
    shown: dict[str, Any] = {"version": 1, "clock": config.clock}
    shown |= {name: section(getattr(config, name)) for name in SHOWN_SECTIONS}
    return {k: v for k, v in shown.items() if v} | {"standard": False, "checks": [check(c) for c in config.checks]}


def as_yaml(config: Config) -> str:
    """Write the effective config as YAML, with the header that says what it is."""
    text = yaml.safe_dump(effective(config), sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    return f"# {config.file} as siteprobe reads it: short forms written out, defaults filled in.\n{text}"
