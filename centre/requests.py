"""What a management request says, checked: body, operation id, page. Raises Problem."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import ClientDisconnect, Request

from centre.problems import Code, Problem
from flashgrab.blocks import BY_MAX, WHY_MAX, Kind
from flashgrab.explain import explain
from flashgrab.ids import is_campaign_id, is_idempotency_key, split_grab_id
from flashgrab.ledger.campaigns import PAGE_MAX
from flashgrab.model import DEFINITION_BYTES_MAX, QUOTA_MAX, Definition, parse, parse_toml

BODY_BYTES_MAX = DEFINITION_BYTES_MAX
BODY_S_MAX = 10.0

S = TypeVar("S", bound=msgspec.Struct)


class Empty(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of an operation that takes none: nothing, or `{}`."""


class Restock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which round gets how many coupons more."""

    round: Annotated[int, Meta(ge=1)]
    add: Annotated[int, Meta(ge=1, le=QUOTA_MAX)]


class Rebuild(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether to do without what only Kafka had."""

    without_kafka: bool = False


Subject = Annotated[str, Meta(min_length=1, max_length=64)]


class AddBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to block, why, by whom (else the caller), until when (RFC 3339; else for ever)."""

    kind: Kind
    subject: Subject
    why: Annotated[str, Meta(min_length=1, max_length=WHY_MAX)]
    by: Annotated[str, Meta(min_length=1, max_length=BY_MAX)] | None = None
    until: Annotated[str, Meta(max_length=40)] | None = None


class RemoveBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to let in again."""

    kind: Kind
    subject: Subject


async def body_of(request: Request[Any], kind: type[S]) -> S:
    """A JSON body of this form; unknown fields are refused."""
    raw = await _read(request)
    media_of(request, raw, "application/json")
    try:
        return msgspec.convert(_json(raw) if raw.strip() else {}, kind)
    except msgspec.ValidationError as error:
        raise Problem(Code.INVALID_REQUEST, f"body: {explain(error, kind)}") from None


async def definition_of(request: Request[Any]) -> Definition:
    """A campaign definition as JSON, or as TOML with content-type application/toml.

    Raises DefinitionInvalid besides Problem.
    """
    raw = await _read(request)
    if media_of(request, raw, "application/json", "application/toml") == "application/toml":
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            detail = f"body: not UTF-8 at byte {error.start}"
            raise Problem(Code.INVALID_REQUEST, detail) from None
        return parse_toml(text, "body")
    return parse(_json(raw), "body")


def operation_of(request: Request[Any]) -> str:
    """The Idempotency-Key, which is the operation id."""
    values = request.headers.getlist("idempotency-key")
    if len(values) != 1 or not is_idempotency_key(values[0]):
        raise Problem(
            Code.IDEMPOTENCY_KEY_INVALID,
            "Idempotency-Key: expected once, with 1 to 64 characters of A-Z a-z 0-9 . _ ~ -",
        )
    return values[0]


def campaign_id_of(request: Request[Any]) -> str:
    """The campaign id of the path."""
    campaign_id = str(request.path_params["campaign_id"])
    if not is_campaign_id(campaign_id):
        raise Problem(Code.CAMPAIGN_NOT_FOUND, "there is no such campaign")
    return campaign_id


def grab_of(request: Request[Any]) -> tuple[str, int]:
    """Campaign id and serial of the path's grab id."""
    named = split_grab_id(str(request.path_params["grab_id"]))
    if named is None:
        raise Problem(Code.GRAB_NOT_FOUND, "there is no such grab")
    return named


def page_of(
    request: Request[Any],
    limit_max: int = PAGE_MAX,
    is_after: Callable[[str], object] = is_campaign_id,
    what: str = "a campaign id",
) -> tuple[str, int]:
    """`after` and `limit` of a list."""
    known = {"after", "limit"}
    for name in request.query_params:
        if name not in known or len(request.query_params.getlist(name)) > 1:
            detail = f"query: {name[:80]!r}: expected after or limit, each once"
            raise Problem(Code.INVALID_REQUEST, detail)
    after = request.query_params.get("after", "")
    limit = request.query_params.get("limit", str(limit_max))
    if after and not is_after(after):
        raise Problem(Code.INVALID_REQUEST, f"query: after: expected {what}")
    good = limit.isascii() and limit.isdigit() and len(limit) < 10
    if not (good and 0 < int(limit) <= limit_max):
        raise Problem(Code.INVALID_REQUEST, f"query: limit: expected 1 to {limit_max}")
    return after, int(limit)


async def parts_of(
    request: Request[Any], bytes_max: int = BODY_BYTES_MAX, s_max: float = BODY_S_MAX
) -> AsyncGenerator[bytes]:
    """The body as it comes, bounded in bytes and seconds."""
    size = 0
    try:
        async with asyncio.timeout(s_max):
            async for part in request.stream():
                size += len(part)
                if size > bytes_max:
                    detail = f"body: expected at most {bytes_max} bytes"
                    raise Problem(Code.REQUEST_TOO_LARGE, detail)
                yield part
    except TimeoutError:
        detail = f"body: not all there after {s_max:.0f} s"
        raise Problem(Code.REQUEST_TIMEOUT, detail) from None
    except ClientDisconnect:
        raise Problem(Code.INVALID_REQUEST, "body: the connection ended inside it") from None


async def _read(request: Request[Any]) -> bytes:
    return b"".join([part async for part in parts_of(request)])


def media_of(request: Request[Any], raw: bytes, *known: str) -> str:
    """The media type without parameters; the first of `known` where none is given."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not media or not raw:
        return known[0]
    if media not in known:
        raise Problem(Code.MEDIA_TYPE_UNKNOWN, f"Content-Type: expected {' or '.join(known)}")
    return media


def _json(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Problem(Code.INVALID_REQUEST, f"body: not JSON: {error}") from None
