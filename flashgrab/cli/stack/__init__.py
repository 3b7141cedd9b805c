"""The embedded stack: Valkey, PostgreSQL and a broker from wheels, and the parts, supervised."""
