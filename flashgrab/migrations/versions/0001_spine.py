"""The spine: campaigns, operations, coupons, offsets, dead letters, watermarks."""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = (
    """
    CREATE TABLE campaigns (
        campaign_id     text PRIMARY KEY,
        definition      jsonb NOT NULL,
        status          text NOT NULL CHECK (status IN ('DRAFT', 'PUBLISHED', 'PAUSED', 'OFFLINE')),
        version         bigint NOT NULL,
        applied_version bigint NOT NULL DEFAULT 0,
        epoch           bigint NOT NULL DEFAULT 1,
        per_user        bigint NOT NULL,
        per_device      bigint NOT NULL,
        operation       text NOT NULL,
        created_ms      bigint NOT NULL,
        published_ms    bigint
    )
    """,
    """
    CREATE TABLE rounds (
        campaign_id text NOT NULL REFERENCES campaigns,
        number      integer NOT NULL,
        opens_at    bigint NOT NULL,
        closes_at   bigint NOT NULL,
        quota       bigint NOT NULL CHECK (quota >= 0),
        granted     bigint NOT NULL DEFAULT 0,
        returned    bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (campaign_id, number)
    )
    """,
    """
    CREATE TABLE operations (
        operation   text PRIMARY KEY,
        campaign_id text NOT NULL,
        request     jsonb NOT NULL,
        result      json NOT NULL,
        version     bigint NOT NULL,
        at_ms       bigint NOT NULL
    )
    """,
    """
    CREATE TABLE coupons (
        campaign_id  text NOT NULL,
        serial       bigint NOT NULL,
        seq          bigint NOT NULL,
        user_id      text NOT NULL,
        device_id    text NOT NULL,
        round        integer NOT NULL,
        request_id   text NOT NULL,
        epoch        bigint NOT NULL,
        granted_at   bigint NOT NULL,
        state        text NOT NULL DEFAULT 'UNUSED',
        returned_seq bigint,
        PRIMARY KEY (campaign_id, serial)
    )
    """,
    "CREATE INDEX coupons_by_seq ON coupons (campaign_id, seq)",
    "CREATE INDEX coupons_by_user ON coupons (campaign_id, user_id)",
    "CREATE INDEX coupons_by_device ON coupons (campaign_id, device_id) WHERE device_id <> ''",
    """
    CREATE INDEX coupons_by_returned_seq ON coupons (campaign_id, returned_seq)
    WHERE returned_seq IS NOT NULL
    """,
    """
    CREATE TABLE offsets (
        topic       text NOT NULL,
        partition   integer NOT NULL,
        next_offset bigint NOT NULL,
        fingerprint bytea NOT NULL,
        PRIMARY KEY (topic, partition)
    )
    """,
    """
    CREATE TABLE dead (
        digest       bytea PRIMARY KEY,
        campaign_id  text,
        seq          bigint,
        reason       text NOT NULL,
        detail       text NOT NULL,
        key          bytea NOT NULL,
        value        bytea NOT NULL,
        at_ms        bigint NOT NULL,
        published_ms bigint,
        retried_ms   bigint
    )
    """,
    "CREATE INDEX dead_by_seq ON dead (campaign_id, seq)",
    "CREATE INDEX dead_unpublished ON dead (at_ms) WHERE published_ms IS NULL",
    """
    CREATE TABLE watermarks (
        campaign_id text PRIMARY KEY,
        watermark   bigint NOT NULL,
        at_ms       bigint NOT NULL
    )
    """,
    """
    CREATE TABLE voids (
        campaign_id text NOT NULL,
        from_seq    bigint NOT NULL,
        to_seq      bigint NOT NULL CHECK (to_seq >= from_seq),
        epoch       bigint NOT NULL,
        PRIMARY KEY (campaign_id, from_seq)
    )
    """,
)


def upgrade() -> None:
    """Make the tables of the spine."""
    for statement in STATEMENTS:
        op.execute(statement)
