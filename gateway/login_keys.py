"""The public keys of the shop's login, from a file that is read again while we run.

A login rotates its keys by putting the new one beside the old one into the file, signing with the
new one when all have read it, and taking the old one out when its last token has ended.
"""

import asyncio
from pathlib import Path

import structlog

from flashgrab.alarms import Alarm, Alarms
from flashgrab.jwks import FILE_BYTES_MAX, PublicKey, read_keys

LOOK_MS = 1000
BY = "login_keys"

log = structlog.get_logger()


class LoginKeys:
    """The keys of one file. One that is broken or gone changes nothing but the alarm: whoever
    could sign in goes on to, with the keys that were read last."""

    def __init__(self, path: Path, alarms: Alarms) -> None:
        self._path = path
        self._alarms = alarms
        self._data = b""
        self.keys: tuple[PublicKey, ...] = ()

    async def follow(self) -> None:
        """look() once a second, for ever."""
        while True:
            await asyncio.sleep(LOOK_MS / 1000)
            await self.look()

    async def look(self) -> None:
        """Read the file, and take its keys where it is another one."""
        try:
            data = await asyncio.to_thread(self._read)
            if data != self._data:
                self.keys, self._data = read_keys(data), data
                log.info("login_keys_read", kids=[key.kid for key in self.keys])
        except Exception as error:  # whatever somebody puts there must not end our looking
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._alarms.begin(Alarm.LOGIN_KEYS, f"{self._path}: {reason}", by=BY)
        else:
            self._alarms.end(Alarm.LOGIN_KEYS, by=BY)

    def _read(self) -> bytes:
        if not self._path.is_file():  # opening a pipe would wait for its writer
            raise ValueError("no such file")
        with self._path.open("rb") as file:
            return file.read(FILE_BYTES_MAX + 1)
