"""Structure diagrams of molecules, drawn by rdkit; target: the SMILES of what is drawn, in <smiles> tags.

A double bond's sides can be seen, so they stand in the target even where the list leaves them open; wedges
are drawn or left out, and the target goes with them.
"""

from __future__ import annotations

import argparse
import functools
import io
import math
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools import arguments, produce
from data_tools.drawing import degrade, renderers
from data_tools.text import corpora
from got_train.errors import DrawingError

if TYPE_CHECKING:
    import numpy
    from PIL import Image

SMALL_LIST = "NCI/first_5K.smi"  # in rdkit's data folder
LEAST_BOND = 20.0  # pixels of the shortest bond when the picture is made 1024 pixels large
LEAST_GAP = 0.35  # between atoms without a bond, as a share of the median bond
LABEL = 0.9  # from an atom to the end of its letters, in the units of a layout, where a bond has about 1.5
PALETTES = ("colour", "Avalon", "CDK")
READABLE = 200  # lines at the top of a list of which one has to be a SMILES


@dataclass(frozen=True)
class MoleculeEngine:
    """Pictures of one molecule each, as records of the task format."""

    smiles: tuple[str, ...]
    source: str
    atoms: tuple[int, int]
    side: tuple[int, int]  # pixels
    stereo: float  # share of drawings with the wedges of the list
    colour: float  # share
    degrade: float = 0.0
    suffix: str = "png"
    name: str = "molecules"
    attempts: int = 200

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        given = self.smiles[int(rng.integers(len(self.smiles)))]
        stereo = rng.random() < self.stereo
        look = self._look(rng)
        molecule = read(given, stereo)
        if not self.atoms[0] <= molecule.GetNumAtoms() <= self.atoms[1]:
            raise produce.Rejected("molecule of another size than asked for")
        laid_out = layout(molecule, look["kekule"])
        text = f"<smiles>{smiles_of(laid_out, molecule)}</smiles>"
        image, bond, font = draw(laid_out, look)
        if bond * 1024 / max(image.size) < LEAST_BOND:
            raise produce.Rejected("bonds too short to be read at 1024 pixels")
        image, worse = degrade.apply(image, rng, self.degrade, min(bond, font))
        meta = {"source": self.source, "stereo": stereo, "renderer": "rdkit"} | look
        meta |= {"degrade": worse} if worse else {}
        picture = produce.Picture(f"{index:08d}.{self.suffix}", produce.encode(image, self.suffix))
        return [produce.Row(f"{self.name}-{index:08d}", (picture,), "format", text, meta=meta)]

    def _look(self, rng: numpy.random.Generator) -> dict[str, Any]:
        random = rng.random(12).tolist()
        return {
            "size": [self.side[0] + int(part * (self.side[1] - self.side[0] + 1)) for part in random[:2]],
            "degrees": int(360 * random[2]),
            "line_width": round(1 + 2.5 * random[3], 1),
            "palette": PALETTES[int(random[5] * len(PALETTES))] if random[4] < self.colour else "black",
            "font": round(0.5 + 0.25 * random[6], 2),  # of a bond
            "padding": round(0.03 + 0.1 * random[7], 3),
            "bond_gap": round(0.12 + 0.08 * random[8], 3),
            "kekule": random[9] < 0.9,  # else aromatic rings with a broken line
            "methyl": random[10] < 0.2,  # CH3 written at the ends
            "paper": 255 - int(26 * random[11]),
        }


def read(given: str, stereo: bool) -> Any:
    """The molecule of a SMILES, without the numbers that reactions give to atoms."""
    chem = _rdkit()
    molecule = chem.MolFromSmiles(given)
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise produce.Rejected("line that is no SMILES")
    for atom in molecule.GetAtoms():
        atom.SetAtomMapNum(0)
    if not stereo:
        chem.RemoveStereochemistry(molecule)
    return chem.MolFromSmiles(chem.MolToSmiles(molecule))


