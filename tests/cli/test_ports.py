"""flashgrab/cli/stack/ports.py: which ports a stack gets."""

from pathlib import Path

import pytest

from flashgrab.cli.stack import ports
from flashgrab.cli.stack.service import ServiceFailed


def test_no_port_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens yet on what was given before: the next service gets another one."""
    first = ports.free_port()
    monkeypatch.setattr(ports, "_FIRST", first)
    monkeypatch.setattr(ports, "_LAST", first + 1)
    with pytest.raises(ServiceFailed, match="no free port"):
        ports.free_port()


def test_a_folder_keeps_its_ports(tmp_path: Path) -> None:
    """Also in the next process, and no two names have the same."""
    book = tmp_path / "ports.json"
    chosen = [ports.PortBook(book).of(name) for name in ("valkey", "kafka", "valkey")]
    assert chosen[0] == chosen[2] != chosen[1]
