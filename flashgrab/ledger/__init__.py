"""The adapter to PostgreSQL, the lasting truth. Only this package speaks SQL."""
