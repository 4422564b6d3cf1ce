"""The quality, 1 to 100, that a compressed file declares, by its format."""
