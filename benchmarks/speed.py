"""Speed beside the peers: the same checkpoint, the same instances, the same steps, in one process, in turns.

    python -m benchmarks.speed [--rows ba_shapes cora_object ...] [--rounds 5] [--quick] [--device cuda]
                               [--threads 2] [--against CHECKOUT] [--out out/bench]

A peer explains one instance at a time. In each round it does a share of the instances, drawn so that small and large
computation graphs are as frequent as among all, and then gnn_xai does all of them; the ratio is that of the times per
instance, round by round. Everything was called once before. `PyG` is its Explainer as documented, on the whole graph;
`PyG on a subgraph` is what a user gets who first cuts out as many hops as the model sees.

Quality stands beside it, both sides on the instances that the peer explained: ROC-AUC where the true edges are known,
else fidelity+ (higher is better) and fidelity− (lower is better) of the five strongest edges, and of the five strongest
elements of the node mask; on Amazon Photo of the strongest tenth. Peak memory is above that of imports, model and data,
in a process of its own: for gnn_xai all instances in one call, for a peer the largest one alone.

The bytes that an epoch must move are counted by `benchmarks.measure.bytes_per_epoch`; they are held against the whole
call, with what comes before and after the epochs, and against copying a large tensor. What fits into a cache can be
moved faster than that.

A second table is in CPU time, see `benchmarks.cpu`: one target alone, molecules that were prepared once, and `gx.compare`,
with `--against` beside that of another checkout.

With `--device cuda`, all nodes of a graph are explained and everything runs on that device, the peers too; there is no
second table.
"""

from __future__ import annotations

import argparse
import pickle
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import gnn_xai as gx
from benchmarks import cpu, report
from benchmarks.measure import (
    bytes_per_epoch,
    copy_bandwidth,
    in_own_process,
    machine,
    peak,
    seconds,
    shares,
    sizes,
    spread,
)
from benchmarks.peers import EXACT, PEERS, Peer, as_explanations, in_play, missing
from benchmarks.plot import plot_rates
from benchmarks.workloads import SEED, WORKLOADS, MissingError, Workload, build
from gnn_xai.metrics import Result

SCALING = ("ba_shapes", "cora_object")  # the panels of the plot
COUNTS = (1, 3, 10, 30, 100, 300, 1000, 3000)
ONE_BY_ONE = 10  # up to which peers are run; further out their rate stays what it is


class Turns(NamedTuple):
    """Measurements of all rounds.

    Attributes:
        ms: for `gnn_xai` and each peer, milliseconds per instance in each round.
        ours: our explanations of all instances.
        positions: for each peer, the instances that it explained.
        masks: for each peer, its masks of these.
        deviation: for each peer, the largest difference between the output that it explained and ours.
    """

    ms: dict[str, list[float]]
    ours: gx.Explanations
    positions: dict[str, list[int]]
    masks: dict[str, list[tuple[Tensor, Tensor | None]]]
    deviation: dict[str, float]


def in_turns(workload: Workload, peers: dict[str, Peer], rounds: int, device: str = "cpu") -> Turns:
    """In each round every peer explains its share of the instances, and then gnn_xai all of them."""
    torch.manual_seed(SEED)
    ours = workload.explain()
    for peer in peers.values():
        peer(int(workload.index[0]))
    plan = {name: shares(sizes(ours), workload.peers[name], rounds) for name in peers}
    turns = Turns(
        {name: [] for name in ("gnn_xai", *peers)},
        ours,
        {name: torch.cat(parts).tolist() for name, parts in plan.items()},
        {name: [] for name in peers},
        dict.fromkeys(peers, 0.0),
    )
    for number in range(rounds):
        for name, peer in peers.items():
            positions = plan[name][number].tolist()
            share = workload.index[positions].tolist()
            time, found = seconds(lambda peer=peer, share=share: [peer(i) for i in share], device)
            turns.ms[name].append(1000 * time / len(share))
            for one, position in zip(found, positions, strict=True):
                turns.masks[name].append(in_play(one, ours[position]))
                off = float((one.prediction.to(ours.index.device) - ours.prediction[position]).abs().max())
                turns.deviation[name] = max(turns.deviation[name], off)
        time, _ = seconds(workload.explain, device)
        turns.ms["gnn_xai"].append(1000 * time / len(workload.index))
    return turns


def measure(workload: Workload, rounds: int, bandwidth: float, device: str = "cpu") -> dict[str, Any]:
    """Measure one workload: times, quality and memory of gnn_xai and of its peers."""
    absent = {name: why for name in workload.peers if (why := missing(name))}
    peers = {name: PEERS[name](workload) for name in workload.peers if name not in absent}
    turns = in_turns(workload, peers, rounds, device)
    off = {name: turns.deviation[name] for name in EXACT & set(peers) if turns.deviation[name] > 1e-3}
    if off:
        raise RuntimeError(f"{workload.name}: a peer explains another output than ours, off by {off}")
    row = {
        "name": workload.name,
        "title": workload.title,
        "instances": len(workload.index),
        "explains": turns.ours.algorithm,
        "accuracy": workload.accuracy,
        "checkpoint": workload.checkpoint(),
        "ms": spread(turns.ms["gnn_xai"]),
        "peak MB": memory(workload, None, 0, device),
        "peers": {name: {"skipped": why} for name, why in absent.items()},
    }
    if workload.layers:
        moved, epochs = bytes_per_epoch(workload, turns.ours), workload.algorithm.epochs
        rate = moved * epochs / (row["ms"]["median"] * len(workload.index) / 1000)
        row["bytes"] = {"an epoch": moved, "epochs": epochs, "a second": rate, "share": rate / bandwidth}
    largest = int(workload.index[int(sizes(turns.ours).argmax())])
    for name in peers:
        same = turns.ours[turns.positions[name]]
        sides = {"gnn_xai": same, "peer": as_explanations(turns.masks[name], same)}
        found = {side: report.figures(quality(workload, explanations)) for side, explanations in sides.items()}
        row["peers"][name] = {
            "ms": spread(turns.ms[name]),
            "ratio": spread([a / b for a, b in zip(turns.ms[name], turns.ms["gnn_xai"], strict=True)]),
            "instances": len(same),
            "deviation": turns.deviation[name],
            "quality": {measure: {side: found[side][measure] for side in sides} for measure in found["gnn_xai"]},
            "peak MB": memory(workload, name, largest, device),
        }
    return row


