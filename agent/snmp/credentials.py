"""Who we are to a device: a community, or a user with keys (RFC 3414, RFC 7860, RFC 3826). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

VERSIONS = ("3", "2c", "1")
AUTH_PROTOCOLS = ("SHA-256", "MD5", "SHA", "SHA-224", "SHA-384", "SHA-512")
PRIV_PROTOCOLS = ("AES-128", "DES", "AES-192", "AES-256")
KEY_SHORTEST = 8
"""RFC 3414 11.2: a passphrase has at least 8 characters; agents refuse shorter ones."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request is signed and encrypted with. `version` is `1`, `2c` or `3`; "" = not used."""

    version: str
    community: str = field(default="", repr=False)
    user: str = ""
    auth_protocol: str = AUTH_PROTOCOLS[0]
    auth_key: str = field(default="", repr=False)
    priv_protocol: str = PRIV_PROTOCOLS[0]
    priv_key: str = field(default="", repr=False)

    @property
    def level(self) -> str:
        """Say for people how the requests are protected."""
        if self.version != "3":
            return f"v{self.version}, community in clear text"
        parts = [f"v3, user {self.user}"]
        parts += [f"signed with {self.auth_protocol}"] if self.auth_key else ["not signed"]
        parts += [f"encrypted with {self.priv_protocol}"] if self.priv_key else ["not encrypted"]
        return ", ".join(parts)
