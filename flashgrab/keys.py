"""Every name that Flashgrab uses in Redis and Kafka. One function a key, hash tag included.

All keys of a campaign share the tag `{c:ID}`, so that one campaign is one slot of a cluster.
"""

REGISTRY = "flashgrab:campaigns"
CHANGES = "flashgrab:changes"
GATEWAYS = "flashgrab:gateways"
RELAY = "flashgrab:relay"
"""Hash: which relay leads (lua/lease.lua)."""
MARKS = "flashgrab:marks"
"""A channel that nobody listens to: its messages are marks in the replication stream
(flashgrab/replica.py)."""

BLOCKS = "flashgrab:blocks"
"""Hash: the blocklist, `kind:subject` → until when (ms; 0: for ever), and its stamp."""
LISTS = "!lists"
"""Said on CHANGES, where no campaign can have this id: look at the stamps of the lists."""

GRABS_TOPIC = "flashgrab.grabs"
DEAD_TOPIC = "flashgrab.grabs.dead"
PERSIST_GROUP = "flashgrab.persist"


def campaign(campaign_id: str) -> str:
    """Hash: schema, epoch, run, generation, version, status, definition, limits, counters."""
    return f"{{c:{campaign_id}}}"


def round_(campaign_id: str, number: int) -> str:
    """Hash: opens_at, closes_at, quota, left, granted, returned."""
    return f"{{c:{campaign_id}}}:r:{number}"


def holders(campaign_id: str) -> str:
    """Hash: user → its grants (see lua/README.md)."""
    return f"{{c:{campaign_id}}}:holders"


def devices(campaign_id: str) -> str:
    """Hash: device → coupons held, only where a device limit is set."""
    return f"{{c:{campaign_id}}}:devices"


def outbox(campaign_id: str) -> str:
    """Stream: the facts not yet known to be in the ledger, one entry a script call."""
    return f"{{c:{campaign_id}}}:outbox"


def staged(campaign_id: str) -> str:
    """Hash: the epoch that is being built beside the campaign's own keys."""
    return f"{{c:{campaign_id}}}:new"


def staged_holders(campaign_id: str) -> str:
    """Hash: holders of that epoch, until lua/rebuild.lua gives them their name."""
    return f"{{c:{campaign_id}}}:new:holders"


def staged_devices(campaign_id: str) -> str:
    """Hash: devices of that epoch, likewise."""
    return f"{{c:{campaign_id}}}:new:devices"


def limit(campaign_id: str, kind: str) -> str:
    """String, on the limiter's server: one limit of somebody (flashgrab/limits.py), named by the
    kind with his id behind it."""
    return f"{{c:{campaign_id}}}:l:{kind}"


def staged_blocks(mark: str) -> str:
    """Hash: a blocklist that is being written, until it gets its name. In the slot of BLOCKS."""
    return f"{{{BLOCKS}}}:{mark}"


def segment(campaign_id: str) -> str:
    """Hash: which list of users is a campaign's audience (stamp, key, members, chunks)."""
    return f"{{c:{campaign_id}}}:segment"


def segment_chunks(campaign_id: str, stamp: str) -> str:
    """Hash: number → sorted digests of a part of that list."""
    return f"{{c:{campaign_id}}}:segment:{stamp}"
