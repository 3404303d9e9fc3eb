"""The file `{buffer.directory}/suppress`: looked at each second, read only when it has changed."""

from __future__ import annotations

import stat
from pathlib import Path

from agent.commands.request import json_object

NAME = "suppress"
LIMIT_BYTES = 4096


def mark_of(path: Path) -> str | None:
    """Tell one state of the file from the next; "" = no file, None = the disk does not say.

    An empty file is one that is only being written. A stat(2) of a known file reads no disk.
    """
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError:
        return None
    return f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}" if found.st_size else ""


def age_s(path: Path, now_ts: float) -> float:
    """Say how long ago the file was written or put there (ctime: no copy and no touch(1) backdates it); at least 0.

    0 too where the disk does not say, or where the clock was set back since.
    """
    try:
        return max(now_ts - path.lstat().st_ctime, 0.0)
    except OSError:
        return 0.0


def read_file(path: Path) -> dict[str, object]:
    """Read the file as one JSON object; raises ValueError with one sentence, also where it cannot be read."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ValueError("it is not a plain file")
        with path.open("rb") as file:
            return json_object(file.read(LIMIT_BYTES + 1), LIMIT_BYTES)
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None
