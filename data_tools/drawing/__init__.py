"""Fonts, renderers, damage and text layers that the engines draw with."""
