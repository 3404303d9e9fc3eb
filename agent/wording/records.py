"""The fields that all records share, those of the records of no check, and what each failure means."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from agent.clock import ClockQuality
from agent.messages import EVENT_KINDS, INDICATORS, VERSION
from agent.model import Fact, Failure, Layer, Outcome, State

Facts = Mapping[str, Fact]
TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"
ID = "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
EPOCH = "^[a-z0-9]+$"

VERSION_FACT = Fact(int, f"Version of the message form: {VERSION}.")
NODE = Fact(str, "Name of the agent, unique in the fleet.", pattern=ID)
EP = Fact(str, "Epoch of the number: it changes when the store begins anew.", pattern=EPOCH)
SEQ = Fact(int, "Number within the epoch, from 1, in the order taken.")
LAYER = Fact(str, "Where on the path the check looks.", words=tuple(Layer))
CHECK_NAME = Fact(str, "Name of the check.", pattern=ID)

HEAD: Facts = MappingProxyType(
    {
        "v": VERSION_FACT,
        "node": NODE,
        "ep": EP,
        "seq": SEQ,
        "ts": Fact(str, "When the measurement began: UTC, RFC 3339 with milliseconds.", pattern=TIME),
        "clock": Fact(
            str,
            "How far `ts` can be trusted: `corrected` was put right from `mono_ms` of the same `boot`.",
            words=tuple(ClockQuality),
        ),
        "boot": Fact(str, "Which run of the machine: the first digits of its boot id.", pattern="^[0-9a-f]+$"),
        "mono_ms": Fact(int, "Milliseconds since the machine started, when the measurement began."),
        "type": Fact(str, "What kind of record it is."),
    }
)
"""What every record begins with."""

LATE = Fact(bool, "True on `late` topics, where the record was sent from the backlog or again.", optional=True)

CHECK: Facts = MappingProxyType(
    {
        "check": CHECK_NAME,
        "layer": LAYER,
        "target": Fact(str, "What was asked, as configured; empty where nothing is (link)."),
        "address": Fact(str, "The address as used; empty where none was."),
    }
)
"""What every record of a check has after the head."""

OUTCOME: Facts = MappingProxyType(
    {
        "outcome": Fact(
            str,
            "pass; fail (the target's fault); unknown (we could not measure, which never counts against the target).",
            words=tuple(Outcome),
        ),
        "failure": Fact(str, "Why it is not pass.", words=tuple(Failure), optional=True),
        "detail": Fact(str, "One sentence for people.", optional=True),
        "duration_s": Fact(float, "Seconds that the run took."),
        "responder": Fact(str, "Address of who sent an ICMP error.", optional=True),
        "icmp_type": Fact(int, "Type of that ICMP error.", optional=True),
        "icmp_code": Fact(int, "Code of that ICMP error.", optional=True),
    }
)
"""What the record of a check's run has besides; the further records of a run (`snmp_port`) do not."""

VERDICT_FACTS: Facts = MappingProxyType(
    {
        "title": Fact(str, "Name of the site for people."),
        "verdict": Fact(str, "What is the matter, one of the verdicts of the manual.", pattern="^[a-z][a-z0-9_]*$"),
        "fault_domain": Fact(
            str,
            "Whose fault it is.",
            words=("none", "unknown", "probe", "site", "carrier", "internet", "datacentre", "service", "device"),
        ),
        "layer": Fact(str, "Where on the path the fault lies.", words=tuple(Layer), nullable=True),
        "since": Fact(str, "When it began: UTC, RFC 3339.", pattern=r"^\d{4}-\d\d-\d\dT[0-9:.]+Z$"),
        "incident": Fact(
            str,
            "`ep-seq` of the verdict record that opened the incident; kept when the same fault comes back"
            " within 10 min.",
            pattern="^[a-z0-9]+-[0-9]+$",
            nullable=True,
        ),
        "confidence": Fact(float, "How sure the verdict is, 0 to 1."),
        "summary": Fact(str, "The verdict in one sentence."),
        "next": Fact(str, "One sentence for the technician: what to do."),
        "cause": Fact(list, "Checks that show the fault."),
        "impacted": Fact(list, "Checks that cannot be reached because of it."),
        "working": Fact(list, "Layers and groups that pass."),
        "blind": Fact(list, "Layers of the path that no check covers."),
        "evidence": Fact(list, "What speaks for the verdict."),
        "contradicting": Fact(list, "What speaks against it."),
        "also": Fact(list, "Further faults that are no headline."),
    }
)
"""What a verdict says, on its retained topic with lists as lists; in a record they are comma-joined."""

