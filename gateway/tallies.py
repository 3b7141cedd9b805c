"""Counting the answers that cost no Redis command: on the lane one look and one addition."""

from flashgrab.outcomes import Outcome
from flashgrab.telemetry import Metrics, Tally


class Tallies(dict[Outcome, Tally]):
    """Of one campaign, each made when it is first asked for: `tallies[outcome].count += 1`."""

    def __init__(self, campaign_id: str, metrics: Metrics) -> None:
        super().__init__()
        self._campaign_id = campaign_id
        self._metrics = metrics

    def __missing__(self, outcome: Outcome) -> Tally:
        tally = self[outcome] = self._metrics.tally(
            ("flashgrab_refused_locally", (outcome.name,)),
            ("flashgrab_grabs", (self._campaign_id, outcome.name)),
        )
        return tally
