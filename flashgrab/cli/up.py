"""`flashgrab up`: everything on this machine, until Ctrl-C (contract §1)."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from flashgrab.cli.failure import fail
from flashgrab.cli.stack import leftovers, migration, secretsfile
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


def say(line: str) -> None:
    """A line for people; that nobody reads any more is no reason to end."""
    with contextlib.suppress(OSError, ValueError):
        print(line, flush=True)


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
        self._say = say
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
            await supervisor.stop(layout.stop_order())
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
                self._say(await migration.run(folder, folder.older, layout.postgres.url))

        await supervisor.start(migrate_between)
        watching = asyncio.create_task(supervisor.watch())
        try:
            assert layout.centre.url is not None
            for line in await self._campaigns(layout.centre.url, folder):
                self._say(line)
            if link := await self._sign_in_link(layout.centre.url, folder):
                self._say(f"sign in within 10 minutes, once: {link}")
            self._say(f"ready gateway={layout.gateway.url} centre={layout.centre.url}")
            return await watching
        finally:
            watching.cancel()

    async def _sign_in_link(self, centre_url: str, folder: DataFolder) -> str | None:
        from flashgrab.cli import campaigns

        token = secretsfile.read_env_file(folder.secrets_file)["FLASHGRAB_ADMIN_TOKEN"]
        return await asyncio.to_thread(campaigns.sign_in_link, centre_url, token)

    async def _campaigns(self, centre_url: str, folder: DataFolder) -> list[str]:
        if not self._options.demo and not self._options.campaigns:
            return []
        from flashgrab.cli import campaigns

        token = secretsfile.read_env_file(folder.secrets_file)["FLASHGRAB_ADMIN_TOKEN"]
        lines = [
            await asyncio.to_thread(campaigns.ensure_file, centre_url, token, file)
            for file in self._options.campaigns
        ]
        if self._options.demo:
            lines.append(await asyncio.to_thread(campaigns.ensure_demo, centre_url, token))
        return lines
