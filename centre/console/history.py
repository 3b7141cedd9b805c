"""What was kept: GET /ops/history for any past sale, GET /ops/campaigns to choose from."""

from collections.abc import AsyncIterable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from centre.console.console import described, told
from centre.console.reading import check_reader
from centre.console.shapes import SECOND_MS, Second, flat, is_bare
from centre.problems import Code, Problem, answer
from flashgrab.ids import is_campaign_id
from flashgrab.ledger import console
from flashgrab.ledger.console import CAMPAIGNS_MAX, KEEP_MS, Kept
from flashgrab.recent import STEP_MS, Row, bounds

POINTS_MAX = 1500
FINE_MS = POINTS_MAX * STEP_MS
SEED_MS = 61_000
"""So long before the first row is looked for the books that it begins with."""
FIND_MAX = 100
STEPS_S = (1, 2, 5, 10, 30, 60)

_SECOND = msgspec.json.Decoder(Second)
_ROWS = msgspec.json.Decoder(list[Row])


async def campaigns(request: Request[Any]) -> Response:
    """GET /ops/campaigns?find=: published campaigns with their rounds, the nearest ones; with
    `find` those that have it in their id or name, so that any past sale can be found."""
    await check_reader(request)
    centre, find = request.state["centre"], request.query_params.get("find", "")
    if len(find) > FIND_MAX or not find.isprintable():
        raise Problem(Code.INVALID_REQUEST, f"query: find: expected at most {FIND_MAX} characters")
    pool, now_ms = centre.console.books.pool, centre.clock.now_ms()
    ids = await console.nearest(pool, now_ms, CAMPAIGNS_MAX, find=find)
    rounds = await console.rounds(pool, ids)
    standings = await console.standings(pool, ids)
    shown = [described(one, rounds, standings[one].status) for one in ids if one in standings]
    return answer({"now": now_ms, "campaigns": shown})


async def history(request: Request[Any]) -> Response:
    """GET /ops/history?campaign=&from=&to=: the rows of the past."""
    await check_reader(request)
    centre, given = request.state["centre"], request.query_params
    campaign_id = given.get("campaign", "")
    if not is_campaign_id(campaign_id):
        raise Problem(Code.INVALID_REQUEST, "query: campaign: expected a campaign id")
    from_ms, to_ms = _moment(given.get("from", "")), _moment(given.get("to", ""))
    if not 0 < to_ms - from_ms <= KEEP_MS:
        raise Problem(Code.INVALID_REQUEST, "query: from, to: expected at most 24 h, in ms")
    pool = centre.console.books.pool  # management's few connections are not for long reads
    is_fine = to_ms - from_ms <= FINE_MS
    pages = console.seconds(pool, from_ms - SEED_MS, to_ms, from_ms if is_fine else to_ms)
    step_ms, rows = await read(pages, campaign_id, from_ms, to_ms)
    found = await console.notes(pool, [campaign_id], from_ms, to_ms)
    rounds = await console.rounds(pool, [campaign_id])
    standings = await console.standings(pool, [campaign_id])
    status = standings[campaign_id].status if campaign_id in standings else ""
    return answer(
        {
            "from": from_ms,
            "to": to_ms,
            "step": step_ms,
            "rows": rows,
            "notes": [told(note) for note in found],
            "bounds": bounds(),
            "campaign": described(campaign_id, rounds, status),
        }
    )


async def read(
    pages: AsyncIterable[list[Kept]], campaign_id: str, from_ms: int, to_ms: int
) -> tuple[int, list[dict[str, Any]]]:
    """The step and the rows of one campaign, as pages get them."""
    step_ms = _step_ms(to_ms - from_ms)
    seed: dict[str, Any] | None = None
    rows: list[dict[str, Any]] = []
    sum_: Second | None = None
    has_fine = False
    async for page in pages:
        for kept in page:
            second = _SECOND.decode(kept.second)
            if kept.at_ms < from_ms:
                if campaign_id in second.books:
                    seed = flat(Second(from_ms, books=second.books), campaign_id)
                continue
            if kept.fine is not None:
                has_fine = True
                rows += [flat(row, campaign_id) for row in _ROWS.decode(kept.fine)]
                rows.append(flat(Second(second.t, books=second.books), campaign_id))
                continue
            at = kept.at_ms - kept.at_ms % step_ms
            if sum_ is None or sum_.t != at:
                if sum_ is not None:
                    rows.append(flat(sum_, campaign_id))
                sum_ = Second(at)
            sum_.add(second)
            sum_.books |= second.books
    if sum_ is not None:
        rows.append(flat(sum_, campaign_id))
    found = sorted((row for row in rows if not is_bare(row)), key=lambda row: row["t"])
    return (STEP_MS if has_fine else step_ms), ([seed] if seed else []) + found


def _step_ms(length_ms: int) -> int:
    """The finest step that keeps to POINTS_MAX."""
    for seconds in STEPS_S:
        if length_ms <= seconds * SECOND_MS * POINTS_MAX:
            return seconds * SECOND_MS
    return STEPS_S[-1] * SECOND_MS


def _moment(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise Problem(Code.INVALID_REQUEST, "query: from, to: expected ms since 1970")
    return int(text)
