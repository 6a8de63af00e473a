"""Answers as pages that a browser shows offline, and as Markdown, Word or JSON. Knows text only, no model."""

FORMATS = ("html", "md", "docx", "json", "txt")
TABLES = ("html", "pipes")  # of Markdown
