"""Clawhaven: a self-hosted control plane for an OpenClaw hosting business."""

__version__ = "0.1.0"
