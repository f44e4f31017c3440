"""What is asked for: configs, the plan made of one, its cost."""
