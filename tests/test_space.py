"""Models in space: a radius graph inside the model, from an SDF to a view; the numbers against plain PyTorch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.explain.config import ModelConfig
from torch_geometric.nn.models import SchNet

import gnn_xai as gx
from gnn_xai.errors import GnnXaiError, InputError, MaskingError

TASK = ModelConfig(mode="regression", task_level="graph", return_type="raw")
POSITIONS = gx.Saliency(node_mask_type=None, edge_mask_type=None, absolute=False, columns="pos")
ELEMENTS = gx.IntegratedGradients(node_mask_type=None, edge_mask_type=None, columns="z")


def neighbors(pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of atoms of one molecule within 3 Å and their distances, by plain PyTorch."""
    near = (torch.cdist(pos, pos) < 3.0) & (batch.unsqueeze(0) == batch.unsqueeze(1))
    edge_index = near.fill_diagonal_(False).nonzero().t()
    return edge_index, (pos[edge_index[0]] - pos[edge_index[1]]).norm(dim=1)


@pytest.fixture(scope="module")
def model() -> SchNet:
    torch.manual_seed(0)
    return SchNet(8, 8, 2, 8, cutoff=3.0, interaction_graph=neighbors).eval()


@pytest.fixture(scope="module")
def clouds() -> list[Data]:
    """Atoms without bonds."""
    make = torch.Generator().manual_seed(0)
    return [
        Data(z=torch.randint(1, 9, (size,), generator=make), pos=torch.randn(size, 3, generator=make) * 1.5)
        for size in (4, 7, 1)
    ]


def energy(model: SchNet, cloud: Data, keep: Tensor | None = None) -> Tensor:
    keep = torch.ones(len(cloud.z), dtype=torch.bool) if keep is None else keep
    return model(cloud.z[keep], cloud.pos[keep]).squeeze()


def test_atoms_are_scored_as_plain_pytorch_scores_them(model: SchNet, clouds: list[Data]) -> None:
    ablated = gx.explain(model, clouds, gx.NodeAblation(), task=TASK, progress=False)
    moved = gx.explain(model, Batch.from_data_list(clouds), POSITIONS, task=TASK, progress=False)
    for cloud, drop, gradient in zip(clouds, ablated, moved, strict=True):
        size = len(cloud.z)
        if size > 1:
            with torch.no_grad():
                left = [energy(model, cloud, torch.arange(size) != atom) for atom in range(size)]
                expected = energy(model, cloud) - torch.stack(left)
            torch.testing.assert_close(drop.node_mask.flatten(), expected, atol=1e-5, rtol=1e-4)
        pos = cloud.pos.clone().requires_grad_()
        (expected,) = torch.autograd.grad(model(cloud.z, pos).sum(), pos)
        torch.testing.assert_close(gradient.columns["pos"], expected, atol=1e-5, rtol=1e-4)


def test_elements_add_up(model: SchNet, clouds: list[Data]) -> None:
    for e in gx.explain(model, clouds, ELEMENTS, task=TASK, progress=False):
        total = float(e.extras["base_value"] + e.columns["z"].sum())
        assert total == pytest.approx(float(e.prediction), abs=0.01)


def test_edge_masks_of_a_graph_in_the_model_are_refused(model: SchNet, clouds: list[Data]) -> None:
    with pytest.raises(MaskingError, match="it runs on another graph"):
        gx.explain(model, clouds, "saliency", task=TASK, progress=False)
    with pytest.raises(InputError, match="expected data with edge_index or adj_t, got attributes"):
        gx.explain(model, Data(z=torch.tensor([6]), num_nodes=1), gx.NodeAblation(), task=TASK, progress=False)


# From an SDF #########################################################################################################


