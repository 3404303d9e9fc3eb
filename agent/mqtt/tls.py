"""TLS to the broker: the context, made anew for each connection, and one sentence for each failure.

Read anew, so that a renewed certificate is used at the next connect without a restart (contract, rule 8).
"""

from __future__ import annotations

import ssl
from pathlib import Path

from agent.config.sections import Mqtt
from agent.publisher import NotConnected

NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL: leaves the dates of certificates out of the judgement."""
NOT_YET_VALID, EXPIRED = 9, 10
UNKNOWN_CA = frozenset({2, 18, 19, 20, 21})
WRONG_NAME = frozenset({62, 64})
"""X509_V_ERR_* codes, from openssl/x509_vfy.h: host name and IP address mismatch."""


def make_context(mqtt: Mqtt, judge_dates: bool) -> ssl.SSLContext:
    """Make the client's context: TLS 1.2 or newer, the broker's name checked.

    `judge_dates` False leaves certificate dates out: a clock that was never set knows no date. Raises
    `NotConnected` (certificate) where a file of ours cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not judge_dates:
        context.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
    for option in ("ca_file", "cert_file", "key_file"):
        _readable(option, getattr(mqtt, option))
    try:
        _load_authorities(context, mqtt.ca_file)
    except ssl.SSLError:
        raise NotConnected(f"mqtt.ca_file {mqtt.ca_file} holds no CA certificate in PEM form", "certificate") from None
    try:
        _load_own(context, mqtt)
    except ssl.SSLError as error:
        raise NotConnected(_own_sentence(mqtt, error), "certificate") from None
    return context


def _readable(option: str, path: str) -> None:
    try:
        if path:
            with Path(path).open("rb") as file:
                file.read(1)
    except OSError as error:
        raise NotConnected(f"mqtt.{option} {path} cannot be read: {error.strerror}", "certificate") from None


def _load_authorities(context: ssl.SSLContext, ca_file: str) -> None:
    if ca_file:
        context.load_verify_locations(ca_file)
    else:
        context.load_default_certs()


def _load_own(context: ssl.SSLContext, mqtt: Mqtt) -> None:
    if mqtt.cert_file:
        # An empty password: OpenSSL would ask for one on the terminal, and the agent would hang.
        context.load_cert_chain(mqtt.cert_file, mqtt.key_file or None, password="")


def _own_sentence(mqtt: Mqtt, error: ssl.SSLError) -> str:
    files = f"mqtt.cert_file {mqtt.cert_file}" + (f" with mqtt.key_file {mqtt.key_file}" if mqtt.key_file else "")
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{files}: the key does not belong to the certificate"
    return f"{files}: not a certificate and its unencrypted key in PEM form"


def sentence(error: ssl.SSLError, mqtt: Mqtt) -> str:
    """Say what went wrong in the handshake, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _judged(error, mqtt)
    reason = (error.reason or type(error).__name__).upper()
    if "CERTIFICATE_REQUIRED" in reason or ("ALERT" in reason and "HANDSHAKE_FAILURE" in reason and not mqtt.cert_file):
        return "the broker asks for a certificate of ours; set mqtt.cert_file and mqtt.key_file"
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        words = reason.partition("ALERT_")[2].lower().replace("_", " ")
        return f"the broker refuses our certificate {mqtt.cert_file or '(none is set)'}: {words}"
    if "WRONG_VERSION_NUMBER" in reason or "EOF" in reason:
        return f"port {mqtt.port} of {mqtt.host} does not complete a TLS handshake; is it the broker's TLS port?"
    return f"the TLS handshake with {mqtt.host} failed: {reason.lower().replace('_', ' ')}"


def _judged(error: ssl.SSLCertVerificationError, mqtt: Mqtt) -> str:
    if error.verify_code == EXPIRED:
        return "the broker's certificate has expired; have it renewed, or check this machine's clock"
    if error.verify_code == NOT_YET_VALID:
        return "the broker's certificate is not valid yet; check this machine's clock"
    if error.verify_code in WRONG_NAME:
        return f"the broker's certificate is not for {mqtt.host}; check the host in mqtt.url"
    if error.verify_code in UNKNOWN_CA:
        store = f"mqtt.ca_file {mqtt.ca_file}" if mqtt.ca_file else "the system's CA store; set mqtt.ca_file"
        return f"the broker's certificate is signed by an unknown CA: none of {store}"
    return f"the broker's certificate is not trusted: {error.verify_message}"
