"""Output of the benchmarks: Markdown tables and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import LABELS
from gnn_xai.metrics import Result

SPEED = (
    "workload",
    "instances",
    "gnn_xai, ms each (range)",
    "each second",
    "peer",
    "peer, ms each (range)",
    "ratio (range)",
    "edges, gnn_xai / peer",
    "peak MB, gnn_xai / peer",
)
QUALITY = ("workload", "peer", "measure", "gnn_xai", "peer's", "instances")
CPU = ("row", "what", "side", "CPU ms (range)", "of the first side's (range)")
BYTES = ("workload", "MB an epoch", "epochs", "GB/s", "of the copy bandwidth")
SHORT = {"edge ROC-AUC": "AUC", "edge fidelity+": "fid+", "edge fidelity−": "fid−"}


def facts(of: dict[str, Any]) -> str:
    """A line of names and values."""
    return ", ".join(f"{name} {value}" for name, value in of.items())


def line(cells: Sequence[Any]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def head(columns: Sequence[str]) -> str:
    """The first two rows of a Markdown table."""
    return f"{line(columns)}\n|{'---|' * len(columns)}"


def figures(results: Sequence[Result]) -> dict[str, dict[str, float | None]]:
    """Mean, standard error and number of instances of each metric, by name; `None` for undefined numbers."""

    def number(value: float) -> float | None:
        return None if math.isnan(value) else value

    return {r.name: {"mean": number(r.mean), "stderr": number(r.stderr), "n": r.count} for r in results}


def plus_minus(figure: dict[str, float | None]) -> str:
    """A mean with its standard error."""
    return f"{_decimals(figure['mean'], 3)} ± {_decimals(figure['stderr'], 3)}"


def _decimals(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")


# Speed ###############################################################################################################


def speed_lines(row: dict[str, Any]) -> list[str]:
    """Rows of the table, one per peer; the first also shows our numbers."""
    ours = [
        f"`{row['name']}`: {row['title']}",
        row["instances"],
        _spread(row["ms"]),
        f"{1000 / row['ms']['median']:,.0f}",
    ]
    lines = []
    for name, peer in row["peers"].items():
        if "skipped" in peer:
            cells = [LABELS[name], peer["skipped"], "", "", _megabytes(row, None)]
        else:
            off = peer["deviation"]
            cells = [
                LABELS[name] + (f" (explains an output that is off by {off:.2g})" if off > 1e-3 else ""),
                _spread(peer["ms"]),
                _spread(peer["ratio"], "×"),
                ", ".join(
                    f"{SHORT[measure]} {_decimals(sides['gnn_xai']['mean'], 2)} / {_decimals(sides['peer']['mean'], 2)}"
                    for measure, sides in peer["quality"].items()
                    if measure in SHORT
                ),
                _megabytes(row, peer),
            ]
        lines.append(line([*ours, *cells]))
        ours = [""] * len(ours)
    return lines


def _spread(values: dict[str, float], unit: str = "") -> str:
    """Median and range, with three digits."""

    def number(value: float) -> str:
        return f"{value:,.0f}" if value >= 99.5 else f"{value:#.3g}"

    return f"{number(values['median'])}{unit} ({number(values['min'])}–{number(values['max'])})"


def _megabytes(row: dict[str, Any], peer: dict[str, Any] | None) -> str:
    sides = [row["peak MB"], *([] if peer is None else [peer["peak MB"]])]
    return " / ".join(f"{value:,.{int(value < 10)}f}" for value in sides)


def quality_lines(row: dict[str, Any]) -> list[str]:
    """Every metric for both sides, on the instances that the peer explained."""
    return [
        line(
            [
                f"`{row['name']}`",
                LABELS[name],
                measure,
                plus_minus(sides["gnn_xai"]),
                plus_minus(sides["peer"]),
                sides["peer"]["n"],
            ]
        )
        for name, peer in row["peers"].items()
        for measure, sides in peer.get("quality", {}).items()
    ]


def cpu_lines(row: dict[str, Any]) -> list[str]:
    """Rows of the table of CPU times, one per side."""
    cells = [f"`{row['name']}`", row["title"]]
    lines = []
    for side, times in row["ms"].items():
        ratio = _spread(row["ratio"][side], "×") if side in row["ratio"] else ""
        lines.append(line([*cells, side, _spread(times), ratio]))
        cells = ["", ""]
    return lines


def bytes_lines(row: dict[str, Any]) -> list[str]:
    """Bytes that an epoch must move, and the rate; nothing if no masks are learned."""
    if "bytes" not in row:
        return []
    moved = row["bytes"]
    return [
        line(
            [
                f"`{row['name']}`",
                f"{moved['an epoch'] / 1e6:,.2f}",
                moved["epochs"],
                f"{moved['a second'] / 1e9:.2f}",
                f"{moved['share']:.1%}",
            ]
        )
    ]


def speed_page(found: dict[str, Any]) -> str:
    """A whole run as Markdown."""
    rows = found["rows"]
    parts = [
        facts(found["machine"]),
        "\n".join([head(SPEED), *(text for row in rows for text in speed_lines(row))]),
        "\n".join([head(QUALITY), *(text for row in rows for text in quality_lines(row))]),
        "\n".join([head(BYTES), *(text for row in rows for text in bytes_lines(row))]),
        "\n".join([head(CPU), *(text for row in found["cpu"] for text in cpu_lines(row))]),
        f"Copy bandwidth: {found['copy bandwidth'] / 1e9:.1f} GB/s read and written.",
        *(f"Left out: {name}, because {why}" for name, why in found["left out"].items()),
    ]
    if found["scaling"]:
        parts.append("![Explanations per second against number of targets](scaling.png)")
    return "\n\n".join(parts) + "\n"
