"""Molecules in SMILES as pictures by RDKit. Knows one molecule at a time."""

from __future__ import annotations

from importlib.util import find_spec

from got_train.errors import RenderingError

SIZE = (280, 200)  # pixels
LONGEST = 2000  # characters


def svg(smiles: str) -> bytes:
    """The drawing of a molecule."""
    if find_spec("rdkit") is None:
        raise RenderingError(
            'no renderer of molecules is installed; use `pip install -e ".[engines]"` in the clone'
        )
    from rdkit import Chem, RDLogger
    from rdkit.Chem.Draw import rdMolDraw2D

    RDLogger.DisableLog("rdApp.*")
    smiles = smiles.strip()
    # RDKit takes what follows a space for a name
    if not smiles or len(smiles) > LONGEST or " " in smiles or not smiles.isascii():
        raise RenderingError("this is no SMILES")
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise RenderingError("no molecule that RDKit knows")
    drawing = rdMolDraw2D.MolDraw2DSVG(*SIZE)
    drawing.DrawMolecule(molecule)
    drawing.FinishDrawing()
    return drawing.GetDrawingText().encode()
