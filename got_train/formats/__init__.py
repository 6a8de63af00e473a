"""Parsers of answers: tables, LaTeX, kern, TikZ, charts, spots. Shared by scores and drawing."""
