"""`flashgrab relay`: outbox to Kafka alone, configured by the environment."""

import typer
import uvloop

from flashgrab.settings import RelaySettings, load

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="Example: FLASHGRAB_REDIS_URL=redis://127.0.0.1:6379 "
    "FLASHGRAB_KAFKA_BOOTSTRAP=127.0.0.1:9092 flashgrab relay"
)
def relay() -> None:
    """Run the relay alone; its settings come from FLASHGRAB_* (docs/settings.md)."""
    from worker.relay_main import run

    raise typer.Exit(uvloop.run(run(load(RelaySettings))))
