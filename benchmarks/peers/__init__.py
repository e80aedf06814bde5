"""The peers, one per file."""
