"""benchmarks/README.md says what the rows in benchmarks/results say: its tables, and every number in its sentences."""

from __future__ import annotations

import re

import ablations
import pictures_report
import sampling
import slider_latency
import slider_ways
import speed
from contestants import CONTESTANTS
from course_lib.checkpoint import load_shipped
from course_lib.shapes import count_parameters
from pictures_report import WAYS, best_way, by_machine, nearest, not_guided
from records import PAGE, RESULTS, ROOT, has, interval, read_rows
from samplers import SAMPLERS, InTurn

TEXT, README = (path.read_text(encoding="utf-8") for path in (PAGE, ROOT / "README.md"))
OTHERS = [model for model in CONTESTANTS if model != "unet"]
JUDGED = read_rows(RESULTS / "pictures_per_minute_cpu.jsonl")
MACHINES = by_machine(RESULTS / "pictures_per_minute_cpu.jsonl")
ROWS = MACHINES[0]
OURS = ROWS["unet", "ours", 3]
SAMPLED = {key: row["report"]["frechet"] for key, row in sampling.newest(RESULTS / "sampling_cpu.jsonl").items()}
TOLD = sampling.newest(RESULTS / "sampling_classes_cpu.jsonl")
SLIDERS = {row["way"]: row for row in slider_latency.newest()}


def says(words: str, *numbers: object) -> None:
    """The page has these words, with these numbers in the places of {}."""
    assert words.format(*numbers) in TEXT, words.format(*numbers)


#: Distances of the best sampler, and of the best that is not guided, on each machine.
BEST = {key: nearest(row)["value"] for key, row in ROWS.items()}
ALONE = [{key: nearest(not_guided(row))["value"] for key, row in here.items()} for here in MACHINES]


def test_tables_are_those_of_a_report() -> None:
    path = RESULTS / "pictures_per_minute_cpu.jsonl"
    blocks = {
        **pictures_report.report(path),
        **sampling.report(RESULTS / "sampling_cpu.jsonl"),
        **sampling.report(RESULTS / "sampling_classes_cpu.jsonl"),
        **speed.report(RESULTS / "speed_cpu.jsonl"),
        **ablations.report(RESULTS / "ablations_cpu.jsonl"),
        **slider_latency.report(),
    }
    found = dict(re.findall(r"<!-- (.*?): begin -->\n(.*?)<!-- \1: end -->", TEXT, re.DOTALL))
    assert {name: text.strip() for name, text in found.items() if text} == blocks, "call the benchmarks with --report"
    assert all(name.replace("cpu", "cuda") in found for name in blocks if re.match("(pic|sampling cpu|speed)", name))


def test_three_minutes_beside_thirty_of_the_others() -> None:
    times = sorted(BEST[model, "own", 30] / BEST["unet", "ours", 3] for model in OTHERS)
    says("they are at {:.1f}, {:.1f} and {:.1f} times its distance", *times)
    same = {key: OURS[key] for key in ("model", "minutes", "samples", "machine", "details", "features")}
    again = [row for row in JUDGED if has(row, same) and row["updates"] != OURS["updates"]]
    more = sorted(BEST["lucidrains", "own", 30] / nearest(row)["value"] for row in again)
    says("two more of ours would turn the {:.1f} into {:.1f} and {:.1f}", times[0], *more)
    alone = ALONE[0]["lucidrains", "own", 30] / ALONE[0]["unet", "ours", 3]
    says("helps ours more than theirs: without it the {:.1f} is a {:.1f}.", times[0], alone)
    assert all(BEST["unet", "ours", at] == min(each for key, each in BEST.items() if key[2] == at) for at in (3, 10))
    near = ALONE[0]["lucidrains", "ours", 10] / ALONE[0]["unet", "ours", 3]
    assert 0.9 < near < 1.1 and sum(BEST[model, "ours", 30] < BEST["unet", "ours", 30] for model in OTHERS) == 2
    says("the best of the others is after ten minutes about where our network is after three")
    own = [ROWS[model, "own", 3] for model in OTHERS]
    sure, *others = (round(100 * row["reports"][best_way(row)]["sure"]["value"]) for row in [OURS, *own])
    says("sure of {} % of our network's pictures, and of {} to {} % of the others'", sure, min(others), max(others))
    assert f"is sure of {sure} % of them" in README and f"sure of {min(others)} to {max(others)} %." in README


