"""Formatted results as pages that a browser shows offline. Knows text only, no model."""
