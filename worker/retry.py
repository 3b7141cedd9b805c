"""Dead letters once more through the checks of persist: what has become known, or was repaired."""

from collections.abc import Sequence

from flashgrab.ledger import dead, facts
from flashgrab.ledger.dead import Tried
from flashgrab.ledger.facts import Grant
from flashgrab.ledger.letters import Letter
from flashgrab.ledger.pool import Pool
from worker.forms import against_ledger, judge


async def retry(
    pool: Pool, digests: Sequence[bytes], at_ms: int, repaired: bytes | None = None
) -> list[Tried]:
    """What became of each. With `repaired` that is read in place of the messages that came, and
    only a row settles them.

    One transaction. Raises LedgerUnavailable.
    """

    async def decide(letter: Letter) -> Grant | Letter:
        judged = judge(letter.key, letter.value if repaired is None else repaired)
        if isinstance(judged, Letter):
            return _keeping(letter, judged.reason, judged.detail)
        fact = judged.fact
        if (letter.campaign_id or fact.campaign_id, letter.seq or fact.seq) != (
            fact.campaign_id,
            fact.seq,
        ):
            detail = f"repaired as seq {fact.seq} of {fact.campaign_id}, which is another fact"
            return _keeping(letter, "WRONG_FORM", detail)
        known = await facts.known_campaigns(pool, [fact.campaign_id])
        refused = against_ledger(judged, known)
        if refused is not None:
            return _keeping(letter, refused.reason, refused.detail)
        return Grant(fact, letter.key, letter.value)

    return await dead.retry(pool, digests, decide, at_ms, store_only=repaired is not None)


def _keeping(letter: Letter, reason: str, detail: str) -> Letter:
    """The letter as it came, with the reason of now."""
    return Letter(reason, detail, letter.key, letter.value, letter.campaign_id, letter.seq)
