"""Pictures of notebooks 05 and 06."""

from __future__ import annotations

import contextlib
import io
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from course_lib import viz
from course_lib.forward import q_sample
from course_lib.runtime import make_generator
from course_lib.sample import predict, reverse_step, trajectory
from course_lib.schedule import sampling_times
from course_lib.viz import COLORS, Sheet, styled
from ingredients import FIGURES, Picture, figure, noise, one_of_each, pictures, samples, shipped

HERE = Path(__file__).resolve().parent


@figure("05_reverse_step")
def one_reverse_step() -> Picture:
    made, t, s = shipped(), 600, 500
    x_t, _ = q_sample(made.schedule, one_of_each()[[1, 9]], t, generator=make_generator(0))
    x0_hat, eps_hat = predict(made.model, made.schedule, x_t, t, target=made.target)
    x_s = reverse_step(made.schedule, x0_hat, eps_hat, t, s, eta=0.0)
    columns = torch.stack([x_t, eps_hat, x0_hat, x_s], 1)
    titles = [f"x_t, t = {t}", "eps_hat", "x0_hat", f"x_s, s = {s}"]
    return viz.show_rows({" ": columns[0], "  ": columns[1]}, titles=titles)


@figure("05_trajectory")
def whole_trajectory() -> Picture:
    made = shipped()
    run = trajectory(made.model, made.schedule, noise(1, 0), target=made.target, generator=make_generator(1))
    return viz.plot_trajectory(list(run), columns=9)


@figure("05_last_step")
def last_step() -> Picture:
    """What noise in the last step would do: longer last steps leave coarser grain."""
    schedule, x = shipped().schedule, samples(noise(1, 21))
    columns, titles = [x], ["right: none"]
    for count in (1000, 50, 10):
        _, std = schedule.step_kernel(0, sampling_times(schedule.T, count)[-2])
        columns.append(x + std.item() * noise(1, 4))
        titles.append(f"wrong, {count} steps")
    return viz.show_grid(torch.cat(columns), titles=titles, columns=4)


@figure("05_interpolation")
def interpolation() -> Picture:
    z1, z2 = noise(2, 10)
    angle = torch.acos((z1 * z2).sum() / (z1.norm() * z2.norm()))
    shares = torch.linspace(0, 1, 9)
    arc = torch.stack(
        [(torch.sin((1 - c) * angle) * z1 + torch.sin(c * angle) * z2) / torch.sin(angle) for c in shares]
    )
    return viz.show_rows({"": samples(arc, eta=0.0)}, titles=[f"c = {c:.2f}" for c in shares])


@cache
def clinic() -> dict[str, Any]:
    """The variables of notebook 06 after all its cells have run; seen_1, seen_2, … are its symptoms."""
    threads = torch.get_num_threads()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return runpy.run_path(str(HERE.parent / "notebooks" / "py" / "06_find_the_bug.py"))
    finally:
        torch.set_num_threads(threads)


@figure("06_symptoms")
@styled
def symptoms() -> Picture:
    """Every symptom of the bug clinic, and healthy samples."""
    titles = {
        1: "The film runs backwards",
        2: "White shapes on gray",
        3: "The last picture is no noise",
        4: "Everything turns to flat gray",
        5: "The loss is low from the start",
        6: "The loss begins far above 1",
        7: "More parameters, same curve",
        8: "One boot, five answers",
        9: "Fine loss, samples are noise",
        10: "The pictures fade to black",
        11: "Grain on finished pictures",
    }
    seen: dict[str, Any] = {f"{number}  {title}": clinic()[f"seen_{number}"] for number, title in titles.items()}
    seen["For comparison: healthy"] = samples(noise(8, 3), steps=25, order=2)
    drawn, axes = viz.new_figure(8.8, 7.0, 4, 3)
    for ax, (title, what) in zip(axes, seen.items(), strict=True):
        ax.set_title(title, fontsize=10)
        if isinstance(what, Tensor):
            ax.imshow(viz.grid(what, columns=(len(what) + 1) // 2).numpy(), cmap="gray", vmin=0, vmax=255)
            ax.set_axis_off()
            continue
        curves = what if isinstance(what, dict) else {"loss": what}
        for i, losses in enumerate(curves.values()):
            ax.plot(range(1, len(losses) + 1), losses, linestyle=("-", "--")[i])
        if not isinstance(what, dict):
            ax.axhline(1, color=COLORS["black"], linestyle=":", linewidth=1.2)
        if max(max(losses) for losses in curves.values()) > 5:
            ax.set_yscale("log")
        else:
            ax.set_ylim(bottom=0)
    return drawn


@figure("06_fade")
def fade() -> Picture:
    """The slider of case 10 at some of its steps."""
    at = {step.t: step.x_t for step in clinic()["steps_10"]}
    times = (1000, 975, 950, 925, 900, 800, 500, 25)
    seen = torch.stack([at[t] for t in times], 1)
    return viz.show_rows({f"picture {i + 1}": seen[i] for i in range(len(seen))}, titles=[f"t = {t}" for t in times])


@figure("06_pipeline")
def pipeline() -> Picture:
    """Where in a program each case of the bug clinic was, and what to ask there."""
    sheet = Sheet(9.2, 3.5)
    boxes = {
        "pictures": (0.15, 0.2, "-1 to 1?", "case 2"),
        "tables": (2.0, 0.2, "1 first, 0 last?", "cases 1, 3"),
        "mixture": (3.85, 0.2, "a² + b² = 1?", "case 4"),
        "network": (5.7, 0.2, "inputs? layers?", "cases 6, 7"),
        "loss": (7.55, 0.2, "1 at first?", "case 5"),
        "x_T": (0.15, 2.15, "spread 1?", ""),
        "network ": (2.0, 2.15, "which t? which mode?", "cases 8, 9"),
        "step": (3.85, 2.15, "lands on x_s?", "cases 4, 10"),
        "last step": (5.7, 2.15, "adds nothing?", "case 11"),
        "samples": (7.55, 2.15, "-1 to 1?", ""),
    }
    for name, (x, y, question, cases) in boxes.items():
        sheet.box(x, y, 1.5, 1.05, "#D8E6F0" if y < 1 else "#EFEDE7", COLORS["black"], linewidth=1)
        sheet.text(x + 0.75, y + 0.22, name.strip(), 11, weight="bold")
        sheet.text(x + 0.75, y + 0.54, question, 9)
        sheet.text(x + 0.75, y + 0.83, cases, 9, color=COLORS["red"])
        if x < 7:
            sheet.arrow((x + 1.53, y + 0.52), (x + 1.82, y + 0.52), COLORS["black"])
    sheet.text(0.15, 1.48, "training, from left to right", 9, ha="left")
    sheet.text(0.15, 1.98, "sampling; network and step take turns", 9, ha="left")
    return sheet.figure


FIGURES.update(
    {
        "05_eta": lambda: viz.show_rows(
            {f"η = {eta:g}": samples(noise(8, 5), eta=eta, seed=6) for eta in (0.0, 0.5, 1.0)}
        ),
        "05_nearest": lambda: viz.nearest_table(samples(noise(64, 12), seed=13)[:8], pictures()[:]),
    }
)
