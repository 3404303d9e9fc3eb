"""Everything that is written from the code: the config's schema, sample and manual, the checks', the messages',
and the verdicts'.

`python -m agent.describe` writes the files; with `--check` it writes nothing and fails on drift, which is
also a file in docs/schema/ that nothing makes any more.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from agent.describe.asyncapi import asyncapi
from agent.describe.checks import check_pages
from agent.describe.config import config_schema, example_yaml, manual
from agent.describe.messages import messages
from agent.describe.schemas import all_schemas
from agent.describe.verdicts import verdict_page

__all__ = ["config_schema", "files", "main"]

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "docs" / "schema"


def files() -> dict[Path, str]:
    """Give every generated file with its text."""
    schemas = {SCHEMAS / f"{name}.json": schema for name, schema in all_schemas().items()}
    return {
        ROOT / "config" / "siteprobe.schema.json": json.dumps(config_schema(), indent=2) + "\n",
        ROOT / "config" / "siteprobe.example.yaml": example_yaml(),
        ROOT / "docs" / "config.md": manual(),
        ROOT / "docs" / "checks.md": check_pages(),
        ROOT / "docs" / "messages.md": messages(),
        ROOT / "docs" / "asyncapi.yaml": asyncapi(),
        ROOT / "docs" / "verdicts.md": verdict_page(ROOT / "docs" / "lab.json"),
        **{path: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for path, schema in schemas.items()},
    }


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` name those that differ: 0 none, 1 some."""
    wanted = files()
    drifted = {path: text for path, text in wanted.items() if not path.exists() or path.read_text() != text}
    surplus = sorted(set(SCHEMAS.glob("*")) - wanted.keys())
    if "--check" in arguments:
        for path in (*drifted, *surplus):
            print(f"{path.relative_to(ROOT)} is not what the classes say; run `make docs`", file=sys.stderr)
        return 1 if drifted or surplus else 0
    for path, text in drifted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"wrote {path.relative_to(ROOT)}")
    for path in surplus:
        path.unlink()
        print(f"removed {path.relative_to(ROOT)}")
    return 0
