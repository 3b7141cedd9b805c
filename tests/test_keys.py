"""keys.py: every key of a campaign, in one slot of a cluster."""

from flashgrab import keys


def test_names() -> None:
    """The names of design.md."""
    assert keys.campaign("x") == "{c:x}"
    assert keys.round_("x", 2) == "{c:x}:r:2"
    assert keys.holders("x") == "{c:x}:holders"
    assert keys.devices("x") == "{c:x}:devices"
    assert keys.outbox("x") == "{c:x}:outbox"
    assert keys.segment("x") == "{c:x}:segment"
    assert keys.segment_chunks("x", "s1") == "{c:x}:segment:s1"
    assert keys.staged_blocks("m") == f"{{{keys.BLOCKS}}}:m"  # in the slot of the list itself
    assert (keys.REGISTRY, keys.CHANGES) == ("flashgrab:campaigns", "flashgrab:changes")
    assert (keys.GRABS_TOPIC, keys.DEAD_TOPIC) == ("flashgrab.grabs", "flashgrab.grabs.dead")


def test_one_tag_a_campaign() -> None:
    """All keys of a campaign have its tag and no other's, and none is another campaign's."""
    made: dict[str, str] = {}
    for campaign_id in ("a", "a-1", "b"):
        names = [keys.campaign(campaign_id), keys.holders(campaign_id)]
        names += [keys.devices(campaign_id), keys.outbox(campaign_id)]
        names += [keys.round_(campaign_id, n) for n in (1, 11)]
        assert {name[: name.index("}") + 1] for name in names} == {f"{{c:{campaign_id}}}"}
        made |= dict.fromkeys(names, campaign_id)
    assert len(made) == 18
