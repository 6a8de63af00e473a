"""Parsers of answers: tables, LaTeX, kern, TikZ, charts, spots. Shared by scores and drawing."""

PLAIN_TASKS = ("ocr", "multi_crop_ocr", "scene")  # their answers have no markup
