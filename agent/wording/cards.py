"""The retained messages: what the broker keeps about each agent."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from agent.clock import ClockQuality
from agent.model import Fact, State
from agent.wording.records import CHECK_NAME, EP, EPOCH, ID, LAYER, NODE, SEQ, TIME, VERDICT_FACTS, VERSION_FACT

Facts = Mapping[str, Fact]
TS = Fact(str, "When it was written: UTC, RFC 3339 with milliseconds.", pattern=TIME)
VERDICT_PART = ("verdict", "fault_domain", "since", "incident")

STATUS: Facts = MappingProxyType(
    {
        "v": VERSION_FACT,
        "node": NODE,
        "state": Fact(
            str,
            "online; stopped (an orderly end); lost (the broker says so: the Will).",
            words=("online", "stopped", "lost"),
        ),
        "ep": Fact(str, "Epoch in force.", pattern=EPOCH),
        "conn": Fact(int, "Number of the connection; rises by 1 at each connect and survives restarts."),
        "ts": TS,
    }
)

LISTED_CHECK: Facts = MappingProxyType(
    {
        "name": CHECK_NAME,
        "type": Fact(str, "Type of the check."),
        "layer": LAYER,
        "group": Fact(str, "Group of the check; empty without one."),
        "target": Fact(str, "What is asked, as configured."),
        "interval_s": Fact(float, "Seconds from one run to the next."),
    }
)

LISTED_DEVICE: Facts = MappingProxyType(
    {
        "check": CHECK_NAME,
        "model": Fact(str, "Model of the device.", optional=True),
        "serial": Fact(str, "Its serial number.", optional=True),
        "firmware": Fact(str, "Its firmware.", optional=True),
    }
)

LIMITS: Facts = MappingProxyType(
    {
        "packets_per_second": Fact(float, "Packet budget of the whole agent; 0 = none."),
        "burst": Fact(float, "Packets that may leave at once."),
        "target_per_second": Fact(float, "Packet budget of each target; 0 = none."),
        "target_burst": Fact(float, "Packets that may go to one target at once."),
        "buffer_bytes": Fact(int, "Largest size of the store, bytes."),
        "buffer_age_s": Fact(float, "Longest time that a record is kept, seconds."),
        "late_rate": Fact(float, "Records a second of the backlog; 0 = unlimited."),
    }
)

ABOUT: Facts = MappingProxyType(
    {
        "v": VERSION_FACT,
        "node": NODE,
        "org": Fact(str, "Organisation.", pattern=ID),
        "site": Fact(str, "Site.", pattern=ID),
        "title": Fact(str, "Name of the site for people."),
        "version": Fact(str, "Version of the software."),
        "config_digest": Fact(str, "Digest of the config file in force."),
        "manifest_digest": Fact(
            str, "sha256 of all that the config sends, listens on and tells: `siteprobe manifest`."
        ),
        "tags": Fact(dict, "Tags of the config, each a text.", of={}),
        "checks_total": Fact(int, "How many checks run; `checks` is cut where the message would pass 32 KiB."),
        "limits": Fact(dict, "Limits in force.", of=LIMITS),
        "checks": Fact(list, "The checks that run.", of=LISTED_CHECK),
        "devices": Fact(list, "What the devices asked over SNMP say of themselves.", of=LISTED_DEVICE),
    }
)

HEARTBEAT: Facts = MappingProxyType(
    {
        "v": VERSION_FACT,
        "node": NODE,
        "org": ABOUT["org"],
        "site": ABOUT["site"],
        "title": ABOUT["title"],
        "ts": TS,
        "ep": STATUS["ep"],
        "next_seq": Fact(int, "Number that the next record gets: all below exist, or are declared lost."),
        "first_seq": Fact(int, "Lowest number that is still held and can be replayed."),
        "pending": Fact(int, "Records not acknowledged yet, in flight included."),
        "unheard": Fact(int, "Pending records that were published while nobody was subscribed."),
        "lost_total": Fact(int, "Numbers declared lost in this epoch."),
        "oldest_pending_ts": Fact(str, "When the oldest pending record was taken.", pattern=TIME, nullable=True),
        **{name: VERDICT_FACTS[name] for name in VERDICT_PART},
        **{str(state): Fact(int, f"Checks that are {state}.") for state in State},
        "clock": Fact(str, "How far the clock can be trusted now.", words=tuple(ClockQuality)),
        "version": ABOUT["version"],
        "config_digest": ABOUT["config_digest"],
        "buffer_bytes": Fact(int, "Bytes in use by the store."),
        "buffer_limit": Fact(int, "Bytes that the store may use."),
        "buffer_hours": Fact(
            float, "Hours that the store holds at the present pace; null before that is known.", nullable=True
        ),
        "uptime_s": Fact(float, "Seconds since the agent started."),
        "rss_bytes": Fact(int, "Memory of the agent, bytes."),
        "cpu_ratio": Fact(float, "Part of one processor core that the agent used since the last heartbeat, 0 to 1."),
        "overdue_checks": Fact(int, "Checks that begin late now."),
        "next_heartbeat_s": Fact(float, "Seconds until the next heartbeat."),
    }
)

VERDICT: Facts = MappingProxyType(
    {"v": VERSION_FACT, "node": NODE, **VERDICT_FACTS, "ep": EP, "seq": SEQ, "ts": TS},
)

STATE: Facts = MappingProxyType(
    {
        "v": VERSION_FACT,
        "node": NODE,
        "check": CHECK_NAME,
        "type": Fact(str, "Type of the check."),
        "layer": LAYER,
        "group": Fact(str, "Group of the check.", nullable=True),
        "state": Fact(str, "unreachable: what lies before it is the fault.", words=tuple(State)),
        "since": Fact(
            str, "When the state began: UTC, RFC 3339; null before the first run.", pattern=TIME, nullable=True
        ),
        "reason": Fact(str, "Why, in words.", nullable=True),
        "because": Fact(str, "The check that is the fault of an unreachable one.", nullable=True),
        "ep": EP,
        "seq": Fact(int, "Number of the record that tells of the change."),
    }
)
