"""Door: the JSON API under /api."""
