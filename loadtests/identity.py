"""Who a buyer says he is: the demo's identity, or a token signed as the shop's login does (HS256).

With IDENTITY_KEY in the environment, the secret that the gateway checks tokens with. For rehearsals
against a gateway without a demo, as that of docker-compose.yml.
"""

import base64
import hashlib
import hmac
import json
import os
import time

VALID_S = 3600


def key() -> str:
    """The secret, "" where the demo is to be asked."""
    return os.environ.get("IDENTITY_KEY", "")


def token(user_id: str, secret: str, now_s: int | None = None) -> str:
    """A JWT with the user as its subject."""
    expires_s = (int(time.time()) if now_s is None else now_s) + VALID_S
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": user_id, "exp": expires_s})
    signed = b".".join(_text(json.dumps(part).encode()) for part in parts)
    mac = hmac.digest(secret.encode(), signed, hashlib.sha256)
    return (signed + b"." + _text(mac)).decode()


def _text(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
