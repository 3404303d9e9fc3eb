"""Keys, signatures and encryption of SNMPv3, and the proof that they work here before a key is blamed. Imports pysnmp.

Keys and ciphers are pysnmp's (`pysnmp.proto.secmod`). It finds out only in the middle of a request that the
package `cryptography` is missing or moved an algorithm, and then calls it a decryption error.
"""

from __future__ import annotations

import hashlib
import hmac
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

from pyasn1.error import PyAsn1Error
from pyasn1.type.univ import OctetString
from pysnmp.error import PySnmpError
from pysnmp.proto.secmod.rfc3414 import service as usm  # first: the modules of the algorithms import it in a circle

from agent.model import Failed, Failure
from agent.snmp.ber import Unreadable
from agent.snmp.credentials import Credentials

AUTH_IDS = {
    "MD5": usm.hmacmd5.HmacMd5.SERVICE_ID,
    "SHA": usm.hmacsha.HmacSha.SERVICE_ID,
    "SHA-224": usm.hmacsha2.HmacSha2.SHA224_SERVICE_ID,
    "SHA-256": usm.hmacsha2.HmacSha2.SHA256_SERVICE_ID,
    "SHA-384": usm.hmacsha2.HmacSha2.SAH384_SERVICE_ID,
    "SHA-512": usm.hmacsha2.HmacSha2.SHA512_SERVICE_ID,
}
PRIV_IDS = {
    "DES": usm.des.Des.SERVICE_ID,
    "AES-128": usm.aes.Aes.SERVICE_ID,
    "AES-192": usm.aes192.Aes192.SERVICE_ID,
    "AES-256": usm.aes256.Aes256.SERVICE_ID,
}
"""AES-192 and AES-256 as Cisco and most makers do; with SHA-256 and longer all ways are the same."""
HASHES = {"MD5": "md5", "SHA": "sha1"} | {f"SHA-{bits}": f"sha{bits}" for bits in (224, 256, 384, 512)}

AES_KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
AES_IV = bytes(range(16))
AES_PLAIN = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
AES_CIPHER = bytes.fromhex("3b3fd92eb72dad20333449f8e83cfb4a")
"""NIST SP 800-38A, F.3.13 (CFB128-AES128)."""
HMAC_SHA256 = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
"""RFC 4231, test case 2."""
ADVICE = "install the Python package cryptography, version 38 or newer (Debian: apt install python3-cryptography)"


def prove(credentials: Credentials) -> None:
    """Raise `Failed` (internal) where the algorithms of these credentials do not work here."""
    if credentials.auth_key and not _hmac_works():
        raise Failed(Failure.INTERNAL, "SHA-256 gives wrong results on this machine; SNMPv3 cannot be used")
    if credentials.priv_key and not _cipher_works(credentials.priv_protocol):
        raise Failed(Failure.INTERNAL, f"SNMPv3 encryption ({credentials.priv_protocol}) does not work here: {ADVICE}")


@cache
def _hmac_works() -> bool:
    return hmac.new(b"Jefe", b"what do ya want for nothing?", hashlib.sha256).hexdigest() == HMAC_SHA256


@cache
def _cipher_works(protocol: str) -> bool:
    # cryptography 46 to 50 warn at each use that CFB has moved within the package; pysnmp still finds it.
    warnings.filterwarnings("ignore", message="CFB has been moved")
    try:
        return _aes_known_answer() and _there_and_back(_cipher(protocol))
    except (PySnmpError, AttributeError, ImportError, NameError, TypeError, ValueError):
        return False


def _aes_known_answer() -> bool:
    if usm.aes.PysnmpCryptoError:
        return False
    encryptor = usm.aes._cryptography_cipher(AES_KEY, AES_IV).encryptor()
    return bool(encryptor.update(AES_PLAIN) + encryptor.finalize() == AES_CIPHER)


def _there_and_back(service: Any) -> bool:
    key = OctetString(AES_KEY + AES_KEY)
    cipher, salt = service.encrypt_data(key, (1, 1, None), AES_PLAIN)
    return bool(service.decrypt_data(key, (1, 1, salt), cipher)[: len(AES_PLAIN)] == AES_PLAIN)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one user, in pysnmp's form: as made from the passphrases, or bound to one engine; None = unused."""

    auth: Any
    priv: Any


def master_keys(credentials: Credentials) -> Keys:
    """Make the keys of a user; that hashes a megabyte each (RFC 3414, A.2), so call it in a thread."""
    auth, priv = credentials.auth_key.encode(), credentials.priv_key.encode()
    return Keys(
        _digester(credentials).hash_passphrase(auth) if auth else None,
        _cipher(credentials.priv_protocol).hash_passphrase(AUTH_IDS[credentials.auth_protocol], priv) if priv else None,
    )


def localized(credentials: Credentials, masters: Keys, engine: bytes) -> Keys:
    """Bind the keys of a user to the engine of one device (RFC 3414, 2.6)."""
    auth_id, at = AUTH_IDS[credentials.auth_protocol], OctetString(engine)
    return Keys(
        _digester(credentials).localize_key(masters.auth, at) if masters.auth else None,
        _cipher(credentials.priv_protocol).localize_key(auth_id, masters.priv, at) if masters.priv else None,
    )


def digest_bytes(protocol: str) -> int:
    """Say how long the signature of a message is."""
    return int(usm.SnmpUSMSecurityModel.AUTH_SERVICES[AUTH_IDS[protocol]].digest_length)


def signature(protocol: str, keys: Keys, whole: bytes) -> bytes:
    """Sign a message in which the signature's place is filled with zeros (RFC 3414, 6.3.1; RFC 7860, 4.2.1).

    pysnmp's own looks for the first zeros in the message, which some makers have in their engine id.
    """
    return hmac.digest(keys.auth.asOctets(), whole, HASHES[protocol])[: digest_bytes(protocol)]


def encrypted(protocol: str, keys: Keys, boots: int, time: int, data: bytes) -> tuple[bytes, bytes]:
    """Encrypt; gives the octets and their salt. Raises PySnmpError."""
    octets, salt = _cipher(protocol).encrypt_data(keys.priv, (boots, time, None), data)
    return bytes(octets), bytes(salt)


def decrypted(protocol: str, keys: Keys, boots: int, time: int, salt: bytes, data: bytes) -> bytes:
    """Decrypt; with a wrong key that gives rubbish. Raises `Unreadable` where the lengths do not fit."""
    try:
        return bytes(_cipher(protocol).decrypt_data(keys.priv, (boots, time, OctetString(salt)), OctetString(data)))
    except (PySnmpError, PyAsn1Error, ValueError):
        raise Unreadable("cannot be decrypted") from None


def _digester(credentials: Credentials) -> Any:
    return usm.SnmpUSMSecurityModel.AUTH_SERVICES[AUTH_IDS[credentials.auth_protocol]]


def _cipher(protocol: str) -> Any:
    return usm.SnmpUSMSecurityModel.PRIV_SERVICES[PRIV_IDS[protocol]]
