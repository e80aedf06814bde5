"""The peers, one a file."""
