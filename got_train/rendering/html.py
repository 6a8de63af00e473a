"""What cannot be drawn, shown as its source with the reason; and bytes or text made fit to stand in a page.

Knows HTML's rules of escaping; no grammar and no renderer.
"""

from __future__ import annotations

import base64
import html
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def escaped(text: str) -> str:
    """Text as HTML; U+0000, which HTML cannot hold, is shown by its symbol, and a CR stays one."""
    whole = text.encode("utf-8", "replace").decode("utf-8") if _halved(text) else text
    return html.escape(whole).replace("\0", "\u2400").replace("\r", "&#13;")


def shown_as_source(text: str, reason: str) -> str:
    """A block of source under the reason why it is not drawn."""
    return f'<div class="source"><p class="why">{escaped(reason)}</p><pre>\n{escaped(text)}</pre></div>'


def inline_source(text: str, reason: str) -> str:
    """The same inside a line: the reason is told when the mouse rests on it."""
    return f'<code class="source" title="{escaped(reason)}">{escaped(text)}</code>'


def picture(data: bytes, kind: str, description: str) -> str:
    """An image in the page itself; kind is svg+xml, png or jpeg. As an image, an SVG can run no script."""
    coded = base64.b64encode(data).decode()
    return f'<img class="drawn" alt="{escaped(description)}" src="data:image/{kind};base64,{coded}">'


def data_uri(image: Image.Image, form: str, quality: int) -> str:
    """An image as an address inside the page; form is WEBP or JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, form, quality=quality)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _halved(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
