"""Staff: tokens, sign-in links and sessions as hashes, and a log of every write.

A row of the log is written before the call and finished after it: `status` is NULL where nobody
knows how it ended. Links and sessions name in `parent` what they were made with, and end with it.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = (
    """
    CREATE TABLE staff (
        id         text PRIMARY KEY,
        kind       text NOT NULL CHECK (kind IN ('token', 'link', 'session')),
        name       text NOT NULL,
        role       text NOT NULL
                   CHECK (role IN ('viewer', 'operator', 'merchandiser', 'approver', 'admin')),
        hash       bytea NOT NULL,
        operation  text UNIQUE,
        parent     text REFERENCES staff,
        made_by    text NOT NULL,
        created_ms bigint NOT NULL,
        expires_ms bigint NOT NULL,
        ended_ms   bigint
    )
    """,
    "CREATE INDEX staff_by_parent ON staff (parent)",
    """
    CREATE TABLE staff_log (
        entry      text PRIMARY KEY,
        at_ms      bigint NOT NULL,
        name       text NOT NULL,
        role       text NOT NULL,
        credential text NOT NULL,
        action     text NOT NULL,
        target     text NOT NULL,
        operation  text NOT NULL,
        before     jsonb,
        after      jsonb,
        status     integer,
        code       text,
        ended_ms   bigint
    )
    """,
    "CREATE INDEX staff_log_by_time ON staff_log (at_ms, entry)",
)


def upgrade() -> None:
    """Make the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
