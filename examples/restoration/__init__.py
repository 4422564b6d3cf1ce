"""A tiny restoration network (scale 1), and how it was trained."""
