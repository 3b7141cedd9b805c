"""schemathesis over the centre's own description: no server error, and answers as described."""

from pathlib import Path

import pytest

from tests.centre.serving import ADMIN_TOKEN, Served
from tests.openapi.fuzzing import Fuzzing, fuzzed

pytestmark = pytest.mark.anyio

EXAMPLES = 3
CASES_MIN = 100
SEED = 1
"""The same requests each time: a run of CI is no lottery."""


async def test_any_request_is_answered_as_described(served: Served, tmp_path: Path) -> None:
    """All phases and checks, with the administrator's token, on campaigns that exist and on
    others: 0 server errors, every answer in the document."""
    draft, published = await served.created(), await served.created(publish=True)
    what = Fuzzing(
        served.base_url,
        EXAMPLES,
        SEED,
        values={"path.campaign_id": [draft, published], "path.grab_id": [f"{published}-1"]},
        # 422: a key that was used before; times that overlap or are none. 400: a time that is past,
        # the id of one kind given for another, a whole number written as a fraction.
        valid_refused=[422, 400],
        without=["/ops/stream"],
        either=["/ops/campaigns", "/ops/history"],
        headers={"": {"Authorization": f"Bearer {ADMIN_TOKEN}"}},
    )
    cases, found = await fuzzed(what, tmp_path)
    assert not found, found
    assert cases >= CASES_MIN