OWN_RECORDS: Mapping[str, tuple[str, Facts]] = MappingProxyType(
    {
        "transition": (
            "A check changed its state.",
            {
                "check": CHECK_NAME,
                "layer": LAYER,
                "old": Fact(str, "State before.", words=tuple(State)),
                "new": Fact(str, "State from now on.", words=tuple(State)),
                "reason": Fact(str, "Why, in words."),
            },
        ),
        "verdict": ("The verdict changed; lists are comma-joined, what is null is left out.", VERDICT_FACTS),
        "loss": (
            "Numbers of this epoch that nobody will ever get.",
            {
                "from_seq": Fact(int, "First lost number."),
                "to_seq": Fact(int, "Last lost number."),
                "reason": Fact(
                    str,
                    "thinned (the buffer was full), quarantined (the broker refuses it for ever),"
                    " crash (skipped after a power cut).",
                    words=("thinned", "quarantined", "crash"),
                ),
            },
        ),
        "summary": (
            "What is left of records that had to go unsent: their number, and their main field. Without `check`"
            " it stands for several checks.",
            {
                "check": Fact(str, "Name of the check.", pattern=ID, optional=True),
                "of_type": Fact(str, "Record type that was summed up.", optional=True),
                "period_s": Fact(
                    float,
                    "Seconds from `ts`, the first record's, to the last record; missing if unknown.",
                    optional=True,
                ),
                "count": Fact(int, "Records summed up."),
                "pass": Fact(int, "Of them, with outcome pass."),
                "fail": Fact(int, "Of them, with outcome fail; the rest is unknown."),
                "field": Fact(str, "Name of the main field.", optional=True),
                "measured": Fact(int, "Records that had the main field.", optional=True),
                "min": Fact(float, "Its least value, in the unit of its name.", optional=True),
                "mean": Fact(float, "Its mean value.", optional=True),
                "max": Fact(float, "Its greatest value.", optional=True),
            },
        ),
        "event": (
            "Something happened to the agent or a device that is no measurement.",
            {
                **{name: Fact(f.kind, f.sentence, f.words, f.pattern, optional=True) for name, f in CHECK.items()},
                "name": Fact(str, "Command that was sent (kind `command`).", optional=True),
                "id": Fact(str, "Its id.", optional=True),
                "code": Fact(str, "What was answered.", optional=True),
                "old": Fact(str, "Way before, comma-joined (kind `path_changed`).", optional=True),
                "new": Fact(str, "Way from now on.", optional=True),
                "switch": Fact(str, "Name of the switch at our port (kind `own_neighbour_changed`).", optional=True),
                "switch_port": Fact(str, "Its port.", optional=True),
                "switch_vlan": Fact(int, "VLAN of that port, where it says so.", optional=True),
                "heard_by": Fact(str, "The protocol that told it.", words=("lldp", "cdp"), optional=True),
                "indicator": Fact(str, "Which sign was seen (kind `indicator`).", words=INDICATORS, optional=True),
                "source": Fact(str, "Keyed hash of who is meant; the key changes daily.", optional=True),
                "count": Fact(int, "How much of it: addresses asked for, packets a second, attempts.", optional=True),
                "port": Fact(int, "TCP port that was tried.", optional=True),
                "kind": Fact(str, "What happened, from a closed list.", words=tuple(EVENT_KINDS)),
                "detail": Fact(str, "One sentence for people."),
            },
        ),
    }
)
"""Records of no check run, by type: what it is for, and the fields after the head."""

FAILURES: Mapping[Failure, str] = MappingProxyType(
    {
        Failure.TIMEOUT: "No answer before the deadline.",
        Failure.REFUSED: "The host is up and nothing listens there, or a firewall answers for it.",
        Failure.UNREACHABLE: "Somebody on the way, or our own kernel for a neighbour, said that it cannot be reached.",
        Failure.PROHIBITED: "A firewall on the way said no.",
        Failure.RESET: "The other side broke the connection off.",
        Failure.DNS_TIMEOUT: "The name server did not answer.",
        Failure.DNS_NXDOMAIN: "The name does not exist.",
        Failure.DNS_SERVFAIL: "The name server could not find out.",
        Failure.DNS_REFUSED: "The name server will not tell.",
        Failure.DNS_MISMATCH: "The name has no such record, or not the expected one.",
        Failure.TLS_EXPIRED: "The certificate has ended.",
        Failure.TLS_NOT_YET_VALID: "The certificate has not begun.",
        Failure.TLS_UNTRUSTED: "The certificate is from nobody we trust.",
        Failure.TLS_NAME: "The certificate is for another name.",
        Failure.TLS_HANDSHAKE: "The TLS handshake failed otherwise.",
        Failure.HTTP_STATUS: "The HTTP status is not an expected one.",
        Failure.HTTP_TEXT: "The expected text is not in the body.",
        Failure.STALLED: "The answer began and then stopped.",
        Failure.CAPTIVE_PORTAL: "A log-in page stands between us and the internet.",
        Failure.AUTH: "Our credentials were refused.",
        Failure.MISMATCH: "An answer came that is not one to our question.",
        Failure.PROTOCOL: "The answer cannot be read.",
        Failure.DUPLICATE_ADDRESS: "Two machines use one address.",
        Failure.NO_ANSWER: "No DHCP server made an offer.",
        Failure.ROGUE: "A DHCP server answered that should not be there.",
        Failure.LOCAL_LINK: "Our own interface is missing, off, or without a carrier.",
        Failure.LOCAL_ADDRESS: "Our own interface has no usable address.",
        Failure.LOCAL_ROUTE: "Our own machine has no route.",
        Failure.LOCAL_PERMISSION: "Our own machine forbids the measurement.",
        Failure.LOCAL_POLICY: "The config forbids to ask this target.",
        Failure.OVERLOAD: "Our own budget or machine was exhausted.",
        Failure.INTERNAL: "A fault of the agent itself.",
        Failure.ABORTED: "The run was broken off by us.",
    }
)
"""The closed list of failures."""
