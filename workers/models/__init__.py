"""Models that a worker can serve; `registry` gives all of them one face."""
