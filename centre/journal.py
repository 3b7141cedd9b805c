"""Every write in the staff's log: who, what, before and after, and how it ended."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from centre.caller import CALLER
from centre.refusals import refused
from flashgrab.errors import LedgerUnavailable
from flashgrab.ids import is_campaign_id, is_idempotency_key, split_grab_id
from flashgrab.ledger import campaigns, returns, staff_log
from flashgrab.ledger.pool import Pool
from flashgrab.ledger.staff import Holder
from flashgrab.ledger.staff_log import State

CHANGED = "flashgrab.changed"
TARGET_MAX = 80

log = structlog.get_logger()


def changed(request: Request[Any], target: str, after: State) -> None:
    """Told by a route whose path does not say what it changes."""
    request.scope[CHANGED] = (target, after)


async def noted(
    request: Request[Any], action: str, act: Callable[[Request[Any]], Awaitable[Response]]
) -> Response:
    """Run a write between two notes. No note, no write: raises LedgerUnavailable before it.

    Where it ends with 503, or with the process, nobody knows whether it happened: its entry stays
    without an outcome.
    """
    centre, who = request.state["centre"], request.scope[CALLER]
    assert isinstance(who, Holder)
    if not centre.migrated:
        raise LedgerUnavailable("the ledger is not migrated yet")
    keys = request.headers.getlist("idempotency-key")
    entry = await staff_log.begin(
        centre.pool,
        who,
        action=action,
        target=_target(request),
        operation=keys[0] if len(keys) == 1 and is_idempotency_key(keys[0]) else "",
        before=await _state(centre.pool, request),
        now_ms=centre.clock.now_ms(),
    )
    try:
        response = await act(request)
    except Exception as error:
        refusal = refused(request, error)
        if refusal.status_code != 503:
            code = orjson.loads(refusal.body)["code"]
            await _finish(request, entry, refusal.status_code, code)
        _say(request, action, refusal.status_code)
        raise
    await _finish(request, entry, response.status_code, "OK")
    _say(request, action, response.status_code)
    return response


def _say(request: Request[Any], action: str, status: int) -> None:
    """One line in the log; its request id is bound by the middleware."""
    who, target = request.scope[CALLER], (request.scope.get(CHANGED) or (_target(request),))[0]
    log.info("managed", action=action, target=target, by=who.name, role=who.role, status=status)


async def _finish(request: Request[Any], entry: str, status: int, code: str) -> None:
    """The write has its answer already; that its note has no end does not change it."""
    centre = request.state["centre"]
    try:
        target, after = request.scope.get(CHANGED) or (
            _target(request),
            await _state(centre.pool, request),
        )
        await staff_log.finish(
            centre.pool,
            entry,
            target=target,
            after=after,
            status=status,
            code=code,
            now_ms=centre.clock.now_ms(),
        )
    except LedgerUnavailable as error:
        log.warning("staff_log_unfinished", entry=entry, reason=str(error))


def _target(request: Request[Any]) -> str:
    """What the path names. PostgreSQL takes no NUL in a text."""
    named = next(iter(request.path_params.values()), "")
    return str(named)[:TARGET_MAX].replace("\0", "?")


async def _state(pool: Pool, request: Request[Any]) -> State:
    """What the path names, as the ledger has it now; None where nothing of the name is there."""
    campaign_id = str(request.path_params.get("campaign_id", ""))
    if is_campaign_id(campaign_id):
        campaign = await campaigns.get(pool, campaign_id)
        if campaign is None:
            return None
        quotas = [r.quota for r in campaign.rounds]
        return {"status": campaign.status, "version": campaign.version, "quotas": quotas}
    if grab := split_grab_id(str(request.path_params.get("grab_id", ""))):
        state = await returns.state(pool, *grab)
        return {"state": state} if state else None
    return None
