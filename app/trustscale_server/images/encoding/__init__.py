"""Pictures to files."""
