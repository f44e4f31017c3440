"""Why does it win? What finished trials of a run say when they are looked into, by `python -m orchestrator.probe`."""
