"""Settings become services: where values come from, and what is wired to what."""
