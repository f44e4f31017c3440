"""The evaluation service: trained networks scored on workers of a Ray cluster."""
