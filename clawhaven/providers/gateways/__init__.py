"""Clients for a running gateway's own control interfaces."""
