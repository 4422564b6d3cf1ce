"""Photographs and a demonstration that needs nothing else."""
