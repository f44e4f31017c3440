"""How to run a network on an image: padding, tiles, crops, noise."""