@pytest.fixture(scope="module")
def sdf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Alanine with hydrogens before some of its other atoms, and methanol of which one hydrogen is missing."""
    Chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem.rdDistGeom import EmbedMolecule

    path = tmp_path_factory.mktemp("space") / "two.sdf"
    with Chem.SDWriter(str(path)) as writer:
        for smiles, name in (("C[C@H](N)C(=O)O", "alanine"), ("CO", "methanol")):
            mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
            EmbedMolecule(mol, randomSeed=1)
            mol = Chem.RenumberAtoms(mol, list(range(mol.GetNumAtoms()))[::-1])
            if name == "methanol":
                out = Chem.RWMol(mol)
                out.RemoveAtom(0)
                mol = out.GetMol()
            mol.SetProp("_Name", name)
            writer.write(mol)
    return path


def test_hydrogens_of_an_sdf_keep_their_places(sdf: Path, model: SchNet) -> None:
    from rdkit import Chem

    mols = gx.molecules.read(sdf, model)
    assert mols.featurizer == "space"
    assert gx.molecules.read(sdf, "one_hot", hydrogens=True)[0].num_nodes == mols[0].num_nodes
    alanine, methanol = mols
    stored = next(iter(Chem.SDMolSupplier(str(sdf), removeHs=False)))
    assert alanine.num_nodes == stored.GetNumAtoms() == 13
    assert sorted(alanine.file_atom.tolist()) == list(range(13))
    places = torch.tensor(stored.GetConformer().GetPositions()).float()
    torch.testing.assert_close(alanine.pos, places[alanine.file_atom])
    numbers = torch.tensor([atom.GetAtomicNum() for atom in stored.GetAtoms()])
    assert torch.equal(alanine.z, numbers[alanine.file_atom])
    bonded = {frozenset((b.GetBeginAtomIdx(), b.GetEndAtomIdx())) for b in stored.GetBonds()}
    assert {frozenset(alanine.file_atom[pair].tolist()) for pair in alanine.edge_index.t()} == bonded
    assert methanol.num_nodes == 6
    assert methanol.file_atom.max() == 5, "the hydrogen that the file lacks has the number after its last"
    assert torch.cdist(methanol.pos, methanol.pos).fill_diagonal_(9).min() > 0.9


def test_from_an_sdf_to_tables_pictures_and_files(sdf: Path, model: SchNet, tmp_path: Path) -> None:
    mols = gx.molecules.read(sdf, model)
    atoms = gx.explain(model, mols, gx.NodeAblation(), task=TASK, progress=False)
    e = gx.explain(model, mols, POSITIONS, task=TASK, progress=False)[0]
    assert atoms[0].atoms["attribution"].tolist() == pytest.approx(atoms[0].node_mask.flatten().tolist())
    assert e.atoms["attribution"].tolist() == pytest.approx(e.columns["pos"].norm(dim=1).tolist())
    both = gx.explain(
        model,
        mols,
        gx.InputXGradient(node_mask_type=None, edge_mask_type=None, columns=["z", "pos"]),
        task=TASK,
        progress=False,
    )[0]
    assert both.atoms["attribution"].tolist() == pytest.approx(both.columns["z"].flatten().tolist())
    assert both.atoms["pos"].tolist() == pytest.approx(both.columns["pos"].norm(dim=1).tolist())
    parts = gx.molecules.sum_of(gx.explain(model, mols, ELEMENTS, task=TASK, progress=False)[0])
    assert parts is not None
    assert abs(parts.error) < 0.01
    gx.molecules.grid([*atoms, e])
    gx.molecules.write(atoms, tmp_path / "out.sdf")
    again = gx.molecules.read(tmp_path / "out.sdf", "space")
    torch.testing.assert_close(again[0].pos, mols[0].pos, atol=1e-3, rtol=0)


@pytest.mark.parametrize("hydrogens", [None, False])
def test_drawings_in_a_file_get_places_in_space(tmp_path: Path, hydrogens: bool | None) -> None:
    Chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem.rdDepictor import Compute2DCoords

    mol = Chem.MolFromSmiles("CCO")
    Compute2DCoords(mol)
    path = tmp_path / "drawn.sdf"
    with Chem.SDWriter(str(path)) as writer:
        writer.write(mol)
    (drawn,) = gx.molecules.read(path, "space", hydrogens=hydrogens)
    torch.testing.assert_close(drawn.pos, gx.molecules.from_smiles("CCO", "space")[0].pos)


def test_smiles_get_places(model: SchNet) -> None:
    pytest.importorskip("rdkit")
    one, other = (gx.molecules.from_smiles("CCO", model)[0] for _ in range(2))
    assert one.num_nodes == 9
    assert torch.equal(one.pos, other.pos)
    lower = gx.molecules.counterfactuals(model, one, task=TASK, change=-1e-3, max_edits=1, limit=1)
    assert len(lower) == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hydrogens": True, "neutralize": True}, "expected strip_salts and neutralize without hydrogens as nodes"),
        ({"neutralize": True}, "pass hydrogens=False"),
    ],
)
def test_changed_molecules_have_no_hydrogens_of_the_file(sdf: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        gx.molecules.read(sdf, "space", **settings)
    assert gx.molecules.read(sdf, "space", **{**settings, "hydrogens": False})[0].num_nodes == 13


def test_hydrogens_are_for_molfiles(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    path = tmp_path / "one.smi"
    path.write_text("CCO")
    with pytest.raises(InputError, match="expected hydrogens= for molfiles alone"):
        gx.molecules.read(path, "pyg", hydrogens=True)


# Views ###############################################################################################################


def test_a_scene_has_the_places_of_the_data_and_the_colours_of_pictures(sdf: Path, model: SchNet) -> None:
    from rdkit import Chem

    from gnn_xai.molecules.space import scene_of

    mols = gx.molecules.read(sdf, model)
    e = gx.explain(model, mols, gx.NodeAblation(), task=TASK, progress=False)[0]
    scene = scene_of(e)
    mol = Chem.MolFromMolBlock(scene.molfile, removeHs=False)
    torch.testing.assert_close(torch.tensor(mol.GetConformer().GetPositions()).float(), mols[0].pos, atol=1e-3, rtol=0)
    scores = e.node_mask.flatten()
    strongest = int(scores.abs().argmax())
    assert scene.radii[strongest] == max(scene.radii) > scene.radii[int(scores.abs().argmin())]
    reddish = int(scene.colors[strongest][1:3], 16) > int(scene.colors[strongest][5:], 16)
    assert reddish == bool(scores[strongest] > 0)
    assert set(scene_of(e, limit=1e9).colors) == {"#ffffff"}


def test_a_view_shows_every_atom(sdf: Path, model: SchNet) -> None:
    pytest.importorskip("py3Dmol")
    mols = gx.molecules.read(sdf, model)
    e = gx.explain(model, mols, gx.NodeAblation(), task=TASK, progress=False)[0]
    page = gx.molecules.view(e).write_html()
    assert page.count("setStyle(") == 13
    assert json.dumps({"index": 12}) in page


def test_without_py3dmol_the_message_says_what_to_install(
    sdf: Path, model: SchNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "py3Dmol", None)
    e = gx.explain(model, gx.molecules.read(sdf, model), gx.NodeAblation(), task=TASK, progress=False)[0]
    with pytest.raises(GnnXaiError, match=r"views in space need py3Dmol, .*pip install gnn-xai\[space\]"):
        gx.molecules.view(e)


def test_the_page_holds_the_viewer_and_allows_its_scripts_alone(sdf: Path, model: SchNet, tmp_path: Path) -> None:
    import base64
    import hashlib
    import html
    import re

    from gnn_xai.report.molecules import write_molecules

    mols = gx.molecules.read(sdf, model)
    explanations = gx.explain(model, mols, gx.NodeAblation(), task=TASK, progress=False)
    library = tmp_path / "3Dmol-min.js"
    library.write_text('var $3Dmol = {createViewer: (a, b) => "<" + a};', encoding="utf-8")
    write_molecules(tmp_path, mols, explanations, title="two", viewer=library)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert scripts[0] == library.read_text(encoding="utf-8")
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    policy = re.search(r"Content-Security-Policy\" content=\"([^\"]*)", page)
    assert policy is not None
    assert re.findall("sha256-([^']*)", policy[1]) == hashes
    scenes = [json.loads(html.unescape(text)) for text in re.findall(r'data-scene="([^"]*)"', page)]
    assert [len(scene["styles"]) for scene in scenes] == [13, 6]
    write_molecules(tmp_path, mols, explanations, title="two")
    assert "<script" not in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_molecule_whose_bonds_alone_are_scored_has_no_button(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    from gnn_xai.report.molecules import write_molecules

    logp = gx.datasets.load("nci_logp")
    mols = gx.molecules.from_smiles("CCO", logp.model)
    of_bonds = gx.IntegratedGradients(node_mask_type=None, columns="edge_attr")
    explanations = gx.explain(logp.model, mols, of_bonds, task=logp.task, progress=False)
    library = tmp_path / "3Dmol-min.js"
    library.write_text("createViewer", encoding="utf-8")
    write_molecules(tmp_path, mols, explanations, title="one", viewer=library)
    assert 'data-scene="' not in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot read the viewer in"),
        ("var a;", "to be 3Dmol-min.js, got a file without createViewer"),
        ("createViewer</SCRIPT>", "expected a script without '</script'"),
    ],
)
def test_another_file_is_no_viewer(tmp_path: Path, text: str | None, words: str) -> None:
    from gnn_xai.report.scripts import viewer_scripts

    path = tmp_path / "viewer.js"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        viewer_scripts(path)
