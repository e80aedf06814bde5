"""What the questions have in common."""
