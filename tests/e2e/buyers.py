"""A buyer as the outside sees one: login, pass, grab."""

from dataclasses import dataclass

import httpx2

from tests.e2e.running import HTTP, Stack


@dataclass(frozen=True)
class Buyer:
    """One user in one campaign, with his pass."""

    stack: Stack
    campaign_id: str
    token: str

    @classmethod
    def enter(cls, stack: Stack, campaign_id: str, user: str) -> "Buyer":
        """The shop's login, then the gateway's pass."""
        minted = HTTP.post(f"{stack.gateway_url}/demo/identity", json={"user_id": user})
        assert minted.status_code == 201, minted.text
        issued = HTTP.post(
            f"{stack.gateway_url}/v1/campaigns/{campaign_id}/passes",
            headers={"authorization": f"Bearer {minted.json()['token']}"},
        )
        assert issued.status_code == 201, issued.text
        return cls(stack, campaign_id, issued.json()["pass"])

    def grab(self, key: str | None = None) -> httpx2.Response:
        """One attempt."""
        headers = {"authorization": f"Bearer {self.token}"}
        if key is not None:
            headers["idempotency-key"] = key
        url = f"{self.stack.gateway_url}/v1/campaigns/{self.campaign_id}/grabs"
        return HTTP.post(url, headers=headers)

    def state(self, grab_id: str) -> str | None:
        """What the gateway says of a grab."""
        found = self.stack.get(f"/v1/grabs/{grab_id}", authorization=f"Bearer {self.token}")
        return None if found is None else str(found["state"])
