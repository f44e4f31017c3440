"""One trial: the training loop, alone or by several workers, and the teachers it learns from."""
