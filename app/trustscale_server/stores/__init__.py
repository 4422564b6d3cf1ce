"""Where calibrations, jobs and results live: protocols and their implementations."""
