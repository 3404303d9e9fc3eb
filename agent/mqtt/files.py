"""The files that a connection is made with: whether they have changed and can be used, when our certificate ends."""

from __future__ import annotations

import base64
import binascii
import stat
from datetime import UTC, datetime
from pathlib import Path

from agent.config.sections import Mqtt
from agent.mqtt import tls
from agent.publisher import NotConnected, Papers

Mark = tuple[object, ...]
SEQUENCE, UTC_TIME = 0x30, 0x17
TBS_FIELDS_BEFORE_VALIDITY = 3
"""Of a certificate (RFC 5280, 4.1), its version left out: serial number, signature algorithm, issuer."""


class Files:
    """Looks at the files again and again. All methods block on the disk: call them on a thread."""

    def __init__(self, mqtt: Mqtt) -> None:
        """Note how the files are now, before they are read."""
        self._mqtt = mqtt
        self._in_use = self._seen = _marks(mqtt)

    def look(self, judge_dates: bool) -> Papers:
        """Compare with what is in use; a change counts once it is the same at two looks: files come in pairs."""
        before, self._seen = self._seen, _marks(self._mqtt)
        trouble = ""
        settled = self._seen != self._in_use and self._seen == before
        if settled:
            trouble = unusable(self._mqtt)
        ends_ts = certificate_ends_ts(self._mqtt.cert_file) if judge_dates and self._mqtt.cert_file else None
        return Papers(settled and not trouble, trouble and f"changed, but not used: {trouble}", ends_ts)


def unusable(mqtt: Mqtt) -> str:
    """Say in one sentence why the files cannot be used; "" if they can."""
    try:
        if mqtt.tls:
            tls.make_context(mqtt, judge_dates=True)
        if mqtt.password:
            mqtt.password.reveal()
    except NotConnected as failure:
        return failure.reason
    except ValueError as error:
        return f"mqtt.password: {error}"
    return ""


def readable_by_others(mqtt: Mqtt) -> str:
    """Say which secret file everyone on this machine can read, and the command that mends it; "" if none."""
    secret = str(mqtt.password.path) if mqtt.password and mqtt.password.path else ""
    for path in filter(None, (mqtt.key_file, secret)):
        try:
            mode = Path(path).stat().st_mode
        except OSError:
            continue  # a missing file is said by who needs it
        if mode & stat.S_IROTH:
            return f"{path} can be read by every user of this machine; run: chmod o= {path}"
    return ""


def _marks(mqtt: Mqtt) -> tuple[Mark, ...]:
    """Give what changes when one of the files does: device, inode, time, size; a link is followed."""
    paths = [mqtt.ca_file, mqtt.cert_file, mqtt.key_file]
    if mqtt.password and (path := mqtt.password.path):
        paths.append(str(path))
    return tuple(_mark(path) for path in paths if path)


def _mark(path: str) -> Mark:
    try:
        found = Path(path).stat()
    except OSError as error:
        return (error.errno,)
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def certificate_ends_ts(cert_file: str) -> float | None:
    """Read when the first certificate of a PEM file ends (seconds since 1970); None if it cannot be read."""
    try:
        text = Path(cert_file).read_text("ascii")
        body = text.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END CERTIFICATE-----")[0]
        return _not_after_ts(base64.b64decode(body))
    except (OSError, ValueError, binascii.Error, IndexError):
        return None


def _not_after_ts(der: bytes) -> float:
    """Walk to the validity of an X.509 certificate in DER; raises ValueError or IndexError where it is none."""
    _, certificate, _ = _element(der)
    _, rest, _ = _element(certificate)
    if rest[0] == 0xA0:  # the version, which only certificates of version 1 leave out
        rest = _element(rest)[2]
    for _ in range(TBS_FIELDS_BEFORE_VALIDITY):
        rest = _element(rest)[2]
    tag, validity, _ = _element(rest)
    if tag != SEQUENCE:
        raise ValueError("not a certificate")
    tag, moment, _ = _element(_element(validity)[2])
    digits = moment.decode("ascii")
    if tag == UTC_TIME:  # two digits of the year: 50 and more mean 19.. (RFC 5280, 4.1.2.5.1)
        digits = ("19" if digits >= "50" else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Split off one DER element: its tag, its content, what follows."""
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        start = 2 + (length & 0x7F)
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise ValueError("cut short")
    return tag, data[start : start + length], data[start + length :]
