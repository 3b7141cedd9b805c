"""`flashgrab segment`, `flashgrab block` and `campaign link` against a real centre."""

import json
from pathlib import Path

import pytest

from flashgrab.cli.campaigns import Centre, new_operation
from flashgrab.links import LinkKeys
from flashgrab.model import parse
from tests.centre.serving import ADMIN_TOKEN, definition
from tests.cli.conftest import CENTRE
from tests.cli.ran import Ran, Run, ran

pytestmark = CENTRE

KEYS = "k1:" + "a" * 32


@pytest.fixture
def run(
    centre_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command in this process against the centre: status, stdout, stderr."""
    monkeypatch.setenv("FLASHGRAB_CENTRE_URL", centre_url)
    monkeypatch.setenv("FLASHGRAB_ADMIN_TOKEN", ADMIN_TOKEN)
    monkeypatch.setenv("FLASHGRAB_PASS_KEYS", KEYS)

    def call(*arguments: str) -> Ran:
        return ran(capsys, *arguments)

    return call


def test_a_segment_is_loaded_from_a_file(run: Run, centre_url: str, tmp_path: Path) -> None:
    """Twice the same changes nothing; a wrong line is named with its file, exit 2."""
    written = parse(definition(audience="segment", segment="vip"), "test")
    with Centre(centre_url, ADMIN_TOKEN) as centre:
        centre.create(written, new_operation())
    file = tmp_path / "vip.txt"
    file.write_text("anna\nbert@b.example\n")
    assert "none was loaded yet" in run("segment", "show", written.id)[1]
    status, said, told = run("segment", "load", written.id, str(file))
    assert (status, said) == (0, f"segment vip of {written.id}: 2 users\n")
    assert told.startswith("target: the stack of FLASHGRAB_*, centre ")
    again = run("segment", "load", written.id, str(file))
    assert again[:2] == (0, f"segment vip of {written.id}: 2 users, the same as before\n")
    assert (
        f"segment vip of {written.id}: 2 users, loaded 20" in run("segment", "show", written.id)[1]
    )
    file.write_text("anna\nb ert\n")
    status, said, told = run("segment", "load", written.id, str(file))
    assert (status, said) == (2, "")
    assert f"flashgrab: {file}: line 2: expected a user id" in told
    assert run("segment", "load", written.id, str(tmp_path / "none"))[0] == 2
    assert run("segment", "load", "Not_One", str(file))[0] == 2


def test_blocks_are_added_listed_and_removed(run: Run) -> None:
    """Who, why, by whom, until when; one subject a command."""
    assert run("block", "list")[1] == "nobody is blocked\n"
    added = run("block", "add", "--user", "eve", "--why", "a bot", "--by", "me")
    assert added[:2] == (0, "user eve blocked for ever\n")
    network = ("--address", "198.51.100.0/24")
    assert "blocked until 2" in run("block", "add", *network, "--why", "flood", "--for", "24h")[1]
    shown = run("block", "list")[1].splitlines()
    assert shown[0].startswith("address 198.51.100.0/24 until 2")
    assert shown[1] == "user eve for ever: a bot (me)"
    listed = json.loads(run("block", "list", "--json")[1])["blocks"]
    assert [(b["kind"], b["why"]) for b in listed] == [("address", "flood"), ("user", "a bot")]
    assert run("block", "remove", "--user", "eve")[1] == "user eve no longer blocked\n"
    assert run("block", "remove", "--user", "eve")[1] == "user eve was not blocked\n"
    assert run("block", "remove", *network)[0] == 0
    wrong: list[tuple[str, ...]] = [
        ("add", "--why", "x"),
        ("add", "--why", "x", "--user", "a", "--device", "b"),
        ("add", "--why", "x", "--address", "0.0.0.0/0"),
        ("add", "--why", "x", "--user", "a", "--for", "soon"),
        ("add", "--user", "a"),
        ("remove",),
    ]
    for arguments in wrong:
        status, said, told = run("block", *arguments)
        assert (status, said) == (2, "")
        assert told.splitlines()[-1].startswith("flashgrab: ")


def test_a_link_is_signed_here(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the keys of the passes; what it says is what was asked for."""
    monkeypatch.delenv("FLASHGRAB_CENTRE_URL")
    options = ("--user", "a@b.example", "--channel", "mail", "--valid", "24h")
    status, said, _ = run("campaign", "link", "spring", *options)
    link = LinkKeys.parse(KEYS).check(said.strip(), 0)
    assert status == 0
    assert link is not None
    assert link[:3] == ("spring", "a@b.example", "mail")
    for odd in (("--user", "a b"), ("--channel", "Mail"), ("--valid", "soon")):
        assert run("campaign", "link", "spring", *odd)[0] == 2


@pytest.mark.parametrize(
    "command",
    [("segment", "load"), ("segment", "show"), *(("block", c) for c in ("add", "remove", "list"))],
)
def test_every_help_has_an_example(run: Run, command: tuple[str, str]) -> None:
    """--help of every command shows how it is used."""
    status, said, _ = run(*command, "--help")
    assert status == 0
    assert f"Example: flashgrab {' '.join(command)}" in said
