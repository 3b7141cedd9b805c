"""The crowd of a drop for Locust: quiet before the opening, a step in its second, then a decay.

Each of Locust's users takes the next buyer of the crowd, one after the other, pass and all; how
many there are at once says loadtests/drop.py. Started by `python -m loadtests --shape drop`, with
--stop-timeout: a user that has to go serves its buyer to the end.
"""

import time

from locust import LoadTestShape, constant, task
from locust.exception import StopUser

from loadtests.buyer import Buyer, crowd_of
from loadtests.drop import PAUSE_S, users_at

LOOK_S = 1.0


class Shoppers(Buyer):
    """Whoever comes: with a pass before the opening, or in the middle of it."""

    wait_time = constant(PAUSE_S)

    @task
    def shop(self) -> None:
        """The next buyer; a user without one goes."""
        buyer = self.crowd.next()
        if buyer is None:
            raise StopUser
        token = self.pass_of(buyer)
        self._wait_for_opening()
        self.buy(buyer, token)

    def _wait_for_opening(self) -> None:
        """Look at the campaign now and then, as people do; its clock and its times, not ours."""
        while self.crowd.opens_s is None or time.monotonic() < self.crowd.opens_s:
            left_s = self.opens_in_s()
            self.crowd.opens_s = time.monotonic() + left_s
            time.sleep(min(LOOK_S, left_s))


class Drop(LoadTestShape):
    """Asked by Locust about once a second. None ends the run: all are served, or its time is up."""

    use_common_options = True
    _ends_s = 0.0

    def tick(self) -> tuple[int, float] | None:
        """Users at once, and how many may come or go in a second."""
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        assert options is not None
        crowd = crowd_of(self.runner.environment)
        self._ends_s = self._ends_s or time.monotonic() + options.run_time
        if time.monotonic() > self._ends_s or (crowd is not None and crowd.all_served()):
            return None
        opens_s = crowd.opens_s if crowd is not None else None
        since_s = None if opens_s is None else time.monotonic() - opens_s
        return users_at(since_s, options.num_users), options.num_users
