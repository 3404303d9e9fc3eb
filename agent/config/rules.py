"""The rules that look at more than one option. Each gives (path or key, reason)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from agent.check import CheckOptions, Traffic
from agent.config.sections import File, Mqtt
from agent.options import ID_PATTERN, did_you_mean, duration, is_address, options_of, shown
from agent.policy import Policy, forbidden_address, forbidden_port, is_loopback

Problems = Iterator[tuple[str, str]]
RESERVED_IDS = ("fleet",)
NODE_NAMES_REFUSED = ("localhost", "raspberrypi")
MEDICAL_INTERVAL_S = 60.0
CONSENT_TYPES = ("listen", "dicom", "mllp")


def file_problems(file: File) -> Problems:
    """Hold the rules of the whole file, checks apart."""
    for key in ("org", "site", "node"):
        if getattr(file.identity, key) in RESERVED_IDS:
            yield f"identity.{key}", "the id `fleet` is reserved"
    for key, value in file.identity.tags:
        if RESERVED_IDS[0] in (key, value):
            yield f"identity.tags.{key}", "the id `fleet` is reserved"
    if file.identity.node in NODE_NAMES_REFUSED:
        yield "identity.node", f"{file.identity.node} names no machine in particular; write a name unique in the fleet"
    yield from _mqtt(file.mqtt, file.safety)


def host_name_problem(host_name: str) -> str | None:
    """Say why the machine's own name cannot be the node id, or None if it can."""
    if host_name in (*NODE_NAMES_REFUSED, *RESERVED_IDS) or not re.fullmatch(ID_PATTERN, host_name):
        return (
            f"is missing, and this machine's host name {host_name!r} cannot stand in; write a name unique in the fleet"
        )
    return None


def leaves_machine(host: str) -> bool:
    """Tell whether a connection to the host (a name or an address) leaves this machine."""
    return host != "localhost" and not (is_address(host) and is_loopback(host))


def _mqtt(mqtt: Mqtt, policy: Policy) -> Problems:
    if not mqtt.tls and leaves_machine(mqtt.host) and not mqtt.allow_plaintext:
        yield (
            "mqtt.url",
            "mqtt:// would leave this machine unencrypted; use mqtts://, or set mqtt.allow_plaintext: true",
        )
    if bool(mqtt.cert_file) != bool(mqtt.key_file):
        yield "mqtt", "cert_file and key_file go together"
    if mqtt.password is not None and not mqtt.username:
        yield "mqtt.password", "a password needs a username"
    if is_address(mqtt.host) and (reason := forbidden_address(Policy(deny=policy.deny), mqtt.host)):
        yield "mqtt.url", reason
    if reason := forbidden_port("tcp", mqtt.port):
        yield "mqtt.url", reason


def check_problems(check: CheckOptions, policy: Policy, wrong: Collection[str] = ()) -> Problems:
    """Hold the rules of one check: floor of the interval, consent, classes, and what may be asked.

    `wrong` are the options that could not be read; a rule that would need them is passed over.
    """
    if check.name in RESERVED_IDS:
        yield "name", "the id `fleet` is reserved"
    yield from class_problems(check)
    if check.type in CONSENT_TYPES and not check.consent:
        yield "consent", f"type {check.type} needs the owner's consent; write its reference as consent: REF"
    yield from _medical(check)
    if not any(o.required and o.key in wrong for o in options_of(type(check)) if o.key != "name"):
        yield from forbidden(check, policy)
    problems = getattr(check, "problems", None)
    if problems is not None and {o.key for o in options_of(CheckOptions)}.issuperset(wrong):
        yield from problems()


def class_problems(check: CheckOptions) -> Problems:
    """Hold the rules that hold in `defaults` too: what the type decides."""
    if check.interval_s < check.least_interval_s:
        least = duration(check.least_interval_s)
        yield "interval", f"type {check.type} is asked every {least} at most, not every {duration(check.interval_s)}"
    yield from _degraded(check)


def _degraded(check: CheckOptions) -> Problems:
    known = check.numbers()
    for name, _ in check.degraded:
        if name not in known:
            hint = did_you_mean(name, list(known)) or f"; known are {', '.join(known)}"
            yield f"degraded.{name}", f"a record of type {check.type} has no number {shown(name)}{hint}"


def _medical(check: CheckOptions) -> Problems:
    if check.device_class != "medical":
        return
    if not check.responsibility_agreement:
        yield "class", "a medical device is never asked without responsibility_agreement: REF (IEC 80001-1)"
    elif check.type != "icmp":
        yield "class", f"a medical device may only be asked by icmp, not by {check.type}"
    elif check.interval_s < MEDICAL_INTERVAL_S:
        yield "interval", "a medical device may be asked once a minute at most"


def medical_problems(checks: Iterable[CheckOptions]) -> Iterator[tuple[str, str, str]]:
    """Hold the rule that looks at all checks: a medical device is asked by one check and no other, whatever its class.

    Gives (name of the check, key, reason). Only what is written alike is found; a name and its address are not.
    """
    enabled = [check for check in checks if check.enabled]
    owners = {_host(t): check for check in enabled if check.device_class == "medical" for t in check.sends()}
    for check in enabled:
        for destination, key in {(_host(t), key) for t, key in _asked(check)}:
            if destination in owners and owners[destination] is not check:
                owner = owners[destination].name
                yield (
                    check.name,
                    key,
                    f"{check.name} asks {destination}, the medical device of {owner}: only one check may",
                )


def _host(traffic: Traffic) -> str:
    return traffic.destination.lower().rstrip(".")  # of names, case and a last dot mean nothing


def forbidden(check: CheckOptions, policy: Policy) -> Problems:
    """Name the addresses and ports that a check must not ask."""
    for traffic, key in _asked(check):
        address, protocol = traffic.destination, traffic.protocol
        if is_address(address) and (reason := forbidden_address(policy, address, protocol)):
            yield key, reason
        if reason := forbidden_port(traffic.protocol, traffic.port, check.type):
            yield "port" if hasattr(check, "port") else key, reason


def _asked(check: CheckOptions) -> Iterator[tuple[Traffic, str]]:
    """Give all that a check asks or lets ask, each with the key that says so."""
    key = next((k for k in ("target", "server", "url") if hasattr(check, k)), "")
    yield from ((traffic, "proxy" if getattr(check, "proxy", "") else key) for traffic in check.sends())
    yield from ((traffic, key) for traffic in check.reaches())
