"""The `flashgrab` command and the embedded stack: the top layer, imported by nothing."""
