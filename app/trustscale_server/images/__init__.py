"""Images: bytes to arrays and arrays to bytes."""
