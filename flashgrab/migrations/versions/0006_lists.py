"""Who may get a pass: segments (a campaign's list of users) and the blocklist.

Of a segment's users only keyed digests are kept, sorted, a chunk a row. A stamp names the content
of each list; the centre brings Redis whatever has another stamp there.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS = (
    """
    CREATE TABLE segments (
        campaign_id text PRIMARY KEY,
        name        text NOT NULL,
        stamp       text NOT NULL,
        key         text NOT NULL,
        members     bigint NOT NULL,
        chunks      integer NOT NULL,
        loaded_ms   bigint NOT NULL
    )
    """,
    """
    CREATE TABLE segment_chunks (
        campaign_id text NOT NULL,
        stamp       text NOT NULL,
        number      integer NOT NULL,
        digests     bytea NOT NULL,
        PRIMARY KEY (campaign_id, stamp, number)
    )
    """,
    # digests do not compress
    "ALTER TABLE segment_chunks ALTER COLUMN digests SET STORAGE EXTERNAL",
    """
    CREATE TABLE blocks (
        kind     text NOT NULL CHECK (kind IN ('user', 'device', 'address')),
        subject  text NOT NULL,
        why      text NOT NULL,
        by_whom  text NOT NULL,
        until_ms bigint,
        at_ms    bigint NOT NULL,
        PRIMARY KEY (kind, subject)
    )
    """,
    # one row at the most: none before the first change
    """
    CREATE TABLE blocklist (
        one   boolean PRIMARY KEY DEFAULT true CHECK (one),
        stamp text NOT NULL
    )
    """,
)


def upgrade() -> None:
    """Make the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
