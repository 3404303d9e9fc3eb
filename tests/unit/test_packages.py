"""What the tests need of the machine is what tests/install-debian-packages installs: else a new machine skips them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = (ROOT / "tests/install-debian-packages").read_text()
TABLE = [line.split() for line in SCRIPT.partition("<< 'TABLE'\n")[2].partition("\nTABLE\n")[0].splitlines()]
ALONG = {
    "mosquitto_passwd": "mosquitto",
    "epmd": "rabbitmq-server",  # by its dependency erlang-base
    "snmpinform": "snmp",
    "tc": "iproute2",
    "unshare": "util-linux",
}
"""Programs that come with a package of the table."""
ASKED = re.compile(r"""need\.tool\(["']([^"']+)["']\)""")


def test_each_line_of_the_table_is_a_program_and_its_package() -> None:
    assert TABLE and all(len(line) == 2 for line in TABLE), TABLE


def test_every_program_that_a_test_asks_for_is_installed() -> None:
    asked = {name for file in (ROOT / "tests").rglob("*.py") for name in ASKED.findall(file.read_text())}
    programs, packages = {program for program, _ in TABLE}, {package for _, package in TABLE}
    missing = {name for name in asked if name not in programs and ALONG.get(name) not in packages}
    assert asked and missing == {"chronyd"}, missing
    assert "unpack_chrony" in SCRIPT, "chronyd is unpacked beside the system"
