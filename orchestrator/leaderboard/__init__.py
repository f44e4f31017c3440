"""Scores compared and shown."""
