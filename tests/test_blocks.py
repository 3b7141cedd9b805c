"""blocks.py: the forms of what can be blocked, and whom a list stops."""

import pytest

from flashgrab.blocks import NOBODY, Blocklist, Kind, subject_of

NOW = 1_800_000_000_000


@pytest.mark.parametrize(
    "kind, text, subject",
    [
        ("user", "a@b.example", "a@b.example"),
        ("device", "phone-1", "phone-1"),
        ("address", "198.51.100.7", "198.51.100.7/32"),
        ("address", "198.51.100.0/24", "198.51.100.0/24"),
        ("address", "2001:DB8:0::/48", "2001:db8::/48"),
        ("address", "2001:db8::1", "2001:db8::1/128"),
    ],
)
def test_a_subject_has_one_form(kind: Kind, text: str, subject: str) -> None:
    """However it is written, so that it can be taken off again."""
    assert subject_of(kind, text) == subject


@pytest.mark.parametrize(
    "kind, text",
    [
        ("user", ""),
        ("user", "a b"),
        ("user", "x" * 65),
        ("device", "a,b"),
        ("address", "198.51.100.7/24"),
        ("address", "0.0.0.0/0"),
        ("address", "10.0.0.0/7"),
        ("address", "::/0"),
        ("address", "2000::/15"),
        ("address", "example"),
        ("address", ""),
    ],
)
def test_what_can_not_be_blocked(kind: Kind, text: str) -> None:
    """Other forms, networks with bits of a host, and slips that would block half the world."""
    with pytest.raises(ValueError, match=r"expected|is 1 to 64|at least"):
        subject_of(kind, text)


def test_people_are_stopped_until_their_time() -> None:
    """By user or by device, for ever or up to a moment; nobody else is."""
    blocklist = Blocklist({"user:u1": 0, "device:d1": NOW + 10, "user:": 0})
    assert blocklist.stops(b"u1", b"", NOW)
    assert blocklist.stops(b"x", b"d1", NOW + 9)
    assert not blocklist.stops(b"x", b"d1", NOW + 10)
    assert not blocklist.stops(b"d1", b"u1", NOW)
    assert blocklist.has_people
    assert not NOBODY.has_people
    assert not NOBODY.stops(b"u1", b"", NOW)


@pytest.mark.parametrize(
    "address, stopped",
    [
        ("198.51.100.7", True),
        ("198.51.101.7", False),
        ("203.0.113.9", True),
        ("203.0.113.8", False),
        ("::ffff:203.0.113.9", True),
        ("2001:db8:1:2::3", True),
        ("2001:db8:2::3", False),
        ("::c633:6407", False),  # the number of 198.51.100.7, in the other family
        ("not an address", False),
    ],
)
def test_addresses_are_stopped_by_their_network(address: str, stopped: bool) -> None:
    """Both families, several lengths of prefix, IPv4 in IPv6; a block of addresses is no person."""
    blocklist = Blocklist(
        {"address:198.51.100.0/24": 0, "address:203.0.113.9/32": 0, "address:2001:db8:1::/48": 0}
    )
    assert blocklist.stops_address(address, NOW) == stopped
    assert not blocklist.has_people


def test_what_nobody_understands_stops_nobody() -> None:
    """Entries of a newer release, or damaged ones, are passed over."""
    odd = Blocklist({"shop:u1": 0, "nothing": 0, "address:somewhere": 0})
    assert not odd.has_people
    assert not odd.stops_address("198.51.100.7", NOW)
