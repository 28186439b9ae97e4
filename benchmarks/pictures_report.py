"""Tables and pictures of benchmarks/pictures_per_minute.py, from its rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from statistics import mode

import torch

from contestants import CONTESTANTS
from course_lib.data import to_float
from course_lib.viz import DPI, Figure, Png, figure_png, grid, styled
from distance_plot import Line, plot_distances
from judging import FEATURES_ID, GUIDANCE
from records import PACKAGES, Row, has, interval, intervals, made_on, rows_like, table

RECIPES = ("own", "ours")
#: The samplers that make the pictures of a row. The weights of an eighth of the time guide the last one.
WAYS = {
    "unclipped": "SDE-DPM-Solver++(2M)",
    "clipped": "DDPM, clipped",
    "guided": "SDE-DPM-Solver++(2M), autoguided",
}
#: Rows compare only if they agree in these, in their machine and in the feature network.
ALIKE = itemgetter("samples", "evaluations", "data", "seed", "threads")
#: Model, recipe, minutes.
Key = tuple[str, str, float]
Rows = dict[Key, Row]


def by_machine(path: Path) -> list[Rows]:
    """The last row of each model, recipe and budget: a dictionary for each machine, that of the last row first.

    A machine's rows with less usual numbers of samples are left out, and guided samples where not all rows have them.
    """
    found, judged = [], rows_like(path, features=FEATURES_ID)
    for machine in dict.fromkeys(row["machine"] for row in reversed(judged)):
        here = [row for row in judged if row["machine"] == machine]
        usual = mode(map(ALIKE, here))
        chosen = {(row["model"], row["recipe"], row["minutes"]): row for row in here if ALIKE(row) == usual}
        if not all(guided(row) for row in chosen.values()):
            chosen = {key: not_guided(row) for key, row in chosen.items()}
        order = [*CONTESTANTS]
        keys = sorted(chosen, key=lambda key: (order.index(key[0]), RECIPES.index(key[1]), key[2]))
        found.append({key: chosen[key] for key in keys})
    return found


def guided(row: Row) -> Row | None:
    """The distance of the guided samples; None if there are none, or if `AutoGuidance` guides otherwise by now."""
    kept = has(row, {"guidance": GUIDANCE}) and row["reports"].get("guided")
    return kept["frechet"] if kept else None


def not_guided(row: Row) -> Row:
    """The row without its guided samples."""
    return {**row, "reports": {way: report for way, report in row["reports"].items() if way != "guided"}}


def best_way(row: Row) -> str:
    """The sampler whose pictures are nearest to real ones."""
    return min(row["reports"], key=lambda way: row["reports"][way]["frechet"]["value"])


def nearest(row: Row) -> Row:
    """The distance of the best sampler's pictures."""
    distance: Row = row["reports"][best_way(row)]["frechet"]
    return distance


def shared(rows: Rows) -> Rows:
    """The rows of budgets that another network has too; our shorter trainings serve `picture_by_picture` alone."""
    budgets = {minutes for model, _, minutes in rows if model != "unet"}
    return {key: row for key, row in rows.items() if key[2] in budgets} if budgets else rows


def by_recipe(rows: Rows) -> dict[tuple[str, str], dict[float, Row]]:
    """Rows by minutes, for each model and recipe."""
    found: dict[tuple[str, str], dict[float, Row]] = {}
    for (model, recipe, minutes), row in rows.items():
        found.setdefault((model, recipe), {})[minutes] = row
    return found


def recipe_label(row: Row) -> str:
    """The recipe of a row in words, as "Adam 1e-3, batch 128, cosine, no EMA"."""
    if row["recipe"] == "ours":
        return "this course's"
    how = row["details"]
    rate = f"{how['lr']:.0e}".replace("e-0", "e-")
    schedule = {"squaredcos_cap_v2": "cosine"}.get(how["schedule"], how["schedule"])
    target = "" if how["target"] == "eps" else f", {how['target']}"
    average = f"EMA {how['ema']}" if how["ema"] else "no EMA"
    return f"{how['optimizer']} {rate}, batch {how['batch size']}, {schedule}{target}, {average}"


def names(row: Row) -> list[str]:
    """Model and recipe, the first two cells of a line."""
    return [CONTESTANTS[row["model"]].label, recipe_label(row)]


