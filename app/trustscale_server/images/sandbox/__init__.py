"""Untrusted files are read in a process of their own, which can do nothing else."""
