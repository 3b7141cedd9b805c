"""Locust file: grabs as fast as Locust can send them, for its own ceiling on this machine."""

from locust import FastHttpUser, task


class Nothing(FastHttpUser):
    """Asks `loadtests.idle_server`, which does nothing."""

    @task
    def grab(self) -> None:
        """One request of the size of a grab."""
        headers = {"Authorization": "Bearer " + "x" * 90, "Idempotency-Key": "k"}
        self.client.request("POST", "/v1/campaigns/x/grabs", name="grab", headers=headers)
