"""`flashgrab worker`: Kafka to ledger, and the books, configured by the environment."""

import typer
import uvloop

from flashgrab.cli.failure import fail
from flashgrab.ledger.migrate import SchemaNewer
from flashgrab.settings import WorkerSettings, load

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="Example: FLASHGRAB_REDIS_URL=redis://127.0.0.1:6379 "
    "FLASHGRAB_KAFKA_BOOTSTRAP=127.0.0.1:9092 "
    "FLASHGRAB_POSTGRES_URL=postgresql://127.0.0.1/flashgrab flashgrab worker"
)
def worker() -> None:
    """Run the worker alone; its settings come from FLASHGRAB_* (docs/settings.md)."""
    from worker.worker_main import run

    try:
        raise typer.Exit(uvloop.run(run(load(WorkerSettings))))
    except SchemaNewer as error:
        fail(str(error))
