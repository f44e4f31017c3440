"""One run on disk: its folder, records, journals and checkpoints, and who works on it."""
