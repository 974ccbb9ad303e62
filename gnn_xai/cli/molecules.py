"""`gnn-xai molecules`: a file of SMILES, explained and drawn."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import gnn_xai as gx
from gnn_xai.cli.options import (
    Algorithm,
    Mode,
    Out,
    Overwrite,
    Returns,
    Seed,
    Settings,
    Target,
    Weights,
    parse_names,
    parse_settings,
)
from gnn_xai.cli.terminal import print_rows, say
from gnn_xai.errors import unknown

MoleculeFile = Annotated[
    Path,
    typer.Option(
        help="A file of molecules: .smi (one SMILES a line, and a name if there is one), .csv, .tsv, .sdf, .parquet or "
        ".xlsx, possibly with .gz after it."
    ),
]
MoleculeModel = Annotated[
    str,
    typer.Option(
        metavar="reference:NAME|MODULE:FACTORY",
        help="A reference model, such as reference:nitro, or a function that returns your model.",
    ),
]
SmilesColumn = Annotated[str | None, typer.Option(help="The column of a table with the SMILES.")]
IdColumn = Annotated[str | None, typer.Option(help="The column of a table, or the property of an SDF, with the names.")]

FORMATS = ("sdf", "sdf.gz", "parquet", "json", "pml")  # of gnn_xai.molecules.write
ATOMS_ONLY: dict[str, dict[str, Any]] = dict.fromkeys(
    ("integrated_gradients", "saliency", "input_x_gradient", "smooth_grad"), {"edge_mask_type": None}
)  # gradients on atoms alone agree better with known contributions, see docs/molecules.md
COLUMNS = {"name": "molecule", "prediction": "prediction", "top_fragment": "top fragment"}


def molecules(
    smiles: MoleculeFile,
    model: MoleculeModel,
    out: Out,
    algorithm: Algorithm = "integrated_gradients",
    settings: Settings = None,
    weights: Weights = None,
    featurizer: Annotated[
        str | None, typer.Option(help="pyg, ogb or one_hot; by default what the model reads, where it says so.")
    ] = None,
    mode: Mode = None,
    returns: Returns = None,
    smiles_column: SmilesColumn = None,
    id_column: IdColumn = None,
    strip_salts: Annotated[bool, typer.Option("--strip-salts", help="Keep the largest part of each salt.")] = False,
    neutralize: Annotated[
        bool, typer.Option("--neutralize", help="Remove charges by adding or taking protons.")
    ] = False,
    unit: Annotated[
        str, typer.Option(help="The unit of a regression's values, such as logP or kJ/mol; said on the page.")
    ] = "",
    target: Target = None,
    seed: Seed = 0,
    columns: Annotated[int, typer.Option(min=1, help="Molecules in a row of the sheet.")] = 5,
    formats: Annotated[
        str | None,
        typer.Option(
            "--write", help="More files, with commas: sdf, sdf.gz, parquet, json (for XSMILES), pml (for PyMOL)."
        ),
    ] = None,
    fragments: Annotated[
        bool,
        typer.Option("--fragments", help="Also write fragments.csv and fragments.html: what drives the whole file."),
    ] = False,
    viewer: Annotated[
        Path | None,
        typer.Option(
            help="3Dmol-min.js of the npm package 3dmol, put into the page, which then shows molecules in space."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Explain predictions for molecules, and draw them.

    Writes index.html, sheet.png, sheet.svg, tables of molecules, atoms and bonds, and what `explain` writes, all or
    nothing. Lines that hold no molecule are named and left out. Gradient methods score atoms alone; --set
    edge_mask_type=object adds bonds.
    """
    from gnn_xai.cli import outputs, subjects
    from gnn_xai.molecules.sums import sum_of, unit_of
    from gnn_xai.report.fragments import write_fragments
    from gnn_xai.report.molecules import write_molecules

    suffixes = [] if formats is None else parse_names(formats, "--write")
    for suffix in suffixes:
        if suffix not in FORMATS:
            raise unknown("format", suffix, FORMATS)
    chosen = parse_settings(settings)
    method = gx.algorithms.get(algorithm, **{**ATOMS_ONLY.get(algorithm, {}), **chosen})
    with outputs.output_folder(out, overwrite=overwrite) as folder:
        subject = subjects.reader_of_molecules(model, mode, returns, weights)
        encoding = featurizer or subject.featurizer or subject.model
        if subject.task.mode.value == "regression" and subject.class_names:  # a name for each output column
            unit = unit or subject.class_names[target or 0]
        mols = gx.molecules.read(
            smiles,
            encoding,
            smiles_column=smiles_column,
            id_column=id_column,
            strip_salts=strip_salts,
            neutralize=neutralize,
        )
        explanations = gx.explain(
            subject.model, mols, method, task=subject.task, target=target, seed=seed, progress=sys.stderr.isatty()
        )
        table = write_molecules(
            folder,
            mols,
            explanations,
            title=f"{smiles.name}, explained for {subject.name}",
            columns=columns,
            class_names=subject.class_names,
            unit=unit,
            viewer=viewer,
            footer=f"gnn_xai {gx.__version__} · seed {seed}",
        )
        if fragments:
            summary = gx.molecules.summary(explanations, seed=seed)
            summary.table().to_csv(folder / "fragments.csv", index=False, float_format="%.6g")
            title = f"What drives {subject.name} in {smiles.name}"
            write_fragments(folder / "fragments.html", summary, title=title, class_names=subject.class_names)
        for suffix in suffixes:
            gx.molecules.write(explanations, folder / f"molecules.{suffix}")
        facts = {
            "model": subject.name,
            "smiles": smiles.name,
            "featurizer": mols.featurizer,
            "molecules": len(mols),
            "problems": [problem._asdict() for problem in mols.problems],
            "unit": unit_of(explanations[0], unit),
            "sums": [None if parts is None else parts.rows() for parts in map(sum_of, explanations)],
        }
        outputs.write_explanations(folder, explanations, facts)
    rows = (tuple(map(_cell, row)) for row in table[list(COLUMNS)].itertuples(index=False))
    print_rows(tuple(COLUMNS.values()), rows, len(table), "molecules.csv")
    say(f"open {out / 'index.html'} to look at {len(mols)} molecules; tables are in {out}/*.csv")


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
