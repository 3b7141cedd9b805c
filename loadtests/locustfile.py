"""A steady crowd for Locust: as many users at once from the opening to the last buyer.

    locust -f loadtests/locustfile.py --headless -u 50 -r 50 --run-time 60s \
        --host http://127.0.0.1:8000 --campaign demo-1 --buyers 500 --report /tmp/report.json

`make load` does that against a fresh stack and judges the result. Each of Locust's users serves its
share of the buyers one after the other; the run ends when all are served, or at --run-time.
"""

import time

import gevent  # type: ignore[import-untyped] # no stubs in the lock
from locust import task
from locust.exception import StopUser

from loadtests.buyer import Buyer

QUIT_AFTER_S = 0.5
"""From the last answer: by then every other user has ended by itself."""


class Buyers(Buyer):
    """Serves its share of the crowd's buyers, one after the other."""

    def on_start(self) -> None:
        """Passes for all of its buyers; then the wait for the opening, by the server's clock."""
        super().on_start()
        self.passes = {buyer: self.pass_of(buyer) for buyer in self.crowd.deal()}
        time.sleep(self.opens_in_s())

    @task
    def serve(self) -> None:
        """Every buyer buys; then this user is done."""
        for buyer, token in self.passes.items():
            self.buy(buyer, token)
        if self.passes and self.crowd.done() and self.environment.runner is not None:
            gevent.spawn_later(QUIT_AFTER_S, self.environment.runner.quit)
        raise StopUser
