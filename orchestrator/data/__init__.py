"""Images to batches: the patch store and what it is made from."""
