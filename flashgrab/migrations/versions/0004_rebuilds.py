"""Rebuilds of a campaign's Redis side: each closes an epoch at a cut and opens the next one.

`step` is what is to be done next: DRAIN (wait for Kafka, take over the old outbox, cut), SEED
(stage in Redis), SWITCH (the campaign may be open in the new epoch already), DONE.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = (
    """
    CREATE TABLE rebuilds (
        operation     text PRIMARY KEY,
        campaign_id   text NOT NULL REFERENCES campaigns,
        step          text NOT NULL CHECK (step IN ('DRAIN', 'SEED', 'SWITCH', 'DONE')),
        without_kafka boolean NOT NULL DEFAULT false,
        epoch         bigint,
        cut           bigint,
        start         bigint,
        report        jsonb,
        begun_ms      bigint NOT NULL,
        ended_ms      bigint
    )
    """,
    "CREATE UNIQUE INDEX rebuilds_open ON rebuilds (campaign_id) WHERE step <> 'DONE'",
    "CREATE INDEX rebuilds_by_campaign ON rebuilds (campaign_id, begun_ms)",
)


def upgrade() -> None:
    """Make the table."""
    for statement in STATEMENTS:
        op.execute(statement)
