"""The certificate of the public port, read again when its files change."""

import ssl
from pathlib import Path

from flashgrab.alarms import Alarm, Alarms

Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """A pair of PEM files and the context made of it. A connection keeps the one it began with.

    Raises OSError (ssl.SSLError is one) or ValueError where the first pair cannot be used.
    """

    def __init__(self, cert: str, key: str, alarms: Alarms) -> None:
        self._files = (Path(cert), Path(key))
        self._alarms = alarms
        self._stamp = self._look()
        self._broken = False
        self.context = _context(*self._files)

    def _look(self) -> Stamp:
        """What changes when the files do; () where one cannot be seen."""
        try:
            stats = [file.stat() for file in self._files]
        except OSError:
            return ()
        return tuple((s.st_ino, s.st_mtime_ns, s.st_size) for s in stats)

    async def follow(self) -> None:
        """Called once a second. A new pair that does not fit is tried again; it becomes an alarm
        at the second look, since between two files there is a moment when only one is new."""
        stamp = self._look()
        if stamp == self._stamp and not self._broken:
            return
        try:
            self.context = _context(*self._files)
        except (OSError, ValueError) as error:
            if self._broken:
                reason = f"{type(error).__name__}: {error}"
                self._alarms.begin(Alarm.TLS_PAIR_BROKEN, reason)
            self._broken = True
            return
        self._stamp, self._broken = stamp, False
        self._alarms.end(Alarm.TLS_PAIR_BROKEN)


def _context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(cert, key, password=_no_password)
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted; nobody is here to ask for its password")
