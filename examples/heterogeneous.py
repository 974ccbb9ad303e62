"""Train a GraphSAGE on the Southern Women, a heterogeneous graph, explain every woman, and draw four of them."""

import argparse
from pathlib import Path

import torch
from torch_geometric.nn import SAGEConv, to_hetero

import gnn_xai as gx
from gnn_xai import viz


class SAGE(torch.nn.Module):
    """Two layers of GraphSAGE, written for one type of nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = SAGEConv((-1, -1), 16), SAGEConv((-1, -1), 2)

    def forward(self, x, edge_index):
        """Two logits for each node."""
        return self.second(self.first(x, edge_index).relu(), edge_index)


def main(out: Path) -> None:
    """Which events put a woman into her group?"""
    out.mkdir(parents=True, exist_ok=True)
    ds = gx.datasets.load("southern_women")  # 18 women and the 14 events that they attended
    torch.manual_seed(0)
    data, train, names = ds.data, ds.split["train"], ds.node_names
    model = to_hetero(SAGE(), data.metadata())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        logits = model(data.x_dict, data.edge_index_dict)["woman"]
        torch.nn.functional.cross_entropy(logits[train], data["woman"].y[train]).backward()
        optimizer.step()

    algorithm = gx.IntegratedGradients(edge_mask_type=None)
    explanations = gx.explain(model.eval(), data, algorithm, node_type="woman", progress=False)
    for e in explanations:
        strongest = ", ".join(f"{names[kind][node]} {score:+.2f}" for (kind, node), score in e.top_nodes(4))
        print(f"{names['woman'][e.index]}, {ds.class_names[e.target]}: {strongest}")
    viz.grid(explanations[[0, 7, 13, 17]], columns=2, top=9, node_labels=names).savefig(out / "women.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/examples/heterogeneous"))
    main(parser.parse_args().out)
