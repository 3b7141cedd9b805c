"""schemathesis over the gateway's own description: no server error, and answers as described."""

from pathlib import Path

import pytest

from tests.gateway.asking import identity
from tests.gateway.serving import Served
from tests.openapi.fuzzing import Fuzzing, fuzzed

pytestmark = pytest.mark.anyio

EXAMPLES = 6
CASES_MIN = 100
SEED = 1
"""The same requests each time: a run of CI is no lottery."""


async def test_any_request_is_answered_as_described(served: Served, tmp_path: Path) -> None:
    """All phases and checks, with a good pass and a good identity, on campaigns that exist and on
    others: 0 server errors, every answer in the document."""
    open_, over = await served.campaign(quota=10_000, per_user=100), await served.campaign(quota=1)
    grab = await served.grab(open_, "u1", key="first")
    await served.grab(over, "u2")
    mine = {"Authorization": f"Bearer {served.token(open_, 'u1')}"}
    login = {"Authorization": identity("u1", aud="", iss="")["authorization"]}
    what = Fuzzing(
        served.base_url,
        EXAMPLES,
        SEED,
        values={
            "path.campaign_id": [open_, over],
            "path.grab_id": [grab.json()["grab_id"], f"{open_}-999"],
        },
        headers={
            "/v1/campaigns/{campaign_id}/grabs": mine,
            "/v1/campaigns/{campaign_id}/passes": login,
            "/v1/grabs/{grab_id}": mine,
        },
    )
    cases, found = await fuzzed(what, tmp_path)
    assert not found, found
    assert cases >= CASES_MIN
