"""The one form in which texts are compared."""

from __future__ import annotations

import unicodedata


def canonical_text(text: str) -> str:
    """NFC, as the tokenizer writes it, with line feeds as line ends and no white space around.

    Answers can only come in this form, so a reference in another one could never be reached.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")  # a file's mark is no text
    return unicodedata.normalize("NFC", text).strip()
