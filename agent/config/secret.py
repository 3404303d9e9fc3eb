"""Where a secret comes from. Only `reveal()` gives it; nothing prints it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

SOURCES = {
    "credential": "the name of a credential (a file in $CREDENTIALS_DIRECTORY)",
    "file": "the path of a file",
    "env": "the name of an environment variable",
}
LONGEST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class SecretSource:
    """A secret by reference: `source` is credential, file, env or literal."""

    source: str
    name: str = field(repr=False)

    def reveal(self) -> str:
        """Read the secret now; raises ValueError with one clear sentence."""
        if self.source == "literal":
            return self.name
        if self.source == "env":
            found = os.environ.get(self.name)
            if found is None:
                raise ValueError(f"environment variable {self.name} is not set")
            return self._filled(found.rstrip("\r\n"))
        return self._filled(self._from_file())

    def _filled(self, found: str) -> str:
        """Refuse an empty secret: a file that was cut off, or a variable that was never filled."""
        if not found:
            what = f"environment variable {self.name}" if self.source == "env" else f"secret file {self._path()}"
            raise ValueError(f"{what} is empty")
        return found

    def _from_file(self) -> str:
        path = self._path()
        try:
            with path.open("rb") as file:
                text = file.read(LONGEST_BYTES + 1).decode()
        except OSError as error:
            raise ValueError(f"secret file {path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"secret file {path} is not UTF-8 text") from None
        if len(text.encode()) > LONGEST_BYTES:
            raise ValueError(f"secret file {path} is longer than {LONGEST_BYTES} bytes; no secret is")
        return text.rstrip("\r\n")

    @property
    def path(self) -> Path | None:
        """The file that holds the secret; None where it is not in a file."""
        try:
            return self._path() if self.source in ("file", "credential") else None
        except ValueError:
            return None

    def _path(self) -> Path:
        if self.source == "file":
            return Path(self.name)
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise ValueError(f"credential {self.name}: no $CREDENTIALS_DIRECTORY; see LoadCredential= in the unit")
        return Path(directory) / self.name

    def shown(self) -> object:
        """Give what may be printed: the reference, never a literal."""
        return "(literal, not shown)" if self.source == "literal" else {self.source: self.name}
