"""`flashgrab receipt`: receipts checked without any network."""

import io
import json
import socket
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

from flashgrab.cli.app import main
from flashgrab.receipts import Receipt, ReceiptKeys

NOW_S = int(time.time())
PAPER = Receipt("spring-7", "anna", 1, 7, "PERSISTED", NOW_S - 100)


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> tuple[ReceiptKeys, Path]:
    """Keys as the command makes them, and the file that a gateway tells; the network raises."""

    def no_network(*_: object) -> NoReturn:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    assert main(["receipt", "key", "--kid", "r7"]) == 0
    made = ReceiptKeys.parse(capsys.readouterr().out.strip())
    path = tmp_path / "receipt-keys.json"
    path.write_text(json.dumps(made.jwks()))
    return made, path


@pytest.mark.parametrize(
    "words, status, said",
    [
        ([], 0, ""),
        (["--user", "anna", "--campaign", "spring", "--max-age-s", "3600"], 0, ""),
        (["--user", "bert"], 1, "it is of another user"),
        (["--campaign", "sprin"], 1, "it is of another campaign"),
        (["--max-age-s", "60"], 1, "it is too old"),
    ],
)
def test_a_receipt_is_judged(
    words: list[str], status: int, said: str, keys: tuple[ReceiptKeys, Path], capsys: Any
) -> None:
    """Exit 0 with what it says; 1 where it is not what was asked for, with the reason."""
    command = ["receipt", "verify", keys[0].sign(PAPER), "--keys", str(keys[1]), *words]
    assert main(command) == status
    printed = capsys.readouterr().out
    assert printed.startswith("spring-7 of anna, round 1: PERSISTED at ")
    assert (f"not to be taken: {said}" in printed) == bool(said)
    assert main([*command, "--json"]) == status
    assert json.loads(capsys.readouterr().out) == {"ok": not said, "wrong": said, **PAPER._asdict()}


def test_a_forged_one_is_bad_news(
    keys: tuple[ReceiptKeys, Path], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1 and nothing of what it claims; from stdin as well, where a good one is taken."""
    command = ["receipt", "verify", "-", "--keys", str(keys[1])]
    good = keys[0].sign(PAPER)
    monkeypatch.setattr("sys.stdin", io.StringIO(good + "\n"))
    assert main(command) == 0
    capsys.readouterr()
    forged = good[:-10] + "AAAAAAAAAA"
    monkeypatch.setattr("sys.stdin", io.StringIO(forged))
    assert main(command) == 1
    assert capsys.readouterr().out == "not to be taken: it was not signed by these keys\n"
    assert main(["receipt", "verify", forged, "--keys", str(keys[1]), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


@pytest.mark.parametrize("data", [None, b"", b"{", b'{"keys":[]}'])
def test_a_bad_file_of_keys_is_a_wrong_use(data: bytes | None, tmp_path: Path, capsys: Any) -> None:
    """Exit 2 and one line that names the file."""
    path = tmp_path / "keys"
    if data is not None:
        path.write_bytes(data)
    assert main(["receipt", "verify", "x", "--keys", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"flashgrab: {path}: ")


def test_a_bad_kid_is_a_wrong_use(capsys: Any) -> None:
    """Exit 2, and no key."""
    assert main(["receipt", "key", "--kid", "a:b"]) == 2
    assert capsys.readouterr().out == ""