def layout(molecule: Any, kekule: bool) -> Any:
    """The molecule with places of its atoms and wedges at its bonds; crowded ones are refused."""
    import numpy
    from rdkit.Chem.Draw import rdMolDraw2D

    try:
        placed = rdMolDraw2D.PrepareMolForDrawing(molecule, kekulize=kekule)
    except (ValueError, RuntimeError):
        raise produce.Rejected("molecule without a layout") from None
    places = placed.GetConformer().GetPositions()[:, :2]
    bonds = {tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))) for b in placed.GetBonds()}
    lengths = [numpy.linalg.norm(places[one] - places[other]) for one, other in bonds]
    unit = float(numpy.median(lengths)) if lengths else 1.5
    close = numpy.linalg.norm(places[:, None] - places[None], axis=2) < LEAST_GAP * unit
    if any(one < other and (one, other) not in bonds for one, other in numpy.argwhere(close).tolist()):
        raise produce.Rejected("atoms drawn over each other")
    return placed


def smiles_of(placed: Any, molecule: Any) -> str:
    """The canonical SMILES of what a layout shows: the molecule's wedges, double bonds as they lie."""
    chem = _rdkit()
    shown = chem.Mol(placed)
    chem.DetectBondStereochemistry(shown)
    chem.AssignStereochemistry(shown, cleanIt=True, force=True)
    shown = chem.RemoveHs(shown)
    text = chem.MolToSmiles(shown)
    # an independent way from the picture's data to the text: the places and wedges alone, as a mol block
    again = chem.MolFromMolBlock(chem.MolToMolBlock(shown))
    read_back = chem.MolFromSmiles(text)
    if again is None or read_back is None or chem.MolToSmiles(read_back) != text:
        raise produce.Rejected("rdkit does not read its SMILES back")
    if chem.MolToSmiles(again) != text:
        raise produce.Rejected("drawing reads as another molecule")
    if not read_back.HasSubstructMatch(molecule, useChirality=True):
        raise produce.Rejected("drawing lacks stereo marks of the list")
    return text


