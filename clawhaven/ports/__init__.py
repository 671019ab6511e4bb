"""Sockets: Protocols and frozen values that rooms, workflows and providers share. No I/O."""
