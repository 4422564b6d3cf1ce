"""Models that a worker can serve, behind one interface in `engine`."""
