"""What alembic runs to migrate: on the connection that flashgrab/ledger/migrate.py hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
