"""What to do about each kind of damage, for `flashgrab audit --explain` and docs/runbook.md.

Nothing here mends by itself: whoever repairs books by guess loses what they were there to show.
"""

from typing import Any

from flashgrab.alarms import RUNBOOK
from worker.damage import Damage, Invariant

REMEDIES: dict[Damage, str] = {
    Damage.OVER_QUOTA: (
        "pause the campaign; see which round granted more than its quota and when its quota was "
        "changed (`flashgrab campaign show`); honour the coupons, return those that nobody used, "
        "or restock the round by the difference, so that the ledger says what was sold"
    ),
    Damage.QUOTA_DIFFERS: (
        "a change may still be on its way: look at the centre's trouble in `flashgrab campaign "
        "show`; where it stands for minutes, mend what keeps the centre from Redis"
    ),
    Damage.USER_LIMIT: (
        "pause the campaign; look whether the limit was lowered by hand; return the coupons above "
        "it that were granted last, each by its grab id"
    ),
    Damage.DEVICE_LIMIT: (
        "pause the campaign; return the coupons above the limit that were granted last, each by "
        "its grab id; look who mints passes with that device"
    ),
    Damage.DOUBLE_REQUEST: (
        "pause the campaign; the buyer saw one coupon and has two: return the one with the higher "
        "serial, then look how Redis came to forget the first (restored data?)"
    ),
    Damage.NOT_A_HOLDER: (
        "pause the campaign and `flashgrab campaign rebuild` it: holders come from the ledger again"
    ),
    Damage.TORN_HOLDER: (
        "somebody wrote into the holders: pause and `flashgrab campaign rebuild`, then see who can"
    ),
    Damage.GAP: (
        "the fact may be in Kafka or in the ledger yet: drain (`flashgrab audit --drain 60s`); "
        "what is missing then is known to no store: pause and `flashgrab campaign rebuild`, which "
        "voids it and reports it"
    ),
    Damage.TORN_ENTRY: (
        "save the entry (XRANGE of the campaign's outbox) before anything else; drain; then "
        "`flashgrab campaign rebuild`, which takes over what can be read and reports the rest"
    ),
    Damage.MISSING_ROW: (
        "drain; the relay sends a missing fact again within a minute while the outbox has it; "
        "where it stays, look for it in `flashgrab dead list`, and in the holders of Redis for "
        "its owner before any rebuild"
    ),
    Damage.EXTRA_ROW: (
        "Redis is older than the ledger, or was filled from other data: close the campaign and "
        "`flashgrab campaign rebuild` it; the ledger's coupons stay"
    ),
    Damage.WRONG_USER: (
        "pause the campaign; the ledger's row is what the owner can use: find out from Kafka's "
        "records of this serial who was told 201 first, and return the other's coupon"
    ),
    Damage.ROW_DIFFERS: (
        "compare the row with Kafka's record of its serial and with the dead table; a row that "
        "was written by hand is put right by hand, everything else is a bug: keep both"
    ),
    Damage.RETURN_DIFFERS: (
        "a return whose fact is on its way settles by itself; one that stays is in `flashgrab dead "
        "list`, or the row or the holder's entry was written by hand: put it right as Kafka's "
        "grab.returned record of this serial says"
    ),
    Damage.DOUBLE: (
        "a row was written by hand, or an index is broken (`REINDEX TABLE coupons`): compare both "
        "rows with Kafka's record, and keep them"
    ),
    Damage.ROWS_MISCOUNTED: (
        "rows were added or deleted by hand: put the rows right first; the count of the round is "
        "the sum over them"
    ),
    Damage.DEAD_LETTER: (
        "see why in `flashgrab dead list`; mend the cause, then `flashgrab dead retry`; a "
        "CONFLICT means that two owners have one serial: see WRONG_USER"
    ),
    Damage.NOT_DRAINED: (
        "wait longer (`flashgrab audit --drain 120s`); where the watermark stands still, see "
        "ledger-behind in the runbook"
    ),
    Damage.UNKNOWN_CAMPAIGN: (
        "this Redis and this ledger do not belong together, or the ledger was restored from "
        "before the campaign: check both addresses before anything else"
    ),
    Damage.KEY_MISSING: (
        "nothing is granted and nobody wins twice; when Redis is sound, `flashgrab campaign "
        "rebuild`"
    ),
    Damage.LEFT_OFF: (
        "somebody wrote into the round: pause, find out who can, `flashgrab campaign rebuild`"
    ),
    Damage.COUNTER_OFF: (
        "drain and audit again; where it stands, facts were lost or counters written by hand: "
        "pause and `flashgrab campaign rebuild`, which counts from the ledger"
    ),
}


def explained(damage: Damage) -> dict[str, Any]:
    """One kind of damage as plain data."""
    meaning = damage.value
    return {
        "damage": damage.name,
        "invariant": meaning.invariant,
        "means": meaning.words,
        "do": REMEDIES[damage],
        "runbook": runbook(meaning.invariant),
    }


def runbook(invariant: Invariant) -> str:
    """Where the runbook says how to look further."""
    return f"{RUNBOOK}#{invariant.lower()}"