def test_how_sure_that_is() -> None:
    many = {key: OURS[key] for key in ("machine", "features", "guidance")} | {"samples": 2000}
    rows = {(row["model"], row["updates"]): row for row in JUDGED if has(row, many)}
    words = {"guided": "put it between {:.1f} and {:.1f};", "unclipped": "between {:.1f} and {:.1f}, and two other"}
    for way in words:
        value = {key: row["reports"][way]["frechet"]["value"] for key, row in rows.items()}
        (theirs,) = (value.pop(key) for key in [*value] if key[0] == "lucidrains")
        assert len(value) == 3
        says(words[way], theirs / max(value.values()), theirs / min(value.values()))
    elsewhere = [min(found[model, "own", 30] for model in OTHERS) / found["unet", "ours", 3] for found in ALONE[1:]]
    says("and two other machines say {:.1f} and {:.1f}.", *sorted(elsewhere, reverse=True))
    swings = sorted(found["double-conv", "own", 30] for found in ALONE)
    says("on the three machines its thirty minutes ended between {:.1f} and {:.1f}.", swings[0], swings[-1])
    for found in ALONE[1:]:  # "came nearer" with the recipe for a larger network
        assert found["diffusers", "own", 30] < ALONE[0]["diffusers", "own", 30]
    says("in 25 steps, and the best of three samplers of this course counts")
    assert len(WAYS) == 3 and {row["evaluations"] for row in ROWS.values()} == {25}


def test_network_or_recipe() -> None:
    listed = "{:.1f}, {:.1f} and {:.1f}"
    ours, own = ([ALONE[0][model, recipe, 30] for model in OTHERS] for recipe in ("ours", "own"))
    says(f"without guidance they come to {listed}; their own way, to {listed}.", *ours, *own)
    rate = {model: ROWS[model, "ours", 10]["pictures_per_second"] for model in CONTESTANTS}
    says("sees {:.0f} and {:.0f} times as many pictures", *sorted(rate["unet"] / rate[model] for model in OTHERS[:2]))
    says("and {:.0f} times as many as the `DoubleConvUNet`", rate["unet"] / rate["double-conv"])
    three = [ROWS[model, "ours", 30] for model in ("unet", "diffusers", "lucidrains")]
    level, ahead = ([row["reports"][way]["frechet"] for row in three] for way in ("unclipped", "guided"))
    says("equally near, as far as 500 samples can tell")
    assert max(each["low"] for each in level) < min(each["value"] for each in level)
    assert ahead[0]["value"] == max(each["value"] for each in ahead)  # two are "a little ahead"
    assert max(each["low"] for each in ahead) < min(each["high"] for each in ahead)
    fewer, *most = sorted(round(row["pictures"], -3) for row in three)
    says("get with {:,} and {:,} pictures, ours needs {:,}.", fewer, *most)


def test_numbers_of_parameters() -> None:
    stated = re.findall(r"\| ([\d.]+) M \|", TEXT)
    assert stated == [f"{count_parameters(one.build()) / 1e6:.1f}" for one in CONTESTANTS.values()]


def test_how_few_steps_a_sampler_needs() -> None:
    few, many, best = SAMPLED["2m-sde", 25], SAMPLED["ddpm", 100], SAMPLED["2m-sde-guided", 50]
    says("their distance is {:.2f}; the original DDPM sampler needs 100 calls to come as near", few["value"])
    says("to come as near ({:.2f})", many["value"])
    assert few["value"] < many["value"] < few["high"] and few["high"] < SAMPLED["ddpm", 25]["low"]
    says("bring the distance down to {:.2f}, where as many real pictures are at {:.2f}", best["value"], best["floor"])
    says("Their distance from real pictures is {}; for as many real ones it is {:.2f}", interval(best), best["floor"])
    assert best["value"] == min(each["value"] for key, each in SAMPLED.items() if key[1] == 50)
    for (name, calls), theirs in SAMPLED.items():  # "come out like ours"
        ours = SAMPLED.get((name.removeprefix("diffusers-"), calls), theirs)
        assert theirs["low"] < ours["value"] < theirs["high"]


