"""A GitHub Action."""
