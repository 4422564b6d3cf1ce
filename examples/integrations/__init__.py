"""Trustscale where people already work; docs/integrations.md says how each is used."""
