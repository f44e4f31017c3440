"""Bytes by URI; nothing of super-resolution."""
