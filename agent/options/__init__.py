"""How an option is described, once: validation, sample config, JSON Schema and manual live from it.

A section of the config is a frozen dataclass whose fields are made with `option(kind, sentence)`.
A kind reads one YAML scalar, list or map into a value and can describe itself. Kinds raise
`ValueError` with a reason that completes the sentence "path: …".
"""

from agent.options.kinds import ID_PATTERN, Choice, Duration, Flag, Kind, Number, Size, Text, WholeChoice, ident
from agent.options.network import HOST_PATTERN, Host, Listen, Net, Url, is_address
from agent.options.sections import (
    ListOf,
    MapOf,
    Nullable,
    Option,
    Raw,
    Secret,
    Section,
    option,
    options_of,
    section_schema,
)
from agent.options.words import did_you_mean, duration, shown, size

__all__ = [
    "HOST_PATTERN",
    "ID_PATTERN",
    "Choice",
    "Duration",
    "Flag",
    "Host",
    "Kind",
    "ListOf",
    "Listen",
    "MapOf",
    "Net",
    "Nullable",
    "Number",
    "Option",
    "Raw",
    "Secret",
    "Section",
    "Size",
    "Text",
    "Url",
    "WholeChoice",
    "did_you_mean",
    "duration",
    "ident",
    "is_address",
    "option",
    "options_of",
    "section_schema",
    "shown",
    "size",
]
