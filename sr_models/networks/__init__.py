"""The networks, one paper a file; `base` and `sigma` are what they share."""
