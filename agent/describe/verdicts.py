"""docs/verdicts.md: every verdict and what to do next, how it is reached, what the lab measured, what stays open.

The lab's results come from docs/lab.json, which `make lab ARGS=--write` writes; without that file the page says so.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

from agent.describe.words import MADE_BY
from agent.verdict import HEALTHY, ROWS, Domain
from agent.verdict.limits import LIMITS
from agent.verdict.table import DNS_FAILURES

LabRow = Mapping[str, Any]
"""One condition as the lab wrote it: name, expected, got, seconds, recovered_s, evidence, confidence, wrong."""

OWN_FOLDER = re.compile(r"/[\w/-]*/lab\w+/\d+/")
"""The folder of one site of the lab's."""
MOST_EVIDENCE = 160
"""Characters of evidence in a line of the table; lab.json has more."""
OWN_LINK = ("local_interface_admin_down", "local_link_down")
"""Verdicts of the local link, which are said sooner than others."""

HOW = """\
1. **Frontier.** The checks form a path: link, address, LAN, gateway, uplink, carrier, then internet and data centres \
side by side, then services. The verdict is the failing node nearest to the probe whose parent passes; what lies \
behind it is `unreachable`, not down.
2. **Exoneration.** An answer from further on clears everything on its way: a gateway that filters ping is no fault. \
Who answered counts more than silence: a router that says `unreachable` names the place.
3. **Loss gate.** Where a segment loses some of its packets, that is the verdict, and what is merely silent behind it \
is withheld: one lost packet looks like a dead service.
4. **Confirmation.** Only the nearest failing node is asked again, once every 1 to 2 s and within the packet budget; \
`fail_after` fails in a row decide, fewer where a second kind of evidence agrees, more where packets are lost.
5. **One headline, and `also`.** The path comes before what lies beside it (names, DHCP, time), then devices, the \
probe itself, and last the way of its own results; every other fault is named in `also`."""

DOMAINS = {
    Domain.NONE: "nobody has to act",
    Domain.UNKNOWN: "not known",
    Domain.PROBE: "the probe and its own port: nothing is known about the hospital",
    Domain.SITE: "the hospital's own network",
    Domain.CARRIER: "the line out of the site and whoever runs it",
    Domain.INTERNET: "the internet, or who stands before it",
    Domain.DATACENTRE: "a data centre as a whole",
    Domain.SERVICE: "one service that is not on this site",
    Domain.DEVICE: "a device that is asked with SNMP",
}

USUAL = {
    "target": "epr (198.51.100.20)",
    "place": "dc-a",
    "responder": "10.20.0.1",
    "others": ", while internet and dc-b answer",
}
"""What fills the gaps of a summary in this page, where EXAMPLES has nothing better."""

EXAMPLES: Mapping[str, Mapping[str, str]] = {
    "undetermined": {"target": "no check could measure anything"},
    "suppressed": {"target": "the router is being replaced"},
    "local_interface_admin_down": {"target": "eth0"},
    "address_conflict": {"target": "10.20.0.10", "place": "02:00:5e:00:53:09"},
    "gateway_address_conflict": {"target": "10.20.0.1", "place": "02:00:5e:00:53:01,02:00:5e:00:53:09"},
    "lan_gateway_down": {"target": "10.20.0.1"},
    "lan_degraded": {"target": "loses 20% of the packets"},
    "wan_degraded": {"target": "loses 20% of the packets"},
    "wan_capacity_low": {"target": "0.26 Mbit/s"},
    "path_mtu_black_hole": {"target": "more than 1400 bytes"},
    "internet_unreachable": {"others": ", while dc-a and dc-b answer"},
    "isolated_by_policy": {"target": "cyber incident"},
    "remote_policy_reject": {"responder": "198.51.100.1"},
    "remote_host_down": {"responder": "198.51.100.1"},
    "remote_service_slow": {"place": "total_s 2.6 above 2"},
    **{name: {"target": "resolver-1 (10.20.0.53)"} for name in DNS_FAILURES.values()},
    "rogue_dhcp_server": {"place": "192.168.1.1"},
    "time_offset": {"target": "time (198.51.100.20)", "place": "offset_s 5 above 0.5"},
    "device_down": {"target": "comms-ups (10.20.0.5)"},
    "snmp_agent_unresponsive": {"target": "comms-ups (10.20.0.5)", "others": ", while it answers ping"},
    "switch_port_err_disabled": {"target": "core-switch", "place": "the switch disabled port Gi1/0/2: bpdu guard"},
    "switch_port_down": {"target": "core-switch", "place": "port Gi1/0/2 is down for 3 min"},
    "ups_battery_low": {"target": "comms-ups", "place": "battery low, 4 min left"},
    "ups_on_battery": {"target": "comms-ups", "place": "on battery, 22 min left"},
    "temperature_high": {"target": "comms-room", "place": "room temperature 34.5 °C"},
    "poe_fault": {"target": "core-switch", "place": "power over Ethernet fails on port 1.2"},
    "duplex_mismatch": {"target": "core-switch", "place": "port Gi1/0/2 has late collisions"},
    "port_errors_high": {"target": "core-switch", "place": "port Gi1/0/2 received 412 damaged frames"},
    "stp_instability": {"target": "core-switch", "place": "spanning tree changed 20 times in 5 min"},
    "device_fault": {"target": "core-switch", "place": "fan Switch#1, Fan#1 does not work"},
    "device_rebooted": {"target": "core-switch", "place": "was started anew: snmpEngineBoots went from 7 to 8"},
    "printer_fault": {"target": "printer", "place": "paper jam"},
    "probe_degraded": {"target": "the store /var/lib/siteprobe/journal.sqlite cannot be written (disk full)"},
    "collector_unreachable": {"target": "nobody listens at collector.example.org port 8883"},
}
"""What fills the gaps of each verdict's summary in this page."""


