"""Files for the buyer's page, read once."""

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parent / "static"
_WORKER = (FOLDER / "challenge-worker.js").read_bytes()


async def challenge_worker(_request: Request[Any]) -> Response:
    """GET /static/challenge-worker.js: solves what flashgrab/challenge.py asks."""
    headers = {"Cache-Control": "public, max-age=3600", "X-Content-Type-Options": "nosniff"}
    return Response(_WORKER, 200, headers, "text/javascript")
