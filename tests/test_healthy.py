"""healthy.py: exit 0 where a part answers 200, 1 where it says anything else or nothing."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from flashgrab.healthy import is_well


class Answers(BaseHTTPRequestHandler):
    """The status that the path names."""

    def do_GET(self) -> None:
        self.send_response(int(self.path[1:]))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
        """Nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_only_200_is_well(url: str) -> None:
    """Neither another status nor silence is."""
    assert is_well(f"{url}/200")
    assert not is_well(f"{url}/204")
    assert not is_well(f"{url}/503")
    assert not is_well("http://127.0.0.1:1/200")


def test_it_says_so_by_its_exit_status(url: str) -> None:
    """As a health check calls it; without an address nothing is well."""
    for words, status in (([f"{url}/200"], 0), ([f"{url}/503"], 1), ([], 1)):
        command = [sys.executable, "-P", "-m", "flashgrab.healthy", *words]
        assert subprocess.run(command, check=False).returncode == status