def in_picture(model: str, recipe: str, between: str) -> str:
    """Model and recipe for a picture."""
    return f"{CONTESTANTS[model].label}{between}{'our recipe' if recipe == 'ours' else 'its own recipe'}"


def distance_table(rows: Rows) -> str:
    """Distance of each model and recipe by minutes."""
    budgets, recipes = sorted({minutes for _, _, minutes in rows}), [*by_recipe(rows).values()]
    columns = [[nearest(found[each]) if each in found else None for found in recipes] for each in budgets]
    lines = []
    for found, cells in zip(recipes, zip(*intervals(columns), strict=True), strict=True):
        last = found[max(found)]
        lines.append([*names(last), f"{last['pictures_per_second']:.0f}", *cells])
    floor = {minutes: nearest(row)["floor"] for (_, _, minutes), row in rows.items()}
    lines.append(["*real pictures, held out*", "", "", *(f"*{floor[each]:.2f}*" for each in budgets)])
    return table(["model", "recipe", "pictures/s", *(f"after {each:g} min" for each in budgets)], lines)


def picture_by_picture(rows: Rows) -> tuple[str, str]:
    """The others' distance beside ours after no more pictures: heading and table, empty if nothing compares."""
    ours = [row for row in rows.values() if row["model"] == "unet"]
    lines = []
    for row in rows.values():
        earlier = [one for one in ours if one["pictures"] <= row["pictures"]]
        if row["model"] != "unet" and earlier:
            last = max(earlier, key=lambda one: one["pictures"])
            theirs, mine = ([f"{each['pictures']:,}", interval(nearest(each))] for each in (row, last))
            lines.append([*names(row), *theirs, *mine])
    title = "By pictures in place of minutes, beside our `UNet` after no more of them"
    head = ["model", "recipe", "pictures", "distance", "ours: pictures", "distance"]
    return title, table(head, lines) if lines else ""


def made_again(rows: Rows, judged: Sequence[Row]) -> tuple[str, str]:
    """What was trained or judged more than once, each time in a line: heading and table, empty if nothing was."""
    lines = []
    for row in rows.values():
        same = {key: row[key] for key in ("model", "recipe", "minutes", "details", "machine", "evaluations")}
        again = {(each["samples"], each["updates"]): each for each in judged if has(each, same)}
        for each in again.values() if len(again) > 1 else ():
            distance, by_guidance = nearest(not_guided(each)), guided(each)
            about = [f"{each['minutes']:g}", f"{each['pictures']:,}", f"{each['samples']:,}", interval(distance)]
            floor = f"{distance['floor']:.2f}"
            lines.append([*names(each), *about, interval(by_guidance) if by_guidance else "", floor])
    head = ["model", "recipe", "minutes", "pictures", "samples", "not guided", "guided", "real pictures, held out"]
    title = "Trained more than once (the last one counts), or judged by more samples"
    return title, table(head, lines) if lines else ""


def every_measure(rows: Rows) -> tuple[str, str]:
    """Every measure of every row: heading and table."""
    shares, lines = ("precision", "recall", "sure"), []
    for row in rows.values():
        label, recipe = names(row)
        for way, report in row["reports"].items():
            about = [label, recipe, WAYS[way], f"{row['minutes']:g}", f"{row['pictures']:,}", f"{row['updates']:,}"]
            cells = [interval(report["frechet"]), interval(report["kernel"], scale=1000, digits=1)]
            lines.append([*about, *cells, *(f"{report[name]['value']:.0%}" for name in shares)])
    real = [*rows.values()][-1]["reports"]["unclipped"]
    least = [f"{real['frechet']['floor']:.2f}", f"{1000 * real['kernel']['floor']:.1f}"]
    lines.append(["*real, held out*", *[""] * 5, *least, *(f"{real[name]['real']:.0%}" for name in shares)])
    head = ["model", "recipe", "sampler", "minutes", "pictures seen", "updates"]
    head += ["distance (95 %)", "kernel × 1000 (95 %)", *shares]
    return "Every measure", table(head, lines, words=3)


