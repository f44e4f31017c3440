"""Image files, and what is done to pixels."""