def test_what_is_said_of_the_samplers_here_and_in_notebook_05() -> None:
    for calls, name in ((5, "diffusers-unipc"), (10, "diffusers-unipc"), (25, "2m-sde"), (50, "2m-sde-guided")):
        best, _ = min((key for key in SAMPLED if key[1] == calls), key=lambda key: SAMPLED[key]["value"])
        assert SAMPLERS[best].method == SAMPLERS[name].method
    assert SAMPLED["2m-sde-guided", 100]["value"] < SAMPLED["ddpm", 100]["value"]
    for near, far, calls, clearly in (
        ("2m", "2m-sde", 5, True),
        ("2m-sde", "2m-sde-guided", 10, True),
        ("2m-sde", "2m-sde-guided", 25, False),
        ("2m-sde", "2m", 25, False),
        ("2m-sde", "2m", 50, False),
        ("2m-sde-guided", "2m-sde", 50, False),
    ):
        a, b = SAMPLED[near, calls], SAMPLED[far, calls]
        assert a["value"] < b["value"] and (a["high"] < b["low"]) == clearly, (near, far, calls)


def test_samples_are_of_the_weights_that_are_shipped() -> None:
    rows = sampling.newest(RESULTS / "sampling_cpu.jsonl")
    told = load_shipped(classes=True).model
    asked = InTurn(told, told.config["num_classes"])
    for row, model in ((rows["2m-sde-guided", 50], load_shipped().model), (TOLD["2m-sde-guided", 25], asked)):
        assert row["weights"] == sampling.weights_id(model)
        assert row["weak"] == sampling.weights_id(load_shipped(weak=True).model)
        assert (row["data"], row["samples"]) == ("full", 1000)
    alone, guided = (TOLD[name, 25]["report"]["frechet"] for name in ("2m-sde", "2m-sde-guided"))
    says("the distance of its samples is {} after 25 calls, and {} if", interval(alone), interval(guided))
    assert alone["high"] < SAMPLED["2m-sde", 25]["low"]


def test_sliders_keep_what_the_course_promises() -> None:
    ours, usual = SLIDERS["corruption"], SLIDERS["imshow"]
    says("64 pictures take {:.0f} ms in `corruption_explorer`", ours["median_ms"])
    assert f"it takes {ours['median_ms']:.0f} ms for 64 pictures" in README
    says("`interact` with `imshow`, takes {:.0f} ms", usual["median_ms"])
    says("ours paints {} pictures and the usual way {}.", ours["painted"], usual["painted"])
    assert [*SLIDERS] == [*slider_ways.WAYS], "the last run did not measure every way"
    for way in ("corruption", "timestep"):
        assert SLIDERS[way]["p95_ms"] <= 25 and SLIDERS[way]["painted"] >= 60 / 13 * usual["painted"]
        assert SLIDERS[way]["median_ms"] < usual["median_ms"] / 4
    assert SLIDERS["network"]["median_ms"] <= SLIDERS["network"]["forward_ms"] + 60
    assert all(row["empty_frames"] == 0 for way, row in SLIDERS.items() if slider_ways.WAYS[way].ours)


def test_what_each_part_of_the_recipe_earns() -> None:
    rows = ablations.newest(read_rows(RESULTS / "ablations_cpu.jsonl"))
    assert rows.keys() == ablations.VARIANTS.keys() and {row["details"]["seed"] for row in rows.values()} == {0}
    says("with three minutes and one seed for each, all in bfloat16")
    assert all(row["minutes"] == 3 and row["autocast"] == "torch.bfloat16" for row in rows.values())
    distance = {name: row["report"]["frechet"] for name, row in rows.items()}
    more = {name: row["heldout_loss"] / rows["recipe"]["heldout_loss"] - 1 for name, row in rows.items()}
    apart = distance["threads"]["value"] / distance["recipe"]["value"] - 1
    differs = 100 * abs(more["threads"]), 100 * abs(apart)
    says("differs by {:.1f} % in the loss and by {:.0f} % in the distance", *differs)
    for name in ("adamw", "adamw-fast", "linear", "unweighted", "gamma-1"):
        assert 0.02 < more.pop(name) < 0.08
    for name in ("narrow", "attention"):
        assert 0.02 < more.pop(name) < 0.03
    assert abs(more.pop("last")) < 0.002 and distance["last"]["value"] > 2 * distance["recipe"]["value"]
    assert -0.025 < more.pop("pixels") < -0.02 and distance["pixels"]["low"] > distance["recipe"]["high"]
    for name, each in more.items():
        assert abs(each) < 0.01
        assert distance[name]["low"] < distance["recipe"]["high"] and distance[name]["high"] > distance["recipe"]["low"]
