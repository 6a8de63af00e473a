"""Which rows were read off one document, by the rule of splits; intervals and tests draw documents whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from got_train.data.documents import BY_FILE, documents_of_pictures

from .predictions import Prediction

BY_ITSELF = "the row, as it names no picture"


@dataclass(frozen=True)
class DocumentCount:
    """Rows of a data file, the documents that they are of, and how these were told."""

    data: str | None
    rows: int
    documents: int
    told_by: str

    def __str__(self) -> str:
        name = self.data or "data"
        return f"{name}: {self.rows:,} rows of {self.documents:,} documents, told by {self.told_by}"

    def row(self) -> dict[str, Any]:
        return dict(vars(self))


def with_documents(
    predictions: Sequence[Prediction], rule: str = ""
) -> tuple[list[Prediction], list[DocumentCount]]:
    """The predictions with their documents, and what was used for each data file.

    Rows without a picture are documents of their own. Names that make one document of all pictures tell
    nothing, and each picture is its own then.
    """
    result, counts = list(predictions), []
    rows: dict[str | None, list[int]] = {}
    for row, prediction in enumerate(predictions):
        rows.setdefault(prediction.data, []).append(row)
    for data, own in rows.items():
        documents, told_by = _documents([predictions[row] for row in own], rule)
        for row, document in zip(own, documents, strict=True):
            result[row] = replace(predictions[row], document=document)
        clusters = {result[row].cluster for row in own}
        counts.append(DocumentCount(data, len(own), len(clusters), told_by))
    return result, counts


def _documents(predictions: Sequence[Prediction], rule: str) -> tuple[list[str | None], str]:
    """The document of each row, none where it is the picture or the row itself; and how they were told."""
    has_document = [bool(row.picture or (row.document and not rule)) for row in predictions]
    pictures = [
        (row.document, row.picture) for row, is_told in zip(predictions, has_document, strict=True) if is_told
    ]
    names, told_by = documents_of_pictures(pictures, rule)
    stated = any(document for document, _ in pictures)
    if told_by == BY_FILE or (len(set(names)) == 1 and not rule and not stated):
        return [row.document for row in predictions], BY_FILE if pictures else BY_ITSELF
    remaining = iter(names)
    return [next(remaining) if is_told else None for is_told in has_document], told_by
