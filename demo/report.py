"""The demonstration's page: one file, plots inline, nothing loaded from the network."""

from __future__ import annotations

import io
from pathlib import Path

import jinja2
import matplotlib as mpl
from matplotlib.figure import Figure

from demo.data import Answered, Ranked
from fairpos.audit.audit import Audit
from fairpos.audit.page import accuracy_plot
from fairpos.audit.plots import COLOURS
from fairpos.audit.recipe import Recipe

_COLOURS = ("#d1603d", "#2f7f79")  # one order, five views; legible on white and on near-black


def write_report(path: Path, model: str, ranked: Ranked, audit: Audit, answered: Answered) -> None:
    """Writes the page.

    Args:
        path: The HTML file.
        model: What the model is called.
        ranked: Part (a).
        audit: Part (b).
        answered: Part (c).
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    rows = [
        {
            "first": answered.question.passages[shift].title,
            "cells": [
                {
                    "text": texts[shift],
                    "changed": texts[shift] != texts[0],
                    "correct": answered.question.correct(texts[shift]),
                }
                for texts in answered.texts.values()
            ],
        }
        for shift in range(len(answered.question.passages))
    ]
    page = environment.get_template("report.html.jinja").render(
        model=model,
        count=len(ranked.one_order),
        one_order=sum(ranked.one_order) / len(ranked.one_order),
        five_views=sum(ranked.five_views) / len(ranked.one_order),
        plot=accuracy_by_position(ranked),
        audit=audit,
        recipe=Recipe(audit),
        audit_plot=accuracy_plot(audit),
        colours=COLOURS,
        roles=answered.roles,
        question=answered.question,
        different={methods: len(set(texts)) for methods, texts in answered.texts.items()},
        rows=rows,
    )
    path.write_text(page, encoding="utf-8")


def accuracy_by_position(ranked: Ranked) -> str:
    """Top-1 accuracy by the position of the gold passage, as SVG."""
    n = 5
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fairpos", "font.family": "sans-serif"}):
        figure = Figure(figsize=(7, 3.2), layout="constrained")
        axes = figure.subplots()
        for k, (name, right) in enumerate(
            (("one order", ranked.one_order), ("five cyclic views, averaged", ranked.five_views))
        ):
            heights = [share or 0.0 for share in ranked.by_position(right)]
            bars = axes.bar([i + (k - 0.5) * 0.38 for i in range(n)], heights, 0.36, label=name, color=_COLOURS[k])
            axes.bar_label(bars, fmt="%.2f", fontsize=8, color="#808080")
        axes.axhline(1 / n, color="#808080", linewidth=0.8, linestyle=":")
        axes.text(1.01, 1 / n, "chance", transform=axes.get_yaxis_transform(), va="center", fontsize=8)
        axes.set_xticks(range(n), [f"{i + 1}." for i in range(n)])
        axes.set_xlabel("position of the passage that holds the answer")
        axes.set_ylabel("top-1 accuracy")
        axes.set_ylim(0, 1.05)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
        figure.patch.set_alpha(0)
        axes.patch.set_alpha(0)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    svg = drawn.getvalue()
    # Text and axes take the page's own colour, so that one drawing serves light and dark.
    return svg[svg.index("<svg") :].replace("#000000", "currentColor").replace("#808080", "currentColor")
