"""Weights on disk: our folders, and published files under our key names."""
