"""What is known of each benchmark: versions, size, licence, where its data come from, published values.

The values are others' numbers, each with its source and date; none was measured here.
"""

from __future__ import annotations

from dataclasses import dataclass

from got_train.errors import EvaluationError

from .omnidocbench.rules import RULES


@dataclass(frozen=True)
class Value:
    """A published value: who, what, how much, from where and when."""

    system: str
    score: str
    value: str
    source: str


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as `got benchmarks` lists it."""

    name: str
    title: str
    versions: tuple[str, ...]  # of its rules, the latest last
    size: str
    licence: str
    data: str  # where they are published
    layout: str  # what the folder holds
    scored: str
    values: tuple[Value, ...] = ()


_GOT_PAPER = "GOT paper, arXiv 2409.01704, 2024-09"
_OMNI_10 = "OmniDocBench README, version 1.0, before 2025-09"
_OMNI_16 = "leaderboards of version 1.6, read 2026-11"
_OLMOCR = "olmOCR-bench README, read 2026-11"
_PURE = "leaderboard of its repository, read 2026-11"

BENCHMARKS = (
    Benchmark(
        "fox",
        "Fox: dense pages, regions, lines, colors",
        ("2024-05",),
        "212 pages, 13 files of nine sub-tasks",
        "CC BY-NC 4.0, research only",
        "Hugging Face, ucaslcl/Fox_benchmark_data",
        "the 13 JSON files and the folders of pictures",
        "text metrics of page, region, line and color reading; what GOT has no prompt for is counted",
        (
            Value("GOT", "edit distance, pages, en / zh", "0.035 / 0.038", _GOT_PAPER),
            Value("GOT", "edit distance, regions, en / zh", "0.041 / 0.033", _GOT_PAPER),
            Value("GOT", "edit distance, colors, en / zh", "0.034 / 0.040", _GOT_PAPER),
            Value("Qwen-VL-Max", "edit distance, pages, en / zh", "0.057 / 0.091", _GOT_PAPER),
        ),
    ),
    Benchmark(
        "onechart",
        "OneChart: ChartQA-SE and PlotQA-SE",
        ("2025-02",),
        "charts of both sets as published",
        "CC BY-NC 4.0, research only",
        "Google Drive, linked from the repository LingyvKong/OneChart",
        "a JSON list of images and gts, and pictures",
        "SCRM: AP strict, slight, high; with and without charts whose answer does not parse",
        (
            Value("GOT", "AP, ChartQA-SE, strict / slight / high", "0.747 / 0.845 / 0.867", _GOT_PAPER),
            Value("GOT", "AP, PlotQA-SE, strict / slight / high", "0.133 / 0.596 / 0.640", _GOT_PAPER),
        ),
    ),
    Benchmark(
        "omnidocbench",
        "OmniDocBench: pages of nine kinds in Chinese and English",
        tuple(RULES),
        "981 pages (1.0), 1,355 (1.5), 1,651 (1.6)",
        "research only",
        "Hugging Face, opendatalab/OmniDocBench",
        "OmniDocBench.json and images/",
        "text edit, formula edit and CDM, TEDS, TEDS-S, reading order, overall",
        (
            Value("GOT", "1.0: overall edit, en / zh", "0.287 / 0.411", _OMNI_10),
            Value("GOT", "1.0: text edit, en / zh", "0.189 / 0.315", _OMNI_10),
            Value("GOT", "1.0: formula edit, en / zh", "0.360 / 0.528", _OMNI_10),
            Value("GOT", "1.0: TEDS, en / zh", "53.2 / 47.2", _OMNI_10),
            Value("GOT", "1.0: order edit, en / zh", "0.141 / 0.28", _OMNI_10),
            Value("PaddleOCR-VL-1.5", "1.5: overall", "94.5", "model card, 2026"),
            Value("GLM-OCR", "1.5: overall", "94.6", "model card, 2026"),
            Value("OvisOCR2", "1.6: overall", "95.9", _OMNI_16),
            Value("PaddleOCR-VL-1.6", "1.6: overall", "95.8", _OMNI_16),
            Value("MinerU2.5-Pro", "1.6: overall", "95.6", _OMNI_16),
            Value("MinerU pipeline", "1.6: overall", "86.5", _OMNI_16),
        ),
    ),
    Benchmark(
        "olmocr",
        "olmOCR-bench: yes/no tests on English PDF pages",
        ("2026-03",),
        "7,019 tests of seven files, 1,394 baseline tests added",
        "see its data card",
        "Hugging Face, allenai/olmOCR-bench",
        "seven JSONL files, pdfs/, a folder of answers for each system",
        "the unweighted mean of the pass rates of eight groups",
        (
            Value("GOT (plain type, side 1,024)", "score", "48.3 +- 1.1", _OLMOCR),
            Value("GOT (plain type, side 1,024)", "tables / arXiv maths", "0.2 / 52.7", _OLMOCR),
            Value("DeepSeek-OCR", "score", "75.7", _OLMOCR),
            Value("PaddleOCR-VL", "score", "80.0", _OLMOCR),
            Value("olmOCR 0.4", "score", "82.4", _OLMOCR),
            Value("Chandra", "score", "83.1", _OLMOCR),
        ),
    ),
    Benchmark(
        "ccocr",
        "CC-OCR V2, parsing track: tables, documents, formulas, molecules, boards",
        ("2",),
        "825 samples of 7,093",
        "see its data card",
        "ModelScope, evalscope/CC-OCR-V2 (arXiv 2605.03903)",
        "parsing/SUB_TASK/{question,answer,images}/SCENARIO/ID",
        "edit similarity, TEDS of tables; the mean of the sub-tasks",
    ),
    Benchmark(
        "puredocbench",
        "PureDocBench: pages with truth from their sources, clean, degraded, photographed",
        ("1.1-digital", "1.1-real", "1.1-clean"),
        "1,475 pages, three images each",
        "CC BY 4.0",
        "Hugging Face, zhihengli-casia/puredocbench (arXiv 2605.07492)",
        "a manifest (CSV), gt/, images/TRACK/",
        "OmniDocBench's scores by the rule of 1.6, by category",
        (
            Value("GLM-5.3-Flash", "overall, clean / digital / real", "83.0 / 81.0 / 75.0", _PURE),
            Value("TeleOCR", "overall, clean / digital / real", "87.2 / 79.4 / 69.1", _PURE),
            Value("OvisOCR2", "overall, clean / digital / real", "81.5 / 77.3 / 66.5", _PURE),
            Value("DeepSeek-OCR", "overall, clean / digital / real", "53.5 / 47.0 / 40.5", _PURE),
        ),
    ),
    Benchmark(
        "ocrbench",
        "OCRBench v2, its reading half: text, pages, formulas, tables, documents",
        ("2",),
        "those of 10,000 rows that ask for reading",
        "see its data card",
        "Hugging Face, linked from the repository Yuliang-Liu/MultimodalOCR (arXiv 2501.00321)",
        "OCRBench_v2.json and pictures",
        "means by type and by capability; questions, boxes and counts are not asked",
    ),
)


def listed(name: str | None = None) -> str:
    """All benchmarks in a line each, or all that is known of one."""
    if name is None:
        rows = [
            f"{benchmark.name:14} {', '.join(benchmark.versions):20} {benchmark.title}"
            for benchmark in BENCHMARKS
        ]
        return "\n".join([f"{'name':14} {'versions':20} what it is", *rows])
    entry = next((benchmark for benchmark in BENCHMARKS if benchmark.name == name), None)
    if entry is None:
        known = ", ".join(benchmark.name for benchmark in BENCHMARKS)
        raise EvaluationError(f"{name}: unknown benchmark; expected one of {known}")
    facts = {
        "versions": ", ".join(entry.versions),
        "size": entry.size,
        "licence": entry.licence,
        "data": entry.data,
        "folder": entry.layout,
        "scored": entry.scored,
    }
    lines = [entry.title, *(f"{key:9} {value}" for key, value in facts.items())]
    if entry.values:
        lines.append("published by others:")
        lines += [
            f"  {benchmark.system}: {benchmark.score} {benchmark.value} ({benchmark.source})"
            for benchmark in entry.values
        ]
    return "\n".join(lines)
