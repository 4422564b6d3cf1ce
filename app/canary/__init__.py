"""Inputs that are sent again, to see whether the model behind an API has been replaced."""