def strip_path(strips: Path, row: Row, way: str) -> Path:
    """The file of the first samples of a row: one for the guided, one for the best of the others."""
    machine = re.sub("[^a-z0-9]+", "-", row["machine"].lower())
    return strips / machine / f"{row['model']}_{row['recipe']}_{row['minutes']:g}{'_guided' * (way == 'guided')}.png"


def plot(rows: Rows) -> Figure:
    """Distance against minutes."""
    colors = dict(zip(CONTESTANTS, ("blue", "orange", "green", "purple"), strict=True))
    lines = []
    for (model, recipe), found in by_recipe(rows).items():
        distances, width = {minutes: nearest(row) for minutes, row in found.items()}, 2.4 if model == "unet" else 1.4
        lines.append(Line(in_picture(model, recipe, ", "), colors[model], recipe == "ours", distances, width))
    floor = nearest([*rows.values()][-1])["floor"]
    title = "Distance from real pictures against training time: lower is better"
    return plot_distances(lines, floor, "minutes of training", title)


@styled
def sample_cells(rows: Rows, strips: Path) -> Figure:
    """The first eight samples of every row: models and recipes below each other, minutes side by side."""
    lines, budgets = by_recipe(rows), sorted({minutes for _, _, minutes in rows})
    wide, high, margin, gap = 2 * (4 * 29 + 1), 2 * (2 * 29 + 1), 232, 28  # in pixels, two for each of a sample
    width, height = margin + len(budgets) * (wide + gap), len(lines) * (high + gap)
    figure = Figure(width / DPI, height / DPI)
    place = {"left": margin / width, "right": 1 - gap / width, "bottom": 0, "top": 1 - gap / height}
    places = figure.add_gridspec(len(lines), len(budgets), **place, wspace=gap / wide, hspace=gap / high)
    for down, ((model, recipe), found) in enumerate(lines.items()):
        for across, minutes in enumerate(budgets):
            axes = figure.add_subplot(places[down, across])
            axes.set_axis_off()
            if across == 0:
                axes.text(
                    -0.96 * margin / wide, 0.5, in_picture(model, recipe, "\n"), va="center", transform=axes.transAxes
                )
            if minutes in found:
                png = Png(strip_path(strips, found[minutes], best_way(found[minutes])).read_bytes())
                cells = to_float(torch.stack(png.pixels().split(28, 1))[:8, None])
                axes.imshow(grid(cells, columns=4), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                words = f"{minutes:g} minutes: distance {nearest(found[minutes])['value']:.1f}"
                axes.set_title(words, loc="left", fontsize=8.5)
    return figure


def report(path: Path) -> dict[str, str]:
    """The two blocks of benchmarks/README.md, by name: the main table, and all others."""
    rows, *elsewhere = by_machine(path)
    last = [*rows.values()][-1]
    by = f"the best of {len(last['reports'])} samplers"
    by += ", of which the guided one takes two evaluations a step" * ("guided" in last["reports"])
    short = (
        f"{distance_table(shared(rows))}\n\nFréchet distance (95 % interval), lower is better; the least of each "
        f"column in bold. {last['samples']:,} samples a row, in {last['evaluations']} steps, by {by}; data: "
        f"Fashion-MNIST, {last['data']}. {made_on(rows.values(), PACKAGES)}"
    )
    judged = rows_like(path, features=FEATURES_ID)
    tables = [picture_by_picture(rows), made_again(rows, judged), every_measure(rows)]
    for others in elsewhere:
        about = [*others.values()][-1]
        title = f"On another machine, {about['machine']} ({max(row['date'] for row in others.values())[:10]})"
        title += ", not guided" * ("guided" not in about["reports"])
        tables += [(title, distance_table(shared(others))), picture_by_picture(others), made_again(others, judged)]
    name = path.stem.replace("minute_", "minute ")
    return {name: short, f"{name} in full": "\n\n".join(f"{title}:\n\n{each}" for title, each in tables if each)}


def draw_pictures(path: Path) -> None:
    """The plot and the samples of the main table, beside the rows."""
    main = shared(by_machine(path)[0])
    path.with_suffix(".png").write_bytes(figure_png(plot(main)))
    path.with_name(f"{path.stem}_samples.png").write_bytes(figure_png(sample_cells(main, path.with_suffix(""))))
