"""Findings about the answers of a source as a whole: an error, until the config says that it is meant."""

from __future__ import annotations

from collections.abc import Iterator

from got_train.config.schema import SourceConfig
from got_train.data.answers import unusual_answers
from got_train.data.columns import sample_rows, unread_prompts
from got_train.data.records import RecordError

from .findings import ERROR, Finding
from .scan import Source

SAMPLED = 200  # rows of a source, evenly spaced


def answer_findings(source: Source, config: SourceConfig) -> Iterator[Finding]:
    """Answers that are boxes, JSON, numbers or all the same; questions that differ and are not read."""
    records = _sample(source)
    accepted = set(config.accept_answers)
    for unusual in unusual_answers([record.text for record in records], [record.task for record in records]):
        if unusual.kind not in accepted:
            fix = f"{unusual.fix}; accept_answers: [{unusual.kind}] in the source if that is meant"
            yield Finding(ERROR, "answers", source.path, unusual.cause, fix)
    if config.columns and "prompts" not in accepted:
        name, values = unread_prompts(sample_rows(config.path), config.columns)
        if name:
            shown = ", ".join(repr(value[:30]) for value in values[:3])
            cause = (
                f"column {name} has {len(values)} different questions, such as {shown}, and is not read: "
                "all rows would be asked the same"
            )
            fix = "leave out rows that ask for something else; then accept_answers: [prompts] in the source"
            yield Finding(ERROR, "answers", source.path, cause, fix)


def _sample(source: Source) -> list:
    rows = source.rows()
    places = range(SAMPLED) if rows is None else rows[:: max(1, len(rows) // SAMPLED)]
    records = []
    for row in places:
        try:
            records.append(source.records[row])
        except RecordError:  # told already
            continue
        except IndexError:  # the end of a stream
            break
    return records
