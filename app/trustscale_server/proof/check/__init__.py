"""Whether a large picture is an enlargement of a small one, and where it contradicts it."""
