"""How like two molecules in SMILES are: valid, the same with and without stereo, alike by their surroundings.

Needs RDKit; without it only the edit distance of the strings is there.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rapidfuzz.distance import Levenshtein

from .pairing import best_pairs
from .values import MetricValues, Value, means

if TYPE_CHECKING:
    from rdkit.Chem import Mol

CHEMICAL = ("valid", "exact", "exact_no_stereo", "inchi", "tanimoto")
RADIUS, BITS = 2, 2048  # of Morgan's fingerprint; it does not see stereo
_MARKED = re.compile(r"<smiles>(.*?)</smiles>", re.DOTALL)


def score(prediction: str, reference: str) -> MetricValues:
    """smiles_edit of the strings; of the molecules what CHEMICAL names. An invalid answer has 0 in all.

    Of several molecules each one has the best partner on the other side; edits and tanimoto are means over
    the pairs, the others hold only if they hold for all, and one without a partner has nothing right.
    """
    pairs = best_pairs(all_smiles(prediction), all_smiles(reference))
    edits = [1.0 if None in pair else Levenshtein.normalized_distance(*pair) for pair in pairs]
    values: dict[str, Value] = {"smiles_edit": sum(edits) / len(edits)}
    reason = unavailable()
    if reason is None and any(other is not None and molecule(other) is None for _, other in pairs):
        reason = "the reference is no molecule that RDKit takes"
    if reason is not None:
        return MetricValues(values | dict.fromkeys(CHEMICAL), dict.fromkeys(CHEMICAL, reason))
    compared = [_compared(*pair) for pair in pairs]
    values |= {name: all(pair[name] for pair in compared) for name in CHEMICAL if name != "tanimoto"}
    values["tanimoto"] = sum(pair["tanimoto"] for pair in compared) / len(compared)
    return MetricValues(values)


averages = means


def unavailable() -> str | None:
    """Why molecules cannot be compared; None if they can."""
    try:
        import rdkit  # noqa: F401
    except ImportError:
        return 'rdkit is not installed; use `pip install -e ".[engines]"` in the clone'
    return None


def all_smiles(text: str) -> list[str]:
    """What stands between the marks, or the text itself where there are none."""
    return [smiles.strip() for smiles in _MARKED.findall(text) or [text]]


@lru_cache(maxsize=256)
def molecule(text: str) -> Mol | None:
    """The molecule; None if there is none. RDKit would take what follows a space for its name."""
    chem = _chem()
    if not text.isascii() or not text or re.search(r"\s", text):
        return None
    return chem.MolFromSmiles(text)


def canonical(text: str, stereo: bool = True) -> str | None:
    """RDKit's one way to write a molecule; None if it is invalid."""
    parsed = molecule(text)
    return None if parsed is None else _chem().MolToSmiles(parsed, isomericSmiles=stereo)


def tanimoto(first: str, second: str) -> float:
    """The share of surroundings up to two bonds away that both have; 0 if either is invalid."""
    from rdkit.DataStructs import TanimotoSimilarity

    molecules = molecule(first), molecule(second)
    if any(parsed is None for parsed in molecules):
        return 0.0
    return TanimotoSimilarity(*(_fingerprints().GetFingerprint(parsed) for parsed in molecules))


def _compared(predicted: str | None, expected: str | None) -> dict[str, Any]:
    if predicted is None or expected is None or molecule(predicted) is None:
        return {name: 0.0 if name == "tanimoto" else False for name in CHEMICAL}
    keys = [_chem().MolToInchiKey(molecule(side)) for side in (predicted, expected)]
    return {
        "valid": True,
        "exact": canonical(predicted) == canonical(expected),
        "exact_no_stereo": canonical(predicted, stereo=False) == canonical(expected, stereo=False),
        "inchi": bool(keys[0]) and keys[0] == keys[1],
        "tanimoto": tanimoto(predicted, expected),
    }


@cache
def _chem() -> ModuleType:
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")  # it writes of every invalid answer
    return Chem


@cache
def _fingerprints() -> Any:
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    return GetMorganGenerator(radius=RADIUS, fpSize=BITS)
