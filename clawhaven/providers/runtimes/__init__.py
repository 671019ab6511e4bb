"""Kinds of places that gateways run in."""
