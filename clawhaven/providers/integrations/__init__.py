"""Vendors whose data an assistant may read for its owner."""
