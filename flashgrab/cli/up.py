"""`flashgrab up`: everything on this machine, until Ctrl-C (contract §1)."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from flashgrab.cli import banner
from flashgrab.cli.banner import Countdown, Demo
from flashgrab.cli.failure import fail
from flashgrab.cli.stack import leftovers, secretsfile
from flashgrab.cli.stack.folder import DataFolder
from flashgrab.cli.stack.layout import (
    Layout,
    Options,
    PartCommand,
    lay_out,
    part_command,
)
from flashgrab.cli.stack.service import ServiceFailed
from flashgrab.cli.stack.supervisor import Supervisor

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog="Example: flashgrab up --demo --processes 2")
def up(
    data: Annotated[
        Path, typer.Option(envvar="FLASHGRAB_DATA", help="Folder of the state.")
    ] = Path(".flashgrab"),
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the gateway; 0 picks a free one.")
    ] = 8000,
    centre_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the centre; 0 picks a free one.")
    ] = 8001,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Gateway processes.")] = 1,
    relays: Annotated[
        int, typer.Option(min=1, max=8, help="Relays: one leads, the others stand by.")
    ] = 1,
    demo: Annotated[
        bool, typer.Option("--demo", help="Open a demo campaign; mint identities.")
    ] = False,
    campaign: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="Campaign file to publish; repeatable."),
    ] = None,
    no_restart: Annotated[
        bool, typer.Option("--no-restart", help="Stop all when a part dies, exit 2.")
    ] = False,
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Take a folder of an older version: backup first.")
    ] = False,
) -> None:
    """Start Valkey, PostgreSQL, a broker, gateway, relay, worker and centre on this machine.

    Prints `ready` with the addresses when grabs can be served; runs until Ctrl-C.
    """
    options = Options(
        data=data,
        port=port,
        centre_port=centre_port,
        processes=processes,
        relays=relays,
        demo=demo,
        campaigns=tuple(campaign or ()),
        restart=not no_restart,
        migrate=migrate,
    )
    asyncio.run(Up(options).run())


KEPT_S = 2.0
"""After which nobody waits to be told what was persisted."""


def say(line: str, end: str = "\n") -> None:
    """A line for people; that nobody reads any more is no reason to end."""
    with contextlib.suppress(OSError, ValueError):
        print(line, end=end, flush=True)


class Up:
    """One run of `flashgrab up`. Tests inject other part commands and look at what is said."""

    def __init__(
        self,
        options: Options,
        *,
        command: PartCommand = part_command,
        environment: Mapping[str, str] = os.environ,
        say: Callable[[str], None] = say,
    ) -> None:
        self._options = options
        self._command = command
        self._environment = environment
        self._said = say
        self._countdown: Countdown | None = None
        self._began_s = time.monotonic()
        self._supervisor: Supervisor | None = None
        self._asked_to_stop = asyncio.Event()

    async def run(self) -> None:
        """Until a signal. Raises Failure, with all stopped, when it cannot go on."""
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr] # "✓" on any terminal
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.ask_to_stop)
        self._check_tls()
        self._read_campaigns()
        folder = DataFolder(self._options.data)
        try:
            folder.open(migrate=self._options.migrate)
            await self._run_in(folder)
        except ServiceFailed as failure:
            fail(str(failure))
        finally:
            folder.close()

    def ask_to_stop(self) -> None:
        """The first time: stop in order. Again: hurry."""
        if self._asked_to_stop.is_set() and self._supervisor is not None:
            self._supervisor.hurry()
        self._asked_to_stop.set()

    def _say(self, line: str) -> None:
        self._said(self._countdown.above(line) if self._countdown else line)

    async def _run_in(self, folder: DataFolder) -> None:
        for name in await asyncio.to_thread(leftovers.clear, folder.pids_file):
            self._say(f"ended {name}, left by an earlier run")
        layout = self._lay_out(folder)
        supervisor = self._supervisor = Supervisor(
            [
                [layout.valkey, layout.limiter, layout.postgres, layout.kafka],
                [layout.centre, layout.gateway, *layout.relays, layout.worker],
            ],
            run_file=folder.run_file,
            pids_file=folder.pids_file,
            say=self._say,
            restart=self._options.restart,
        )
        serving = asyncio.create_task(self._serve(supervisor, layout, folder))
        asked = asyncio.create_task(self._asked_to_stop.wait())
        try:
            await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            serving.cancel()
            asked.cancel()
            await asyncio.gather(serving, asked, return_exceptions=True)
            await self._stop(supervisor, layout, folder)
        if not serving.cancelled():
            fail(serving.result())  # what died, or raises what failed

    def _check_tls(self) -> None:
        """This command's own look at its gateway, and every command after it, speak plain HTTP."""
        if self._environment.get("FLASHGRAB_TLS_CERT"):
            fail(
                "FLASHGRAB_TLS_CERT is set, and `up` serves plain HTTP on this machine: unset it "
                "and end TLS in front, or run the parts alone (flashgrab gateway, relay, worker, "
                "centre)"
            )

    async def _stop(self, supervisor: Supervisor, layout: Layout, folder: DataFolder) -> None:
        """Everything in order, and what was persisted: asked between the parts and their stores."""
        kept: banner.Kept | None = None

        async def look(name: str) -> None:
            nonlocal kept
            if name == "kafka":
                kept = await _kept(layout.valkey.url)

        if sys.stdout.isatty():
            self._say("")  # below the terminal's ^C
        await supervisor.stop(layout.stop_order(), look)
        for line in banner.stopped(kept, folder.path):
            self._say(line)

    def _read_campaigns(self) -> None:
        """A file with a mistake in it is refused before anything starts."""
        if self._options.campaigns:
            from flashgrab.cli import campaigns

            for file in self._options.campaigns:
                campaigns.read_file(file)

    def _lay_out(self, folder: DataFolder) -> Layout:
        secrets = secretsfile.settle(
            folder.secrets_file, self._environment, demo=self._options.demo
        )
        layout = lay_out(
            folder,
            self._options,
            secrets,
            self._environment,
            note=self._say,
            command=self._command,
        )
        secretsfile.write(
            folder.secrets_file,
            secrets,
            redis_url=layout.valkey.url,
            limiter_url=layout.limiter.url,
            postgres_url=layout.postgres.url,
        )
        return layout

    async def _serve(self, supervisor: Supervisor, layout: Layout, folder: DataFolder) -> str:
        """Start, publish the campaigns, say ready, look after all. Returns what died."""

        async def migrate_between(tier: int) -> None:
            if tier == 0 and folder.older is not None:
                from flashgrab.cli.stack import migration

                self._say(await migration.run(folder, folder.older, layout.postgres.url))

        await supervisor.start(migrate_between)
        watching = asyncio.create_task(supervisor.watch())
        tasks: list[asyncio.Task[Any]] = [watching]
        try:
            assert layout.centre.url is not None
            assert layout.gateway.url is not None
            lines, demo = await self._campaigns(layout.centre.url, folder)
            for line in lines:
                self._say(line)
            for line in banner.banner(
                gateway=layout.gateway.url,
                centre=layout.centre.url,
                metrics=layout.gateway.metrics_url,
                sign_in=await self._sign_in_link(layout.centre.url, folder),
                folder=folder.path,
                took_s=time.monotonic() - self._began_s,
                demo=demo,
                now_s=time.time(),
                program=banner.program_name(),
            ):
                self._say(line)
            self._say(f"ready gateway={layout.gateway.url} centre={layout.centre.url}")
            if demo is not None and sys.stdout.isatty():
                self._countdown = Countdown(lambda text: say(text, end=""), demo)
                tasks.append(asyncio.create_task(self._countdown.run()))
            return await watching
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _sign_in_link(self, centre_url: str, folder: DataFolder) -> str | None:
        from flashgrab.cli import campaigns

        token = secretsfile.read_env_file(folder.secrets_file)["FLASHGRAB_ADMIN_TOKEN"]
        return await asyncio.to_thread(campaigns.sign_in_link, centre_url, token)

    async def _campaigns(
        self, centre_url: str, folder: DataFolder
    ) -> tuple[list[str], Demo | None]:
        """What was done with the campaigns that were asked for, and the demo's."""
        if not self._options.demo and not self._options.campaigns:
            return [], None
        from flashgrab.cli import campaigns

        token = secretsfile.read_env_file(folder.secrets_file)["FLASHGRAB_ADMIN_TOKEN"]
        demo = None
        files = self._options.campaigns
        lines = [
            await asyncio.to_thread(campaigns.ensure_file, centre_url, token, file)
            for file in files
        ]
        if self._options.demo:
            line, demo = await asyncio.to_thread(campaigns.ensure_demo, centre_url, token)
            lines.append(line)
        return lines, demo


async def _kept(redis_url: str) -> banner.Kept | None:
    """What Redis and, by its watermark, the ledger have; None where nobody says so in time."""
    from flashgrab.errors import FlashgrabError
    from flashgrab.store import Store

    try:
        async with asyncio.timeout(KEPT_S), Store(redis_url, int(KEPT_S * 1000)) as store:
            read = [await store.read(campaign_id) for campaign_id in await store.registry()]
    except (TimeoutError, FlashgrabError):
        return None
    found = [state for state in read if state is not None]
    return banner.Kept(
        campaigns=len(found),
        granted=sum(r.granted for state in found for r in state.rounds),
        waiting=sum(state.seq - state.watermark for state in found),
    )
