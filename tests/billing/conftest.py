"""The scene, for tests that need an installation around the room."""

from __future__ import annotations

from tests.workflows.conftest import scene

__all__ = ["scene"]
