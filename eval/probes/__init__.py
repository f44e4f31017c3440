"""Why a training objective wins: what its gradients look like, and what a predicted σ is worth."""
