"""What proxies say, and a certificate of a test."""

import datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from gateway.proxy_header import SIGNATURE


def proxy_header(host: str, port: int = 1234, more: bytes = b"") -> bytes:
    """PROXY version 2 over TCP; `more` are additional fields."""
    packed = ip_address(host).packed
    body = packed * 2 + port.to_bytes(2, "big") + b"\0\x50" + more
    family = b"\x11" if len(packed) == 4 else b"\x21"
    return SIGNATURE + b"\x21" + family + len(body).to_bytes(2, "big") + body


def write_pair(folder: Path, name: str, password: bytes = b"") -> tuple[Path, Path]:
    """A new certificate for 127.0.0.1 and its key, in the files cert.pem and key.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False
        )
        .sign(key, SHA256())
    )
    lock: KeySerializationEncryption = (
        BestAvailableEncryption(password) if password else NoEncryption()
    )
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
    return files