def quality(workload: Workload, explanations: gx.Explanations) -> list[Result]:
    """Agreement with the truth if it is known, else fidelity; for edges and for nodes."""
    levels = ["edge"]
    if explanations.node_mask is not None:
        levels.append("node")
    results = []
    for level in levels:
        if workload.truth is None:
            found = gx.metrics.fidelity(workload.model, workload.data, explanations, top=workload.top, level=level)
            results += [replace(one, name=f"{level} {one.name}") for one in (found.plus, found.minus)]
        elif level == "edge" or explanations.node_mask_type != "common_attributes":
            results.append(gx.metrics.roc_auc(explanations.to("cpu"), workload.truth, level))
    return results


def memory(workload: Workload, peer: str | None, i: int, device: str) -> float:
    """Peak memory in MB: ours for all instances (`peer=None`), or a peer's for instance `i`."""
    return in_own_process(_memory, pickle.dumps(workload), peer, i, torch.get_num_threads(), device)


def _memory(pickled: bytes, peer: str | None, i: int, threads: int, device: str) -> float:
    torch.set_num_threads(threads)
    workload = pickle.loads(pickled)
    del pickled

    def run(workload: Workload, i: int) -> object:
        return workload.explain() if peer is None else PEERS[peer](workload)(i)

    smallest = workload.smallest()
    run(smallest, int(smallest.index[0]))
    return peak(lambda: run(workload, i), device)


def scaling(workload: Workload, repeats: int, device: str = "cpu") -> dict[str, Any]:
    """Explanations per second by number of targets, of gnn_xai and of PyG; the best of some repetitions."""
    index = workload.index
    most = [count for count in COUNTS if count < len(index)] + [len(index)]
    rates: dict[str, dict[int, float]] = {}

    def best(job: Any, count: int) -> float:
        return count / min(seconds(job, device)[0] for _ in range(repeats))

    rates["gnn_xai"] = {count: best(lambda count=count: workload.explain(index[:count]), count) for count in most}
    for name in ("pyg", "pyg_subgraph"):
        peer = PEERS[name](workload)
        rates[name] = {
            count: count / seconds(lambda peer=peer, count=count: [peer(i) for i in index[:count].tolist()], device)[0]
            for count in most
            if count <= ONE_BY_ONE
        }
    return {"title": workload.title, "rates": rates}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print each row when it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*WORKLOADS, *cpu.ROWS]
    parser.add_argument("--rows", nargs="+", default=names, choices=names, metavar="ROW", help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few instances and steps: does everything run?")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--against", type=Path, help="another checkout, whose gx.compare runs in turns with this one's")
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    options = parser.parse_args(arguments)
    if options.device != "cpu" and not torch.cuda.is_available():
        sys.exit(f"--device {options.device}: PyTorch finds no CUDA device here")
    if options.threads:
        torch.set_num_threads(options.threads)
    found: dict[str, Any] = {
        "machine": machine(options.device),
        "copy bandwidth": copy_bandwidth(options.device),
        "rows": [],
        "cpu": [],
        "scaling": {},
        "left out": {},
    }
    report.write_json(options.out / "speed.json", found)
    print(report.facts(found["machine"]), report.head(report.SPEED), sep="\n\n", flush=True)
    for name in (name for name in options.rows if name in WORKLOADS):
        try:
            workload = build(name, options.device, options.quick)
        except MissingError as error:
            found["left out"][name] = str(error)
            continue
        row = measure(workload, options.rounds, found["copy bandwidth"], options.device)
        print("\n".join(report.speed_lines(row)), flush=True)
        found["rows"].append(row)
        if name in SCALING:
            found["scaling"][name] = scaling(workload, 1 if options.quick else 3, options.device)
            plot_rates(found["scaling"], options.out / "scaling.png")
        report.write_json(options.out / "speed.json", found)
    settings = cpu.Options(options.rounds, options.quick, options.against)
    for name in (name for name in options.rows if name in cpu.ROWS and options.device == "cpu"):
        try:
            for row in cpu.measure(name, settings):
                print("\n".join(report.cpu_lines(row)), flush=True)
                found["cpu"].append(row)
        except MissingError as error:
            found["left out"][name] = str(error)
        report.write_json(options.out / "speed.json", found)
    page = report.speed_page(found)
    (options.out / "speed.md").write_text(page, encoding="utf-8")
    print("", page.split("\n\n", 2)[2], sep="\n")


if __name__ == "__main__":
    main()
