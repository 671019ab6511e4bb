"""Ways to reach an assistant from outside."""
