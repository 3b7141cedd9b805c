"""What the operator's console keeps: seconds of sales, and notes of what happened beside them.

A row a second in which something happened; `fine` holds its steps of 100 ms where a round opened
near it, and such rows are kept for longer. Rows are only added, and swept by age.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

STATEMENTS = (
    """
    CREATE TABLE console_seconds (
        at_ms  bigint PRIMARY KEY,
        second bytea NOT NULL,
        fine   bytea
    )
    """,
    "CREATE INDEX console_seconds_plain ON console_seconds (at_ms) WHERE fine IS NULL",
    """
    CREATE TABLE console_notes (
        at_ms       bigint NOT NULL,
        campaign_id text NOT NULL,
        kind        text NOT NULL,
        words       text NOT NULL,
        PRIMARY KEY (at_ms, campaign_id, kind, words)
    )
    """,
)


def upgrade() -> None:
    """Make the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
