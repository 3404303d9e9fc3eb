"""Kinds of network names: hosts, URLs, networks, listening addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any, ClassVar
from urllib.parse import urlsplit

from agent.options.kinds import Kind
from agent.options.words import shown

AUTHORITY = r"(\[[^\[\]@]*\]|[^\[\]:@]*)(:[0-9]*)?"  # RFC 3986 3.2, without user and password
WITH_PATH = ("http", "https")
WITHOUT_DEFAULT_PORT = ("tcp",)
ZONE_PATTERN = r"[A-Za-z0-9_.-]{1,15}"  # an interface name has 15 characters at most, netdevice(7)
LISTEN_PATTERN = r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})"
HOST_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
NO_NAME = r"[0-9.-]+|(.*\.)?(0[xX][0-9a-fA-F]*|[0-9]+)\.?"
"""What begins like a range, or ends in a number: an address in a form that people misread (0x7f000001, 127.1)."""
HOST_PATTERN = rf"(?=.{{1,253}}\.?$)({HOST_LABEL}\.)*{HOST_LABEL}\.?"


@dataclass(frozen=True)
class Host(Kind):
    """A host name or an IP address; `words_allowed` are the words that the check resolves itself."""

    words_allowed: tuple[str, ...] = ()

    def read(self, text: str, quoted: bool = False) -> str:
        if text in self.words_allowed or is_address(text):
            return text
        if not re.fullmatch(HOST_PATTERN, text) or re.fullmatch(NO_NAME, text):
            raise ValueError(f"expected {self.words()}, not {shown(text, quoted)}")
        return text

    def schema(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"type": ["string", "number", "boolean"], "maxLength": 254}  # as written: `on`, 1e3
        return plain | {"pattern": "^[A-Za-z0-9_.:%-]+$"}

    def words(self) -> str:
        return "a host name or an IP address" + "".join(f", or the word {w}" for w in self.words_allowed)


@dataclass(frozen=True)
class Url(Kind):
    """A URL of one of the schemes, without user, password or fragment (secrets have keys of their own)."""

    schemes: tuple[str, ...] = ()

    def read(self, text: str, quoted: bool = False) -> str:
        if not self._fits(text):
            if "@" in text:  # never shown: what stands before it may be a secret
                raise ValueError("a user or password has no place in a URL; use the keys for it")
            raise ValueError(f"expected {self._missed(text)}, not {shown(text, quoted)}")
        parts = urlsplit(text)
        if parts.scheme in WITHOUT_DEFAULT_PORT and parts.port is None:
            raise ValueError(f"{parts.scheme}:// needs a port after the host, such as {parts.scheme}://192.0.2.1:443")
        if parts.scheme not in WITH_PATH and (parts.path not in ("", "/") or parts.query or parts.fragment):
            raise ValueError(f"{parts.scheme}:// names a host and a port; nothing may follow them")
        return text

    def _missed(self, text: str) -> str:
        scheme = text.partition("://")[0].lower()
        known = scheme in self.schemes and "://" in text
        return f"a host, and a port from 1 to 65535 if one is needed, after {scheme}://" if known else self.words()

    def _fits(self, text: str) -> bool:
        try:
            parts = urlsplit(text)
            host, port = parts.hostname or "", parts.port
            Host().read(host)
        except ValueError:
            return False
        plain = text.isprintable() and " " not in text
        return (
            plain and parts.scheme in self.schemes and port != 0 and re.fullmatch(AUTHORITY, parts.netloc) is not None
        )

    def schema(self) -> dict[str, Any]:
        letters = ("".join(f"[{c.upper()}{c}]" if c.isalpha() else c for c in s) for s in self.schemes)
        return {"type": "string", "pattern": f"^({'|'.join(letters)})://"}

    def words(self) -> str:
        return "a URL that begins with " + " or ".join(f"{s}://" for s in self.schemes)


@dataclass(frozen=True)
class Net(Kind):
    """A network such as 10.20.0.0/16 or fd00::/8, or one address."""

    expects: ClassVar[str] = "a network such as 10.20.0.0/16"

    def read(self, text: str, quoted: bool = False) -> Any:
        try:
            return ip_network(text)
        except ValueError:
            raise ValueError(f"expected {self.expects}, not {shown(text, quoted)}{self._hint(text)}") from None

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^[0-9a-fA-F.:]+(%[^/]*)?(/[0-9.]+)?$"}

    def _hint(self, text: str) -> str:
        try:
            return f"; did you mean {ip_network(text, strict=False)}?"
        except ValueError:
            return ""


@dataclass(frozen=True)
class Listen(Kind):
    """An address and port to listen on, such as 127.0.0.1:8080 or [::1]:8080."""

    expects: ClassVar[str] = "an address and port such as 127.0.0.1:8080"

    def read(self, text: str, quoted: bool = False) -> tuple[str, int]:
        match = re.fullmatch(LISTEN_PATTERN, text)
        address = (match[1] or match[2]) if match else ""
        if not match or not is_address(address) or not 0 < int(match[3]) < 65536:
            raise ValueError(f"expected {self.expects}, not {shown(text, quoted)}")
        return address, int(match[3])

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{LISTEN_PATTERN}$"}


@lru_cache(maxsize=4096)  # each run of a check asks it of the same few targets
def is_address(text: str) -> bool:
    """Tell whether the text is an IPv4 or IPv6 address."""
    try:
        found = ip_address(text)
    except ValueError:
        return False
    zone = getattr(found, "scope_id", None)
    return zone is None or re.fullmatch(ZONE_PATTERN, zone) is not None
