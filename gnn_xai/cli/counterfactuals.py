"""`gnn-xai counterfactuals`: small edits of molecules that change what a model predicts."""

from __future__ import annotations

from typing import Annotated

import typer

import gnn_xai as gx
from gnn_xai.cli.molecules import IdColumn, MoleculeFile, MoleculeModel, SmilesColumn
from gnn_xai.cli.options import Mode, Out, Overwrite, Returns, Seed, Weights
from gnn_xai.cli.terminal import print_rows, say

COLUMNS = {"name": "molecule", "edits": "edits", "after": "after", "similarity": "similarity"}
FIGURES = 100


def counterfactuals(
    smiles: MoleculeFile,
    model: MoleculeModel,
    out: Out,
    weights: Weights = None,
    featurizer: Annotated[
        str | None, typer.Option(help="pyg, ogb or one_hot; by default what the model reads.")
    ] = None,
    mode: Mode = None,
    returns: Returns = None,
    smiles_column: SmilesColumn = None,
    id_column: IdColumn = None,
    target: Annotated[int | None, typer.Option(help="The class to reach; by default any other.")] = None,
    change: Annotated[
        float | None, typer.Option(help="For a regression: how far the value has to move, such as -1.0.")
    ] = None,
    both: Annotated[bool, typer.Option("--both", help="For a regression: in both directions.")] = False,
    max_edits: Annotated[int, typer.Option(help="Most edits of one molecule.")] = 3,
    limit: Annotated[int, typer.Option(help="Most counterfactuals of one molecule.")] = 10,
    keep: Annotated[str | None, typer.Option(help="SMARTS of what stays as it is, or 'scaffold'.")] = None,
    open_rings: Annotated[bool, typer.Option("--open-rings", help="Aromatic rings may be opened.")] = False,
    min_similarity: Annotated[float, typer.Option(help="Least Tanimoto similarity, 0 to 1.")] = 0.0,
    min_qed: Annotated[float | None, typer.Option(help="Least drug-likeness (QED), 0 to 1.")] = None,
    max_synthetic_accessibility: Annotated[
        float | None, typer.Option(help="Most synthetic accessibility, from 1 (easy) to 10.")
    ] = None,
    per_place: Annotated[int | None, typer.Option(help="At most so many for each position and scaffold.")] = None,
    mutations: Annotated[
        int, typer.Option(help="Random changes of the SELFIES of each molecule, beside the edits; needs selfies.")
    ] = 0,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Find the smallest edits of molecules that change what the model predicts.

    Writes counterfactuals.csv, a picture of each of the first hundred molecules with its counterfactuals, and summary.json,
    all or nothing.
    """
    from gnn_xai.cli import outputs, subjects
    from gnn_xai.molecules.tables import pandas

    options = {
        "target": target,
        "change": change,
        "both": both,
        "max_edits": max_edits,
        "limit": limit,
        "keep": keep,
        "open_rings": open_rings,
        "min_similarity": min_similarity,
        "min_qed": min_qed,
        "max_synthetic_accessibility": max_synthetic_accessibility,
        "per_place": per_place,
        "mutations": mutations,
        "seed": seed,
    }
    with outputs.output_folder(out, overwrite=overwrite) as folder:
        subject = subjects.reader_of_molecules(model, mode, returns, weights)
        encoding = featurizer or subject.featurizer or subject.model
        mols = gx.molecules.read(smiles, encoding, smiles_column=smiles_column, id_column=id_column)
        results = gx.molecules.counterfactuals(subject.model, mols, task=subject.task, **options)
        assert isinstance(results, list)
        tables = []
        for result, line, name in zip(results, mols.lines, mols.names, strict=True):
            table = result.table()
            for place, (key, value) in enumerate({"line": line, "name": name, "input": result.smiles}.items()):
                table.insert(place, key, value)
            tables.append(table)
        table = pandas().concat(tables, ignore_index=True)
        table.to_csv(folder / "counterfactuals.csv", index=False, float_format="%.6g")
        (folder / "figures").mkdir()
        for number, result in enumerate(results[:FIGURES]):
            result.draw().save(folder / "figures" / f"molecule-{number}.svg")
        facts = {
            "model": subject.name,
            "smiles": smiles.name,
            "featurizer": mols.featurizer,
            "options": options,
            "problems": [problem._asdict() for problem in mols.problems],
            "found": [len(result) for result in results],
            "tried": [result.tried for result in results],
        }
        outputs.write_summary(folder, facts)
    rows = (tuple(_text(value) for value in row) for row in table[list(COLUMNS)].itertuples(index=False))
    print_rows(tuple(COLUMNS.values()), rows, len(table), "counterfactuals.csv")
    say(f"pictures are in {out / 'figures'}; the table is {out / 'counterfactuals.csv'}")


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
