"""Vendors of skills."""
