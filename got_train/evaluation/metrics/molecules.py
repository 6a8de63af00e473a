"""How like two molecules in SMILES are: valid, the same with and without stereo, alike by their surroundings.

Needs RDKit; without it only the edit distance of the strings is there.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rapidfuzz.distance import Levenshtein

from .values import MetricValues, Value, means

if TYPE_CHECKING:
    from rdkit.Chem import Mol

CHEMICAL = ("valid", "exact", "exact_no_stereo", "inchi", "tanimoto")
RADIUS, BITS = 2, 2048  # of Morgan's fingerprint; it does not see stereo
_MARKED = re.compile(r"<smiles>(.*?)</smiles>", re.DOTALL)


def score(prediction: str, reference: str) -> MetricValues:
    """smiles_edit of the strings; of the molecules what CHEMICAL names. An invalid answer has 0 in all."""
    found, expected = smiles(prediction), smiles(reference)
    values: dict[str, Value] = {"smiles_edit": Levenshtein.normalized_distance(found, expected)}
    reason = unavailable()
    if reason is None and molecule(expected) is None:
        reason = "the reference is no molecule that RDKit takes"
    if reason is not None:
        return MetricValues(values | dict.fromkeys(CHEMICAL), dict.fromkeys(CHEMICAL, reason))
    return MetricValues(values | _compared(found, expected))


averages = means


def unavailable() -> str | None:
    """Why molecules cannot be compared; None if they can."""
    try:
        import rdkit  # noqa: F401
    except ImportError:
        return "rdkit is not installed; `pip install rdkit`"
    return None


def smiles(text: str) -> str:
    """What stands between the first marks, or the text itself."""
    marked = _MARKED.search(text)
    return (marked[1] if marked else text).strip()


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


def _compared(found: str, expected: str) -> dict[str, Value]:
    if molecule(found) is None:
        return {name: 0.0 if name == "tanimoto" else False for name in CHEMICAL}
    keys = [_chem().MolToInchiKey(molecule(side)) for side in (found, expected)]
    return {
        "valid": True,
        "exact": canonical(found) == canonical(expected),
        "exact_no_stereo": canonical(found, stereo=False) == canonical(expected, stereo=False),
        "inchi": bool(keys[0]) and keys[0] == keys[1],
        "tanimoto": tanimoto(found, expected),
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
