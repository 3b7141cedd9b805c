"""Rules as data: what is read, what is refused with which words, and what a score is."""

from pathlib import Path

import pytest

from gateway.risk.rules import RulesInvalid, load_rules, parse_rules
from gateway.risk.score import Action, Risk
from gateway.risk.signals import HOUR_MS, NAMES, Asked, Observer, block_of
from tests.gateway.risk.crowds import CHROME, FIREFOX, GO, IN_APP, REQUESTS, SAFARI
from tests.gateway.risk.simulation import SHIPPED, enforced

NOW_MS = 1_800_000_000_000
RULES = """
mode = "enforce"
challenge_at = 10
refuse_at = 20
[[rules]]
name = "young"
when = ["account_age_h < 24"]
points = 10
[[rules]]
name = "young-without-page"
when = ["account_age_h < 24", "page_missing == 1"]
points = 10
[[rules]]
name = "page"
when = ["page_missing == 0"]
points = -5
"""


def asked(created_ms: int | None = 0, page_ms: int | None = None, user: str = "u") -> Asked:
    return Asked(user, "d", "192.0.2.1", CHROME, created_ms, page_ms, NOW_MS)


def test_points_add_up_to_an_action() -> None:
    """All conditions of a rule; the sum against two bounds; the reasons are the rules' names."""
    risk = Risk(parse_rules(RULES, "f"))
    assert risk.judge(asked())[:3] == (Action.PASS, Action.PASS, 0)
    young = risk.judge(asked(NOW_MS - HOUR_MS, NOW_MS - 1))
    assert young == (Action.PASS, Action.PASS, 5, ("young", "page"))
    both = risk.judge(asked(NOW_MS - HOUR_MS))
    assert both == (Action.REFUSE, Action.REFUSE, 20, ("young", "young-without-page"))


def test_a_signal_that_is_not_known_meets_no_condition() -> None:
    """Neither above nor below: an account without an age is not a young one."""
    judged = Risk(parse_rules(RULES, "f")).judge(asked(None))
    assert judged == (Action.PASS, Action.PASS, 0, ())


def test_shadow_only_says_what_it_would_do() -> None:
    """The same points, and everybody passes."""
    risk = Risk(parse_rules(RULES.replace("enforce", "shadow"), "f"))
    judged = risk.judge(asked(NOW_MS))
    assert (judged.action, judged.would) == (Action.PASS, Action.REFUSE)


@pytest.mark.parametrize(
    "was,becomes,says",
    [
        ("account_age_h < 24", "age < 24", "expected a condition as device_accounts >= 4, not"),
        ("account_age_h < 24", "account_age_h ~ 24", "expected a condition"),
        ('"enforce"', '"always"', "mode"),
        ("points = -5", "points = 1.5", "points"),
        ("points = -5", "points = -5\nweight = 1", "weight"),
        ("refuse_at = 20", "refuse_at = 9", "refuse_at: must not be below challenge_at"),
        ("challenge_at = 10", "", "challenge_at"),
        ("[[rules]]", "[rules", "f: "),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(was: str, becomes: str, says: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(RulesInvalid, match=r"^f: ") as caught:
        parse_rules(RULES.replace(was, becomes), "f")
    assert says in str(caught.value)


def test_a_file_that_is_not_there_or_too_large(tmp_path: Path) -> None:
    """Both are the operator's to see, with the path."""
    with pytest.raises(RulesInvalid, match=r"none\.toml"):
        load_rules(str(tmp_path / "none.toml"))
    (tmp_path / "large.toml").write_text("# " + "x" * 70_000)
    with pytest.raises(RulesInvalid, match="has at most"):
        load_rules(str(tmp_path / "large.toml"))


def test_the_shipped_rules_are_in_shadow_and_use_every_kind_of_signal() -> None:
    """Nobody is turned away by a file that was only tried out."""
    assert load_rules(str(SHIPPED)).mode == "shadow"
    used = {text.split()[0] for rule in enforced().rules for text in rule.when}
    assert used == set(NAMES)


@pytest.mark.parametrize(
    "address,block",
    [
        ("192.0.2.77", "c00002"),
        ("::ffff:192.0.2.1", "c00002"),
        ("2001:db8:1:2:3::4", "20010db800010002"),
        ("fe80::1%eth0", "fe80000000000000"),
        ("", ""),
        ("unix", ""),
    ],
)
def test_blocks_of_addresses(address: str, block: str) -> None:
    """An IPv4 /24, also where it is written as IPv6; an IPv6 /64; nothing of what is none."""
    assert block_of(address) == block


def test_heads_of_browsers_and_of_libraries() -> None:
    """The order of a browser is no reproach, a proxy's fields are none either; a library's is."""
    observer = Observer(48, enforced().browsers, 2, 450)
    for head in (CHROME, FIREFOX, SAFARI):
        assert observer.oddness(head) == 0
        assert observer.oddness(("x-forwarded-for", *head, "via")) == 0
    assert observer.oddness(IN_APP) == 1
    for library in (REQUESTS, GO, ()):
        assert observer.oddness(library) >= 3
