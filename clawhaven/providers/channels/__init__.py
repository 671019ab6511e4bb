"""Messaging networks, one file each."""