def verdict_page(lab: Path) -> str:
    """Write the page; `lab` is the file with the lab's results, which may be missing."""
    rows = json.loads(lab.read_text()) if lab.exists() else []
    return "\n".join((*_verdicts(), *lab_results(rows), *_limits())) + "\n"


def _verdicts() -> Iterator[str]:
    yield f"# The verdicts\n\n{MADE_BY} The fields of a verdict: [the messages](messages.md). Which checks it rests on:"
    yield "[the check types](checks.md). A verdict of the field can be argued about: `siteprobe replay FILE`."
    yield f"\n## How a verdict is reached\n\n{HOW}"
    yield "\n## What is said, and what to do next\n\nIn italics: what differs from case to case."
    for domain in Domain:
        found = {name: row for name, row in ROWS.items() if row.domain is domain}
        yield f"\n**{domain}**: {DOMAINS[domain]}\n"
        yield "| verdict | it says | then |\n| --- | --- | --- |"
        for name, row in found.items():
            yield f"| `{name}` | {filled(name, row.summary)} | {filled(name, row.next)} |"
    yield "\nThe domain may be another one where more is known: `site` for what the config puts on this site and for a"
    yield "name server on the probe's own subnet, `datacentre` where every service of its group fails."


def filled(name: str, sentence: str) -> str:
    """Fill the gaps of a sentence of the table with an example, each in italics."""
    examples = {**USUAL, **EXAMPLES.get(name, {})}
    marked = {gap: italic(examples[gap]) for _, gap, _, _ in Formatter().parse(sentence) if gap}
    return cell(sentence.format(**marked))


def italic(words: str) -> str:
    """Set words in italics; a comma at their beginning stays outside, where Markdown wants no space."""
    lead = words[: len(words) - len(words.lstrip(", "))]
    return f"{lead}*{words[len(lead) :]}*"


def cell(words: str) -> str:
    """Write words so that they stay in one cell of a table."""
    return " ".join(words.split()).replace("|", "\\|")


def lab_results(rows: Sequence[LabRow]) -> Iterator[str]:
    """Write what the lab measured, first the figures, then a line for each condition."""
    yield "\n## What the lab measured\n\nThe whole agent in a hospital made of network namespaces, one fault at a time,"
    yield "checks every 10 s; judged by what the centre hears over MQTT and, where the fault lies between them, by"
    yield "`siteprobe status` at the probe (`tests/lab/`, `make lab`).\n"
    if not rows:
        yield "No run is written down here; `make lab ARGS=--write` plays one and does, then `make docs`."
        return
    yield from figures(rows)
    yield "\n| condition | expected | got | seconds | over after | evidence |\n| --- | --- | --- | --- | --- | --- |"
    yield from map(_lab_line, rows)


def figures(rows: Sequence[LabRow]) -> Iterator[str]:
    """Write how many were right, and the median and the worst of the seconds."""
    right = sum(not row["wrong"] for row in rows)
    harmless = sum(row["expected"] == HEALTHY for row in rows)
    yield f"- right: {right} of {len(rows)} conditions ({right / len(rows):.1%}); {harmless} are healthy look-alikes"
    yield from _spread("fault to verdict", [row["seconds"] for row in rows])
    yield from _spread("of the local link", [row["seconds"] for row in rows if row["expected"] in OWN_LINK])
    yield from _spread("mended to healthy", [row["recovered_s"] for row in rows])


def _spread(what: str, found: Sequence[float | None]) -> Iterator[str]:
    seconds = [value for value in found if value is not None]
    if seconds:
        yield f"- {what}: median {statistics.median(seconds):.1f} s, worst {max(seconds):.1f} s"


def _lab_line(row: LabRow) -> str:
    got = f"**{row['got'] or 'nothing'}**" if row["wrong"] else f"`{row['got']}`"
    evidence = brief(f"not right: {row['wrong']}" if row["wrong"] else row["evidence"])
    words = (row["name"], f"`{row['expected']}`", got, _s(row["seconds"]), _s(row["recovered_s"]), evidence)
    return f"| {' | '.join(map(cell, words))} |"


def brief(evidence: str) -> str:
    """Leave out where the run kept its files, which differs each time, and what is too long for a table."""
    text = OWN_FOLDER.sub("…/", " ".join(evidence.split()))
    return text if len(text) <= MOST_EVIDENCE else f"{text[: MOST_EVIDENCE - 1]}…"


def _s(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}"


def _limits() -> Iterator[str]:
    yield "\n## What one vantage point cannot tell apart\n"
    yield "The probe sits on one port of one switch. From there these look alike; a verdict says no more than is known."
    yield "\n| look alike | said | why | what decides |\n| --- | --- | --- | --- |"
    for limit in LIMITS:
        said = ", ".join(f"`{name}`" for name in limit.said)
        yield f"| {' | '.join(map(cell, (limit.alike, said, limit.why, limit.decides)))} |"
