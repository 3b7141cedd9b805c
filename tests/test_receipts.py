"""Receipts: what was signed is read back; whatever was changed, or signed otherwise, is none."""

import base64
import hmac
import json
from typing import Any

import jwt
import pytest

from flashgrab.jwks import PublicKey, read_keys
from flashgrab.receipts import TYPE, Receipt, ReceiptKeys, new_key, verify
from tests.keys_of_logins import ed25519, pem, rsa

OLD, NEW = new_key("r1"), new_key("r2")
KEYS = ReceiptKeys.parse(f"{NEW},{OLD}")
TOLD = read_keys(json.dumps(KEYS.jwks()).encode())
PAPER = Receipt("spring-7", "anna@shop.example", 1, 7, "PERSISTED", 1_800_000_000)
SIGNED = KEYS.sign(PAPER)


def test_a_receipt_is_read_back() -> None:
    """By the keys that the gateway tells, whole."""
    assert verify(SIGNED, TOLD) == PAPER
    assert jwt.get_unverified_header(SIGNED) == {"alg": "EdDSA", "kid": "r2", "typ": TYPE}


def test_keys_rotate() -> None:
    """The first signs; receipts of the one before count as long as it is told."""
    before = ReceiptKeys.parse(OLD).sign(PAPER)
    assert verify(before, TOLD) == PAPER
    assert verify(before, read_keys(json.dumps(ReceiptKeys.parse(NEW).jwks()).encode())) is None
    assert [key["kid"] for key in KEYS.jwks()["keys"]] == ["r2", "r1"]


def test_only_public_halves_are_told() -> None:
    """No seed in the JWKS, nor in a repr."""
    for key in (OLD, NEW):
        assert key.partition(":")[2] not in json.dumps(KEYS.jwks()) + repr(KEYS)


def test_every_changed_byte_is_seen() -> None:
    """Each character replaced in turn: none is read."""
    for at, letter in enumerate(SIGNED):
        changed = SIGNED[:at] + ("A" if letter != "A" else "B") + SIGNED[at + 1 :]
        read = verify(changed, TOLD)
        # The last character of base64url has bits that mean nothing.
        assert read is None or (read == PAPER and at == len(SIGNED) - 1)


def signed(head: dict[str, Any] | None = None, **changes: Any) -> str:
    """Signed by the right key, but with something else in it."""
    claims = {"sub": "u1", "iat": 1, "grab_id": "c-1", "round": 1, "serial": 1, "state": "GRANTED"}
    key = next(iter(KEYS.keys.values()))
    claims = {k: v for k, v in {**claims, **changes}.items() if v is not None}
    headers = {"kid": "r2", "typ": TYPE, **(head or {})}
    headers = {k: v for k, v in headers.items() if v is not None}
    return jwt.encode(claims, key, algorithm="EdDSA", headers=headers)


def mac_by(secret: bytes) -> str:
    """HS256 with something public for its secret."""
    head = {"alg": "HS256", "kid": "r2", "typ": TYPE}
    parts = [json.dumps(head).encode(), base64.urlsafe_b64decode(SIGNED.split(".")[1] + "==")]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    mac = base64.urlsafe_b64encode(hmac.digest(secret, text, "sha256")).rstrip(b"=")
    return (text + b"." + mac).decode()


RAW = TOLD[0].key.public_bytes_raw()  # type: ignore[union-attr] # ours are Ed25519
FALSE: dict[str, str] = {
    "empty": "",
    "not a token": "a.b.c",
    "not ascii": "é.é.é",
    "no signature": SIGNED.rpartition(".")[0] + ".",
    "another key": ReceiptKeys.parse(new_key("r2")).sign(PAPER),
    "another kid": signed({"kid": "r9"}),
    "no kid": signed({"kid": None}),
    "kid of the other key": signed({"kid": "r1"}),
    "another kind": signed({"typ": "JWT"}),
    "an extension": signed({"crit": ["x"], "x": 1}),
    "HS256 by the public key": mac_by(RAW),
    "too long": signed(more="x" * 3000),
    "no owner": signed(sub=None),
    "an owner of another form": signed(sub="a b"),
    "no grab": signed(grab_id=None),
    "a grab of another serial": signed(serial=2),
    "a serial of text": signed(serial="1"),
    "a serial of truth": signed(serial=True),
    "a round of nought": signed(round=0),
    "a state that is none": signed(state="BOUGHT"),
    "no time": signed(iat=None),
}


def test_the_control_is_read() -> None:
    """The hostile ones differ from this one by what their names say."""
    assert verify(signed(), TOLD) == Receipt("c-1", "u1", 1, 1, "GRANTED", 1)


@pytest.mark.parametrize("name", FALSE)
def test_a_false_receipt_is_none(name: str) -> None:
    """Forged, cut, of another key or kind: None, never an exception."""
    assert verify(FALSE[name], TOLD) is None


def test_rsa_keys_sign_no_receipts() -> None:
    """A file may hold them; they are passed over. A PEM has no kid, and is tried."""
    strange = (PublicKey("r2", "RS256", rsa("a").public_key()),)
    assert verify(SIGNED, strange) is None
    assert verify(SIGNED, read_keys(pem(ed25519("a")))) is None
    assert verify(SIGNED, (PublicKey("", "EdDSA", TOLD[0].key),)) == PAPER


@pytest.mark.parametrize(
    "text",
    [
        *("r1", "r1:", ":AAAA", "r-1:AAAA", "r1:AAAA"),
        pytest.param(f"{OLD},", id="an end missing"),
        pytest.param(f"{OLD},{OLD}", id="a kid twice"),
        pytest.param(OLD + "AA", id="too long"),
    ],
)
def test_keys_have_their_form(text: str) -> None:
    """kid:seed pairs, each kid once; the message quotes no seed."""
    with pytest.raises(ValueError, match=r"kid|base64url") as caught:
        ReceiptKeys.parse(text)
    assert OLD.partition(":")[2] not in str(caught.value)


def test_without_a_key_there_are_none() -> None:
    """Off by default."""
    assert not ReceiptKeys.parse("")
    assert ReceiptKeys.parse("").jwks() == {"keys": []}
