"""Fixtures of tests/launch, for the other half of the story."""

from tests.launch.conftest import local

__all__ = ["local"]
