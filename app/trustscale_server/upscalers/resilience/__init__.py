"""Calls that may fail: when they are tried again, and when nobody calls any more."""
