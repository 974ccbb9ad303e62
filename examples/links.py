"""Train a link predictor on the Southern Women, explain the absences that surprise it most, and draw one."""

import argparse
from pathlib import Path

import torch
from torch_geometric.data import Data
from torch_geometric.nn import GCN

import gnn_xai as gx


def link(model, data):
    """One logit for each pair: the dot product of its two nodes."""
    z = model(data.x, data.edge_index)
    return (z[data.edge_label_index[0]] * z[data.edge_label_index[1]]).sum(1)


def main(out: Path) -> None:
    """Who was expected at which event, and because of whom?"""
    out.mkdir(parents=True, exist_ok=True)
    ds = gx.datasets.load("southern_women")
    names = [*ds.node_names["woman"], *ds.node_names["event"]]
    edges = ds.data.to_homogeneous().edge_index  # one type of nodes: 18 women, then 14 events
    pairs = torch.cartesian_prod(torch.arange(18), torch.arange(18, 32)).t()  # every woman with every event
    data = Data(x=torch.eye(32), edge_index=edges, edge_label_index=pairs)
    attended = torch.zeros(32, 32).index_put(tuple(edges), torch.ones(()))[tuple(pairs)]
    torch.manual_seed(0)
    model = GCN(32, hidden_channels=16, num_layers=2, out_channels=16)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        logits = link(model, data)
        torch.nn.functional.binary_cross_entropy_with_logits(logits, attended).backward()
        optimizer.step()

    surprising = logits.detach().masked_fill(attended == 1, -torch.inf).topk(4).indices
    options = {"task": "edge", "forward": link, "progress": False}
    explanations = gx.explain(model.eval(), data, "edge_ablation", index=surprising, **options)
    for e in explanations:
        strongest = ", ".join(f"{names[u]} at {names[v]} {score:+.1f}" for u, v, score in e.top_edges(3))
        print(f"{names[e.index[0]]} at {names[e.index[1]]}: {strongest}")
    explanations[0].draw(node_labels=names, top=20).figure.savefig(out / "link.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/examples/links"))
    main(parser.parse_args().out)
