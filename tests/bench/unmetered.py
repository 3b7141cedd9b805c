"""`flashgrab gateway` whose metrics count nothing: the other side of bench/metering.py. The product
has no switch for that."""

from collections.abc import Sequence

from flashgrab.settings import GatewaySettings, load
from flashgrab.start import lean

lean()

from flashgrab.measured import Labels  # noqa: E402 -- after lean()
from flashgrab.telemetry import Metrics, configure_logs  # noqa: E402
from gateway.serve import listen, open_files, run_process  # noqa: E402


class NoMetrics(Metrics):
    """Takes everything and keeps nothing. (A tally is still one addition where it stands.)"""

    def add(self, name: str, labels: Labels = (), amount: float = 1) -> None:
        pass

    def set(self, name: str, labels: Labels = (), value: float = 0) -> None:
        pass

    def observe(self, name: str, value: float, labels: Labels = ()) -> None:
        pass

    def observe_since(self, name: str, now: float, since: Sequence[float]) -> None:
        pass


def main() -> None:
    settings = load(GatewaySettings)
    configure_logs("gateway", settings.log_json)
    open_files()
    run_process(settings, listen(settings.host, settings.port), NoMetrics())


if __name__ == "__main__":
    main()
