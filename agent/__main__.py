"""`siteprobe` and `python -m agent`: the command line."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run the command line; the commands themselves are loaded by the one that is asked for."""
    from agent.cli import siteprobe

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an old terminal without a tick mark is no reason to fail
    siteprobe(prog_name="siteprobe")


if __name__ == "__main__":
    main()
