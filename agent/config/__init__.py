"""The config: one YAML file, read strictly into frozen values, all errors at once."""

from agent.config.advise import warnings
from agent.config.load import Config, ConfigError, directory_of, load
from agent.config.secret import SecretSource
from agent.config.sections import Buffer, Commands, Identity, Mqtt, Status, Traps
from agent.config.shorthand import Surroundings

__all__ = [
    "Buffer",
    "Commands",
    "Config",
    "ConfigError",
    "Identity",
    "Mqtt",
    "SecretSource",
    "Status",
    "Surroundings",
    "Traps",
    "directory_of",
    "load",
    "warnings",
]