def draw(placed: Any, look: dict[str, Any]) -> tuple[Image.Image, float, float]:
    """The picture, and in pixels its shortest bond and its font."""
    from PIL import Image, ImageOps
    from rdkit.Chem.Draw import rdMolDraw2D

    drawer = rdMolDraw2D.MolDraw2DCairo(*canvas(placed, look))
    options = drawer.drawOptions()
    options.prepareMolsBeforeDrawing = False
    options.rotate = look["degrees"]
    options.bondLineWidth = look["line_width"]
    options.scaleBondWidth = False
    options.baseFontSize = look["font"]
    options.padding = look["padding"]
    options.multipleBondOffset = look["bond_gap"]
    options.explicitMethyl = look["methyl"]
    options.includeMetadata = False
    palettes = {"black": options.useBWAtomPalette, "Avalon": options.useAvalonAtomPalette,
                "CDK": options.useCDKAtomPalette, "colour": options.useDefaultAtomPalette}  # fmt: skip
    palettes[look["palette"]]()
    drawer.DrawMolecule(placed)
    drawer.FinishDrawing()
    with Image.open(io.BytesIO(drawer.GetDrawingText())) as opened:
        image = opened.convert("L" if look["palette"] == "black" else "RGB")
    lengths = []
    for bond in placed.GetBonds():
        one, other = (drawer.GetDrawCoords(end) for end in (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
        lengths.append(((one.x - other.x) ** 2 + (one.y - other.y) ** 2) ** 0.5)
    grey = image.convert("L")
    if not cleared(grey):
        raise produce.Rejected("drawing cut by the edge")
    margin = round(look["padding"] * max(look["size"])) + 2
    drawn = image.crop(ImageOps.invert(grey).getbbox())
    bands = len(drawn.getbands())
    drawn = drawn.point([round(shade * look["paper"] / 255) for shade in range(256)] * bands)
    image = ImageOps.expand(drawn, margin, fill=(look["paper"],) * bands)
    return image, min(lengths, default=max(image.size)), drawer.FontSize()


def canvas(placed: Any, look: dict[str, Any]) -> tuple[int, int]:
    """The look's size without what the molecule leaves empty: rdkit's time goes into its PNG's pixels."""
    import numpy

    angle = math.radians(look["degrees"])
    turn = numpy.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    spread = numpy.ptp(placed.GetConformer().GetPositions()[:, :2] @ turn, axis=0)
    scale = (1 - 2 * look["padding"]) * (look["size"] / numpy.maximum(spread, 2 * LABEL)).min()
    needed = (spread + 2 * LABEL) * scale / (1 - 2 * look["padding"])
    width, height = numpy.minimum(look["size"], numpy.ceil(needed)).astype(int).tolist()
    return width, height


def cleared(grey: Image.Image) -> bool:
    """Whether the outermost pixels are paper."""
    width, height = grey.size
    edges = (
        (0, 0, width, 1),
        (0, height - 1, width, height),
        (0, 0, 1, height),
        (width - 1, 0, width, height),
    )
    return all(grey.crop(edge).getextrema()[0] > 250 for edge in edges)


def read_list(path: Path, split: str) -> tuple[str, ...]:
    """The first word of every line, up to a space, tab or comma; a line "smiles ..." is a header."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DrawingError(f"--smiles {path}: cannot be read ({error}); give a text file") from None
    words = [re.split(r"[\s,;]", line.strip(), maxsplit=1)[0].strip('"') for line in lines]
    smiles = [word for word in words if word and not word.lower().startswith(("smiles", "canonical_smiles"))]
    smiles = [word for word in dict.fromkeys(smiles) if split == "all" or corpora.split_of(word) == split]
    if not any(_rdkit().MolFromSmiles(word) for word in smiles[:READABLE]):
        raise DrawingError(
            f"--smiles {path}: rdkit reads none of its first lines; give a SMILES on each line"
        )
    return tuple(smiles)


@functools.cache
def _rdkit() -> Any:
    try:
        from rdkit import Chem, RDLogger
    except ImportError:
        raise renderers.RendererError("rdkit: not found; `pip install rdkit` brings it") from None
    RDLogger.DisableLog("rdApp.*")  # a bad line is counted, not told
    return Chem


def small_list() -> Path:
    """The list of 5000 molecules of the NCI that comes with rdkit."""
    _rdkit()
    from rdkit import RDConfig

    path = Path(RDConfig.RDDataDir) / SMALL_LIST
    if not path.is_file():
        raise DrawingError(f"molecules: this rdkit came without {SMALL_LIST}; name a list by --smiles")
    return path


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = arguments.CommandParser(
        prog="python -m data_tools.engines.molecules", description="Draw molecules and write them as records."
    )
    arguments.add_arguments(options, shard_pages=500, counted="molecules")
    options.add_argument("--smiles", type=Path, help="list, a SMILES a line (default: rdkit's 5000)")
    options.add_argument(
        "--split", choices=("all", *corpora.SPLITS), default="all", help="side of the list (default: all)"
    )
    options.add_argument("--atoms", type=arguments.span, default=(4, 50), help="without H (default: 4-50)")
    options.add_argument(
        "--pixels", type=arguments.span, default=(300, 900), help="of a side (default: 300-900)"
    )
    options.add_argument("--stereo", type=degrade.share, default=0.9, help="share with wedges (default: 0.9)")
    options.add_argument("--colour", type=degrade.share, default=0.4, help="share (default: 0.4)")
    options.add_argument("--image", choices=("jpg", "png"), default="png", help="(default: %(default)s)")
    degrade.add_arguments(options)
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    path = args.smiles or small_list()
    smiles = read_list(path, args.split)
    version = metadata.version("rdkit")
    engine = MoleculeEngine(
        smiles=smiles,
        source=path.name,
        atoms=args.atoms,
        side=args.pixels,
        stereo=args.stereo,
        colour=args.colour,
        degrade=args.degrade,
        suffix=args.image,
        name=f"molecules-{args.split}",
    )
    return produce.write(engine, args, args.count, smiles=[path.name, len(smiles)], rdkit=version)


main = produce.command(parser, make)

if __name__ == "__main__":
    sys.exit(main())
