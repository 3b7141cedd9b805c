"""Returns that were asked for, until the ledger has their fact.

The coupon's state says RETURNED from the first commit on; `returned_seq` comes with the fact, by
Kafka. In between Redis may be away, restarted or rebuilt, so the row keeps the epoch and the run
in which the script did it: in another one it is asked again.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = (
    """
    CREATE TABLE returns (
        campaign_id text NOT NULL,
        serial      bigint NOT NULL,
        operation   text NOT NULL,
        at_ms       bigint NOT NULL,
        epoch       bigint,
        run         text,
        done_ms     bigint,
        PRIMARY KEY (campaign_id, serial)
    )
    """,
    "CREATE INDEX returns_pending ON returns (campaign_id, serial) WHERE done_ms IS NULL",
)


def upgrade() -> None:
    """Make the table."""
    for statement in STATEMENTS:
        op.execute(statement)
