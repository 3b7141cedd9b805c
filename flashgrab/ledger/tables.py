"""The ledger's tables by name, for what takes all of them: backup and restore.

A test holds the list against what the migrations make.
"""

TABLES = (
    *("campaigns", "rounds", "operations", "rebuilds"),
    *("coupons", "returns", "voids", "dead"),
    *("offsets", "watermarks"),
    *("staff", "staff_log"),
    *("segments", "segment_chunks", "blocks", "blocklist"),
    *("console_seconds", "console_notes"),
)
"""Each after those that it refers to, so that rows can be written in this order."""
