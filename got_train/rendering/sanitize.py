"""HTML of others made safe: known tags and harmless attributes are written again, all else is text or gone.

Knows which elements a page of text, formulas and drawings needs; nothing of who wrote them. nh3 was tried: it
keeps and drops elements, but cannot turn a link or a picture into its words, renumber ids, or show the
source of a formula instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from lxml.html import HtmlElement, HTMLParser, fromstring

from .html import escaped

_TEXT_TAGS = (
    "p div span br hr h1 h2 h3 h4 h5 h6 ul ol li dl dt dd blockquote pre code b i u s em strong del ins "
    "mark sub sup small table caption colgroup col thead tbody tfoot tr th td figure figcaption section"
)
_SVG_TAGS = (
    "mjx-container svg g path rect line circle ellipse polygon polyline text tspan defs mask "
    "lineargradient stop"
)
_MATH_TAGS = (
    "math semantics mrow mi mn mo mtext mspace mfrac msqrt mroot msub msup msubsup munder mover munderover "
    "mtable mtr mtd mstyle mpadded mphantom menclose mmultiscripts mprescripts"
)
_KEPT = frozenset(f"{_TEXT_TAGS} {_SVG_TAGS} {_MATH_TAGS}".split())
_EMPTY = frozenset({"br", "hr", "col"})
_GONE = frozenset(
    str.split("script style title template noscript iframe object embed annotation annotation-xml")
)
_ATTRIBUTES = frozenset(
    str.split(
        "class colspan rowspan align valign start display width height viewbox preserveaspectratio "
        "transform d x y x1 y1 x2 y2 cx cy r rx ry points fill fill-opacity stroke stroke-width "
        "stroke-linecap stroke-dasharray opacity offset stop-color gradientunits mask id font-size "
        "font-weight font-style font-family text-anchor dx dy dir mathvariant stretchy fence separator "
        "lspace rspace accent accentunder linethickness columnalign rowspacing columnspacing rowalign "
        "minsize maxsize scriptlevel displaystyle mathcolor notation xmlns role"
    )
)
_STYLES = frozenset(
    str.split(
        "text-align vertical-align border border-top border-bottom border-left border-right "
        "border-top-style border-bottom-style border-left-style border-right-style border-top-width "
        "border-bottom-width border-left-width border-right-width border-top-color width height min-width "
        "overflow stroke-linecap stroke-dasharray stroke-width text-anchor writing-mode text-orientation "
        "direction unicode-bidi letter-spacing glyph-orientation-vertical font-weight font-style "
        "text-decoration font-size color"
    )
)
_PLAIN = re.compile(r"[^\\<>]*")
_OWN = re.compile(r"url\(\s*['\"]?#([\w-]+)['\"]?\s*\)")
_CALLED = re.compile(r"[a-z-]+\s*\(", re.IGNORECASE)
_FUNCTIONS = ("translate(", "scale(", "rotate(", "matrix(", "rgb(", "skewX(", "skewY(")

Special = Callable[[HtmlElement], "str | None"]


def clean(source: str, special: Special = lambda element: None) -> str:
    """The elements of `source` that are known; `special` may say itself what stands for an element.

    Names inside are renumbered, so the same source gives the same bytes. A link becomes its words and its
    address, a picture its description and its address: nothing is fetched, nothing can be followed.
    """
    root = fromstring(f"<div>{source}</div>", parser=HTMLParser(remove_comments=True, remove_pis=True))
    names: dict[str, str] = {}
    return "".join(_inside(root, special, names))


def _inside(element: HtmlElement, special: Special, names: dict[str, str]) -> Iterator[str]:
    yield escaped(element.text or "")
    for child in element:
        yield _element(child, special, names)
        yield escaped(child.tail or "")


def _element(element: HtmlElement, special: Special, names: dict[str, str]) -> str:
    tag = element.tag
    if not isinstance(tag, str) or tag in _GONE:
        return ""
    instead = special(element)
    if instead is not None:
        return instead
    if tag == "img":
        return f"<code>![{escaped(element.get('alt', ''))}]({escaped(element.get('src', ''))})</code>"
    inner = "".join(_inside(element, special, names))
    if tag == "a":
        return inner + _address(element)
    if tag not in _KEPT:
        return inner
    given = "".join(_attributes(element, names))
    return f"<{tag}{given}>" if tag in _EMPTY else f"<{tag}{given}>{inner}</{tag}>"


def _address(link: HtmlElement) -> str:
    address = link.get("href", "")
    shown = address.startswith("#") or not address or address == link.text_content()
    return "" if shown else f" <code>{escaped(address)}</code>"


def _attributes(element: HtmlElement, names: dict[str, str]) -> Iterator[str]:
    for name, value in element.attrib.items():
        if name == "style":
            value = "; ".join(_declarations(value))
        elif name == "id":
            if element.tag not in ("mask", "lineargradient"):
                continue
            value = names.setdefault(value, f"n{len(names)}")
        elif name not in _ATTRIBUTES or (name == "class" and element.tag in ("text", "tspan")):
            continue  # letters of molecules have a class with a random name
        value = _OWN.sub(lambda match: f"url(#{names.setdefault(match[1], f'n{len(names)}')})", value)
        if value and _harmless(value):
            yield f' {name}="{escaped(value)}"'


def _declarations(style: str) -> Iterator[str]:
    for declaration in style.split(";"):
        name, _, value = declaration.partition(":")
        if name.strip().lower() in _STYLES and _harmless(value):
            yield f"{name.strip().lower()}: {value.strip()}"


def _harmless(value: str) -> bool:
    called = _CALLED.findall(_OWN.sub("", value))
    return _PLAIN.fullmatch(value) is not None and all(item in _FUNCTIONS for item in called)
