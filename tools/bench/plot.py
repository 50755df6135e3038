"""Draws what `tools.bench.recall --json` measured, as docs/benchmarks shows it.

    python -m tools.bench.plot --out recall.svg default.json [quality.json …]

A panel for each group of questions, a row for each way to ask, a colour for each embedder: the mean
of recall@10 and its 95 % interval. Needs `pip install matplotlib`.
"""

from __future__ import annotations

import argparse
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

COLOURS: Final = ("#4269d0", "#ff725c", "#3ca951")
APART: Final = 0.22
"""Between two embedders, of the height of a row."""


def draw(reports: list[dict[str, Any]], out: Path) -> None:
    import matplotlib  # type: ignore[import-not-found]

    matplotlib.use("Agg")
    # The same figures give the same file, byte for byte.
    matplotlib.rcParams.update({"svg.hashsalt": "engram", "font.family": "sans-serif"})
    from matplotlib import pyplot

    groups = list(dict.fromkeys(row["group"] for row in reports[0]["rows"]))
    ways = list(dict.fromkeys(row["way"] for row in reports[0]["rows"]))
    figure, panels = pyplot.subplots(
        1, len(groups), figsize=(4 * len(groups), 0.5 * len(ways) + 1.4), sharey=True, squeeze=False
    )
    for group, panel in zip(groups, panels[0], strict=True):
        for number, report in enumerate(reports):
            rows = [row for row in report["rows"] if row["group"] == group]
            means = [row["recall@10"] for row in rows]
            reach = [
                [mean - row["interval"][0] for mean, row in zip(means, rows, strict=True)],
                [row["interval"][1] - mean for mean, row in zip(means, rows, strict=True)],
            ]
            shift = APART * (number - (len(reports) - 1) / 2)
            panel.errorbar(
                means,
                [ways.index(row["way"]) + shift for row in rows],
                xerr=reach,
                fmt="o",
                markersize=5,
                capsize=2,
                color=COLOURS[number % len(COLOURS)],
                label=report["embedding"],
            )
        questions = next(row["questions"] for row in reports[0]["rows"] if row["group"] == group)
        panel.set_title(f"{group} ({questions} questions)", fontsize=10)
        panel.set_xlabel("recall@10")
        panel.grid(axis="x", color="#dddddd", linewidth=0.8)
        panel.set_axisbelow(True)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    panels[0][0].set_yticks(range(len(ways)), ways)
    panels[0][0].invert_yaxis()
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(reports), frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("reports", nargs="+", type=Path, help="what tools.bench.recall printed")
    parser.add_argument("--out", type=Path, required=True, help="the picture: .svg or .png")
    args = parser.parse_args()
    if find_spec("matplotlib") is None:
        parser.error("matplotlib is not installed; `pip install matplotlib` adds it")
    try:
        reports = [json.loads(path.read_text(encoding="utf-8")) for path in args.reports]
        draw(reports, args.out)
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"it cannot be drawn: {error!r}") from error


if __name__ == "__main__":
    main()
