import io
import json

import numpy as np
import pytest
from PIL import Image

chem = pytest.importorskip("rdkit.Chem")

from data_tools import produce  # noqa: E402
from data_tools.engines import molecules  # noqa: E402
from data_tools.engines.molecules import MoleculeEngine  # noqa: E402
from got_train.errors import DrawingError  # noqa: E402

STEREO = ("C[C@H](N)C(=O)O", "O=C(O)[C@@H]1CCCN1C(=O)[C@H](C)CS", "F/C=C\\F", "C/C=C/C[C@@H](O)[C@H](Cl)Br")


def engine_of(smiles, **changed):
    settings = {"source": "list", "atoms": (1, 60), "side": (300, 600), "stereo": 1.0, "colour": 0.5}
    return MoleculeEngine(tuple(smiles), **{**settings, **changed})


def rows(engine, count):
    found = []
    for index in range(count):
        try:
            found += engine.rows(index, produce.generator(0, engine.name, index, 0))
        except produce.Rejected as rejected:
            found.append(rejected.cause)
    return found


def smiles(row):
    assert row.text.startswith("<smiles>") and row.text.endswith("</smiles>")
    return row.text[8:-9]


def test_rdkit_reads_every_target_back_to_the_same_canonical_form():
    listed = molecules.read_list(molecules.small_list(), "all")
    found = rows(engine_of(listed, atoms=(4, 50)), 60)
    made = [row for row in found if not isinstance(row, str)]
    assert len(made) > 50
    known = {chem.MolToSmiles(mol) for mol in map(chem.MolFromSmiles, listed) if mol}
    for row in made:
        molecule = chem.MolFromSmiles(smiles(row))
        assert chem.MolToSmiles(molecule) == smiles(row)
        chem.RemoveStereochemistry(molecule)  # the NCI's list has none, a drawing shows sides of double bonds
        assert chem.MolToSmiles(molecule) in known


def test_stereo_marks_stand_in_the_target_when_they_are_drawn_and_not_when_they_are_not():
    for given in STEREO:
        drawn = {smiles(row) for row in rows(engine_of([given]), 4)}
        assert drawn == {chem.MolToSmiles(chem.MolFromSmiles(given))}
    flat = {smiles(row) for row in rows(engine_of(STEREO[:2], stereo=0.0), 8)}
    assert not any("@" in text for text in flat)


def test_the_sides_of_a_double_bond_stand_in_the_target_as_they_are_drawn():
    open_bond = chem.MolFromSmiles("FC=CF")
    for given, sides in (("F/C=C/F", -1), ("F/C=C\\F", 1), ("FC=CF", 0)):
        placed = molecules.layout(molecules.read(given, stereo=True), kekule=True)
        text = molecules.smiles_of(placed, open_bond)
        places = placed.GetConformer().GetPositions()[:, :2]
        one, other = (atom.GetIdx() for atom in placed.GetAtoms() if atom.GetSymbol() == "F")
        (a, b), axis = places[[one, other]], [b for b in placed.GetBonds() if b.GetBondTypeAsDouble() == 2][0]
        start, end = places[axis.GetBeginAtomIdx()], places[axis.GetEndAtomIdx()]
        along = end - start

        def side(point, start=start, along=along):
            return along[0] * (point - start)[1] - along[1] * (point - start)[0]

        same = np.sign(side(a) * side(b))
        assert sides in (0, same)
        assert text == chem.MolToSmiles(chem.MolFromSmiles("F/C=C\\F" if same > 0 else "F/C=C/F"))


def test_wedges_are_drawn_for_stereo_only():
    """The same molecule, look and places, with and without its wedge, differ in ink."""
    engine = engine_of(["C[C@H](N)C(=O)O"], colour=0.0)
    look = engine._look(produce.generator(0, "molecules", 0, 0))
    inks = []
    for stereo in (True, False):
        placed = molecules.layout(molecules.read("C[C@H](N)C(=O)O", stereo), kekule=True)
        image, bond, font = molecules.draw(placed, look)
        assert bond > 20 and font > 5
        inks.append(int((np.asarray(image.convert("L")) < 128).sum()))
    assert inks[0] != inks[1]


def test_what_cannot_be_drawn_or_read_is_rejected_by_its_cause():
    assert rows(engine_of(["xyz"]), 1) == ["line that is no SMILES"]
    assert rows(engine_of(["C" * 70]), 1) == ["molecule of another size than asked for"]
    assert smiles(rows(engine_of(["[CH3:1][OH:2]"]), 1)[0]) == "CO"


def test_pictures_vary_and_their_edges_are_paper():
    pictures = [
        np.asarray(Image.open(io.BytesIO(row.pictures[0].data)).convert("L"))
        for row in rows(engine_of(["c1ccc2[nH]ccc2c1"]), 12)
    ]
    assert len({picture.shape for picture in pictures}) > 6
    for picture in pictures:
        edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        assert np.ptp(edge.astype(int)) == 0 and edge[0] >= 229 and picture.min() < 100


def test_a_canvas_without_the_empty_part_leaves_the_drawing_as_large_as_it_was(monkeypatch):
    engine = engine_of(["CCCCCCCCCC(=O)O", "c1ccc2ccccc2c1", "OC(=O)CN", "CC(C)(C)c1ccc(O)cc1"], stereo=0)
    fitted = rows(engine, 12)
    monkeypatch.setattr(molecules, "canvas", lambda placed, look: tuple(look["size"]))
    whole = rows(engine, 12)
    assert [row.text for row in fitted] == [row.text for row in whole]
    for one, other in zip(fitted, whole, strict=True):
        sizes = [Image.open(io.BytesIO(row.pictures[0].data)).size for row in (one, other)]
        assert np.abs(np.subtract(*sizes)).max() <= 4, sizes


def test_the_command_reads_the_users_list_and_gives_the_same_bytes_again(tmp_path):
    (tmp_path / "a.csv").write_text("SMILES,SPLIT\nCCOC(C)=O,train\nc1ccccc1O,test\nnonsense,train\n")
    outs = []
    for name in ("one", "two"):
        arguments = ["--out", tmp_path / name, "--count", 8, "--smiles", tmp_path / "a.csv"]
        assert (
            molecules.main([str(each) for each in [*arguments, "--container", "folder", "--num-workers", 1]])
            == 0
        )
        outs.append((tmp_path / name / "records.jsonl").read_bytes())
    assert outs[0] == outs[1]
    records = [json.loads(line) for line in outs[0].splitlines()]
    assert {record["text"] for record in records} == {
        "<smiles>CCOC(C)=O</smiles>",
        "<smiles>Oc1ccccc1</smiles>",
    }
    summary = json.loads((tmp_path / "one" / ".production" / "summary.json").read_text())
    assert "line that is no SMILES" in summary["rejected"]


def test_a_list_without_smiles_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("nothing here\n")
    with pytest.raises(DrawingError, match=r"a\.txt: rdkit reads none of its first lines"):
        molecules.read_list(tmp_path / "a.txt", "all")
