"""Molecules against the official values, and what RDKit alone would let pass."""

import builtins
import json
from pathlib import Path

import pytest

from got_train.evaluation.metrics import molecules
from got_train.evaluation.metrics.molecules import CHEMICAL, all_smiles, averages, score

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "metrics_golden_kinds.json").read_text("utf-8")
)["smiles"]
NAMES = {
    "smiles_edit": "norm_edit",
    "valid": "valid",
    "exact": "canonical_exact",
    "exact_no_stereo": "canonical_exact_no_stereo",
    "tanimoto": "tanimoto_morgan2_2048",
    "inchi": "inchikey_equal",
}
needs_rdkit = pytest.mark.skipif(molecules.unavailable() is not None, reason="needs rdkit")


@needs_rdkit
@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["id"])
def test_the_golden_values_are_met_to_1e_9(case):
    scored = score(case["answer"], case["label"])
    for ours, theirs in NAMES.items():
        assert scored[ours] == pytest.approx(case["values"][theirs], abs=1e-9), ours
    assert molecules.canonical(case["answer"]) == case["values"].get("answer_canonical")


@needs_rdkit
@pytest.mark.parametrize("answer", ["C C O", "[R]CC", "c1ccccc", "", "CCO CCO"])
def test_what_is_no_molecule_is_wrong_in_everything(answer):
    scored = score(answer, "CCO")
    assert [scored[name] for name in CHEMICAL] == [False, False, False, False, 0.0]


@needs_rdkit
def test_the_marks_around_a_molecule_do_not_count():
    assert all_smiles("<smiles> CCO\n</smiles>") == ["CCO"]
    assert score("<smiles>OCC</smiles>", "CCO") == score("OCC", "CCO")
    assert score("OCC", "CCO")["exact"] is True


@needs_rdkit
def test_a_reference_that_is_no_molecule_has_no_score():
    scored = score("CCO", "not one")
    assert scored["tanimoto"] is None
    assert scored.missing_reasons["tanimoto"] == "the reference is no molecule that RDKit takes"
    assert averages([scored, score("CCO", "CCO")])["tanimoto"] == 1.0


def test_without_rdkit_the_edit_distance_stays_and_the_reason_is_told(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments):
        if name == "rdkit":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    scored = score("CCN", "CCO")
    assert scored["smiles_edit"] == pytest.approx(1 / 3)
    assert scored["valid"] is None
    assert scored.missing_reasons["valid"].startswith("rdkit is not installed")
