"""How likely a request for a pass comes from no person: pure, of fixed memory, no I/O."""
