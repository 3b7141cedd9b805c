"""Rate limits as policies: what a definition means, and what an address is counted as."""

import pytest

from flashgrab.limits import NEIGHBOURS, NOWHERE, networks, of_grabs, of_passes, parse_rate


@pytest.mark.parametrize(
    "text, rate",
    [("5/10s", (5, 10_000_000)), ("100/1m", (100, 60_000_000)), ("3/2h", (3, 7_200_000_000))],
)
def test_rates(text: str, rate: tuple[int, int]) -> None:
    """Burst, and window in µs."""
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "5", "5/10", "0/1s", "5/0s", "5/1d", "-5/1s", "5 /1s", "5/\n1s"]
)
def test_what_is_no_rate(text: str) -> None:
    """Each is refused, with an example of one."""
    with pytest.raises(ValueError, match="5/10s"):
        parse_rate(text)


def test_policies_of_a_definition() -> None:
    """In the order of the contract's scopes; an address brings its block; what is not set is not
    counted."""
    found = of_grabs(
        "x", {"campaign": "900/1s", "address": "10/1m", "user": "5/10s", "device": None}
    )
    assert found is not None
    listed = [(p.scope, p.name, p.burst, p.window_us) for p in found.policies]
    assert listed == [
        ("user", "user", 5, 10_000_000),
        ("address", "address", 10, 60_000_000),
        ("address", "network", 10 * NEIGHBOURS, 60_000_000),
        ("campaign", "campaign", 900, 1_000_000),
    ]
    assert found.names(b"ann", b"phone", (b"1.2.3.4", b"010203")) == [
        b"{c:x}:l:u:ann", b"{c:x}:l:a:1.2.3.4", b"{c:x}:l:n:010203", b"{c:x}:l:c",
    ]  # fmt: skip
    assert found.names(b"ann", b"", NOWHERE) == [b"{c:x}:l:u:ann", None, None, b"{c:x}:l:c"]
    assert of_grabs("x", None) is of_grabs("x", {"passes": "1/1s", "user": None}) is None
    passes = of_passes("x", {"passes": "1/1s"})
    assert passes is not None
    assert passes.names(b"ann", b"", NOWHERE) == [b"{c:x}:l:p:ann"]


@pytest.mark.parametrize(
    "host, found",
    [
        ("192.0.2.77", (b"192.0.2.77", b"c00002")),
        ("::ffff:192.0.2.77", (b"192.0.2.77", b"c00002")),
        ("2001:db8:1:2::1", (b"20010db800010002", b"")),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", (b"20010db800010002", b"")),
        ("2001:db8:1:3::1", (b"20010db800010003", b"")),
        ("fe80::1%eth0", (b"fe80000000000000", b"")),
        ("", NOWHERE),
        ("localhost", NOWHERE),
    ],
)
def test_networks(host: str, found: tuple[bytes, bytes]) -> None:
    """IPv4 itself and its /24, also where IPv6 carries it; IPv6 by its /64; else nothing."""
    assert networks(host) == found
