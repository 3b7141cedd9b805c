"""From the outbox to the ledger: relay, persist, watermark, confirmation, and the audit."""
