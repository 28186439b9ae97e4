"""Every check accepts the solution, names each mistake with its own sentence, and survives whatever it is handed."""

# mypy: allow-untyped-defs
from __future__ import annotations

import inspect
import math
import re
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from course_lib import checks
from course_lib.checks import BY_NOTEBOOK, CORRECT, EXERCISES, NOT_DONE, REMARK, WRONG, Choice, Exercise, check
from course_lib.checks.judge import ON_THE_CPU, as_it_is, judge, variants

FUNCTIONS = {name: e for name, e in EXERCISES.items() if isinstance(e, Exercise)}
PLAIN = {name: e for name, e in FUNCTIONS.items() if e.adapt is as_it_is}
QUESTIONS = {name: e for name, e in EXERCISES.items() if not isinstance(e, Exercise)}
MISTAKES = [
    (name, key, number)
    for name, e in EXERCISES.items()
    for key, mistake in e.mistakes.items()
    for number in range(len(variants(mistake)) if name in FUNCTIONS else 1)
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_accepts_the_solution(name):
    result = check(name, FUNCTIONS[name].solution)
    assert result.status == CORRECT, result


@pytest.mark.parametrize("name", FUNCTIONS)
def test_accepts_the_answer_that_it_shows(name):
    result = check(name, FUNCTIONS[name].answer)
    assert result.status == CORRECT, result


@pytest.mark.parametrize("name", QUESTIONS)
def test_accepts_the_number_or_letter(name):
    result = check(name, QUESTIONS[name].solution())
    assert result.status == CORRECT and result.message == QUESTIONS[name].why


@pytest.mark.parametrize(("name", "key", "number"), MISTAKES, ids=str)
def test_names_each_mistake(name, key, number):
    exercise = EXERCISES[name]
    found = exercise.mistakes[key]
    wrong, sentence = (variants(found)[number], key) if isinstance(exercise, Exercise) else (key, found)
    result = check(name, wrong)
    assert (result.status, result.message) == (WRONG, sentence)


def column(v):
    return v[:, None, None, None]


def betas_in_plain_python(kind, T):
    if kind == "cosine":
        f = [math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(T + 1)]
        return [min(1 - f[t] / f[t - 1], 0.999) for t in range(1, T + 1)]
    u = [t / (T - 1) for t in range(T)]
    if kind == "quadratic":
        return [(0.01 + v * (0.02**0.5 - 0.01)) ** 2 for v in u]
    return [0.0001 + 0.0199 * (v if kind == "linear" else 1 / (1 + math.exp(6 - 12 * v))) for v in u]


#: The solutions again, as a learner would write them.
IN_OTHER_WORDS = {
    "to_float": lambda images: (images.float() - 127.5) / 127.5,
    "files_to_batch": lambda files: (files.movedim(-1, 1).float() - 127.5) / 127.5,
    "draw_noise": lambda x, generator: torch.empty_like(x).normal_(generator=generator),
    "corrupt": lambda x, amount, noise: x + amount[:, None, None, None] * (noise - x),
    "mixture_variance": lambda u, p, n: (1 - u) * (1 - u) * p + u * u * n,
    "conv_out": lambda size, kernel, stride, padding: (size - kernel + 2 * padding + stride) // stride,
    "conv_transpose_out": lambda n, k, s, p, o: n * s - s - p - p + k + o,
    "double_conv_parameters": lambda i, o: o * (i * 9 + 1) + o * (o * 9 + 1),
    "q_step": lambda x, t, betas, z: z * betas[t - 1] ** 0.5 + x * (1 - betas)[t - 1] ** 0.5,
    "betas": lambda kind, T: torch.tensor(betas_in_plain_python(kind, T), dtype=torch.float64),
    "alpha_bar": lambda betas: torch.exp(torch.cat([torch.zeros_like(betas[:1]), torch.log(1 - betas)]).cumsum(0)),
    "q_sample": lambda x0, t, eps, ab: column(ab[t] ** 0.5) * x0 + column((1 - ab[t]) ** 0.5) * eps,
    "posterior_variance": lambda t, ab: (1 - ab[t - 1]) * (ab[t - 1] - ab[t]) / (ab[t - 1] * (1 - ab[t])),
    "posterior_mean": lambda x_t, x0, t, ab: (
        column((ab[t] * ab[t - 1]).sqrt() * (1 / ab[t - 1] - 1) / (1 - ab[t])) * x_t
        + column((ab[t - 1] - ab[t]) / (ab[t - 1].sqrt() * (1 - ab[t]))) * x0
    ),
    "x0_hat": lambda x, e, t, ab: column(ab[t] ** -0.5) * x - column((1 / ab[t] - 1) ** 0.5) * e,
    "loss": lambda m, x0, t, eps, ab: torch.nn.functional.mse_loss(
        m(column(ab[t].sqrt()) * x0 + column((1 - ab[t]).sqrt()) * eps, t), eps
    ),
    "ema": lambda average, weights, decay: torch.lerp(weights, average, decay),
    "ddim_step": lambda x, e, t, s, ab: (
        (ab[s] / ab[t]).sqrt() * x + ((1 - ab[s]).sqrt() - (ab[s] * (1 - ab[t]) / ab[t]).sqrt()) * e
    ),
    "ddpm_step": lambda x, e, z, t, ab: (
        (x - (1 - ab[t] / ab[t - 1]) * (1 - ab[t]) ** -0.5 * e) * (ab[t - 1] / ab[t]).sqrt()
        + (((1 - ab[t - 1]) / (1 - ab[t]) * (1 - ab[t] / ab[t - 1])).sqrt() * z if t > 1 else 0)
    ),
}


@pytest.mark.parametrize("name", IN_OTHER_WORDS)
def test_accepts_the_solution_in_other_words(name):
    result = check(name, IN_OTHER_WORDS[name])
    assert result.status == CORRECT, result


@pytest.mark.parametrize("name", EXERCISES)
def test_not_done_yet(name):
    assert check(name, ...).status == NOT_DONE
    assert check(name, None).status == NOT_DONE
    if name in FUNCTIONS:
        assert check(name, lambda *_: None).status == NOT_DONE
        assert check(name, lambda *_: ...).status == NOT_DONE

        def unwritten(*_):
            raise NotImplementedError

        assert check(name, unwritten).status == NOT_DONE


def raises(*_):
    raise KeyError("no such thing")


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (raises, "raises KeyError"),
        (lambda: 1, "raises TypeError"),
        (lambda *_: "text", "but returns "),
        (lambda *_: torch.zeros(7, 7, 7), "returns shape"),
        (3, "Hand over the function itself"),
    ],
    ids=["raises", "arguments", "type", "shape", "called"],
)
def test_survives(name, answer, words):
    result = check(name, answer)
    assert result.status == WRONG
    assert words in result.message


def changed(solution, change):
    """The solution with a change to every number that it returns."""

    def function(*case):
        answer = solution(*case)
        return type(answer)(map(change, answer)) if isinstance(answer, tuple | list) else change(answer)

    return function


ADAPTED = sorted(FUNCTIONS.keys() - PLAIN.keys())


@pytest.mark.parametrize("name", ADAPTED)
@pytest.mark.parametrize("answer", [raises, lambda: 1, lambda *_: "text", lambda *_: torch.zeros(7, 7, 7), 3])
def test_survives_where_the_answer_is_no_plain_function(name, answer):
    result = check(name, answer)
    assert result.status == WRONG and "cannot be judged" not in result.message


@pytest.mark.parametrize("name", PLAIN)
def test_nan_is_named(name):
    result = check(name, changed(FUNCTIONS[name].solution, lambda value: value * float("nan")))
    assert result.status == WRONG and "NaN" in result.message


def tensors_of(exercise):
    return [n for n, a in enumerate(exercise.cases(torch.Generator())[0]) if isinstance(a, torch.Tensor)]


TAKES_TENSORS = [name for name, exercise in PLAIN.items() if tensors_of(exercise)]


@pytest.mark.parametrize("name", TAKES_TENSORS)
def test_in_place_is_named(name):
    def in_place(*case):
        answer = FUNCTIONS[name].solution(*case)
        for n in tensors_of(FUNCTIONS[name]):
            case[n].add_(1)
        return answer

    result = check(name, in_place)
    assert result.status == WRONG and "in place" in result.message


@pytest.mark.parametrize("name", PLAIN)
def test_unknown_mistake_gives_a_difference(name):
    result = check(name, changed(FUNCTIONS[name].solution, lambda value: value + abs(value) ** 0.5))
    assert result.status == WRONG and (" is right (" in result.message or "It is right for" in result.message)


@pytest.mark.parametrize("answer", ["twelve", True, [1, 2], torch.zeros(3)], ids=str)
def test_question_wants_a_number(answer):
    result = check("values_in_batch", answer)
    assert result.status == WRONG and "is a number" in result.message


def test_question_takes_a_tensor_with_one_number():
    assert check("values_in_batch", torch.tensor(12544)).status == CORRECT


def test_every_check_is_quick():
    """An answer that is compared with every mistake in vain takes longest; the first check of all pays for imports."""
    script = "import time; from course_lib.checks import EXERCISES, check; start = time.perf_counter(); " + (
        "check('alpha_bar', EXERCISES['alpha_bar'].answer); print(time.perf_counter() - start)"
    )
    first = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert float(first) < 1
    for name, exercise in FUNCTIONS.items():
        plain = changed(exercise.solution, lambda value: value + 1)
        answer = plain if name in PLAIN else list(exercise.mistakes.values())[-1]
        start = time.process_time()
        check(name, answer)
        assert time.process_time() - start < 1, name


def of_one_function(solution, mistakes=None):
    cases = [(torch.linspace(0, 1, n, dtype=torch.float64),) for n in (3, 4)]
    return Exercise(solution, lambda _: cases, mistakes or {}, answer=solution, library=[], equation="")


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: x + torch.arange(len(x), device=x.device),
        lambda x: x + torch.arange(len(x)).to(x.device),
        lambda x: x + torch.arange(len(x)).to(x),
        lambda x: x + torch.ones_like(x).cumsum(0) - 1,
        lambda x: x + torch.tensor(1.0) * x.new_tensor(range(len(x))),  # single numbers may come from anywhere
        lambda x: x[torch.arange(len(x))] + x.new_tensor(range(len(x))),  # and so may indices
        lambda x: x + sum(float(v) * 0 for v in x) + torch.arange(len(x), device=x.device),
    ],
)
def test_tensors_made_on_the_device_of_the_input_are_fine(answer):
    assert judge(of_one_function(lambda x: x + torch.arange(len(x), device=x.device)), answer)[0] == CORRECT


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: x + torch.arange(len(x)),
        lambda x: x + torch.tensor([0, 1, 2, 3])[: len(x)],
        lambda x: x + torch.arange(len(x), device="cpu"),
        lambda x: x + torch.cat([torch.zeros(1), torch.arange(1, len(x))]),
        lambda x: torch.stack([x, torch.arange(len(x)) * 1.0]).sum(0),
        lambda x: x.cpu() + 0 * x + torch.arange(len(x), device=x.device),
        lambda x: torch.tensor((x + torch.arange(len(x), device=x.device)).tolist()),
        lambda x: x + torch.arange(9)[(x * 0 + torch.arange(len(x), device=x.device)).long()],
    ],
)
def test_tensors_made_on_the_cpu_are_named_without_a_gpu(answer):
    exercise = of_one_function(lambda x: x + torch.arange(len(x), device=x.device))
    verdict, words = judge(exercise, answer)
    assert verdict == REMARK and words.startswith(ON_THE_CPU)


def test_an_int_is_asked_for_and_no_float():
    assert judge(FUNCTIONS["conv_out"], lambda n, k, s, p: (n + 2 * p - k) // s + 1)[0] == CORRECT
    verdict, words = judge(FUNCTIONS["conv_out"], lambda n, k, s, p: (n + 2 * p - k) / s // 1 + 1)
    assert verdict == WRONG and "a float where an int is wanted" in words


def test_several_values():
    exercise = of_one_function(lambda x: (x, x.sum()), {"The sum is a mean.": lambda x: (x, x.mean())})
    assert judge(exercise, lambda x: [x, sum(x)])[0] == CORRECT
    assert judge(exercise, lambda x: (x, sum(x) / len(x))) == (WRONG, "The sum is a mean.")
    assert judge(exercise, lambda x: x) == (WRONG, "It must return 2 values, but returns a Tensor.")
    assert "but returns 3" in judge(exercise, lambda x: (x, x, x))[1]
    assert "returns shape (3,) where () is wanted" in judge(exercise, lambda x: (x, x))[1]


def test_noise_that_the_answer_draws_itself_is_the_same_each_time():
    exercise = of_one_function(lambda x: x, {"There is noise in it.": lambda x: x + torch.randn_like(x)})
    before = torch.get_rng_state()
    assert judge(exercise, lambda x: torch.randn_like(x) + x) == (WRONG, "There is noise in it.")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_line_that_raised_is_shown():
    def my_function(x):
        y = x * 2
        return y.nonsense

    message = judge(of_one_function(lambda x: x), my_function)[1]
    assert "raises AttributeError" in message and 'in "return y.nonsense"' in message


def test_a_letter():
    choice = Choice(lambda: "b", "It is b.", {"a": "Not a.", "c": "Not c."})
    for answer in ("b", " B ", "(b)", "b."):
        assert judge(choice, answer) == (CORRECT, "It is b.")
    assert judge(choice, "c") == (WRONG, "Not c.")
    assert judge(choice, ...)[0] == NOT_DONE
    for other in ("d", "", 2, ["b"], len):
        assert judge(choice, other) == (WRONG, "The answer is one of 'a', 'b', 'c'.")


class Awkward:
    def __eq__(self, other):
        raise RuntimeError("do not compare me")

    def __bool__(self):
        raise RuntimeError("do not ask me")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize(
    "answer",
    [Awkward(), Fraction(1, 3), float("inf"), 10**400, float, exit],
    ids=["awkward", "fraction", "infinity", "huge", "type", "exit"],
)
def test_never_raises(name, answer):
    assert check(name, answer).status == WRONG


def test_the_readme_counts_exercises_and_mistakes():
    """A sentence counts once, also where several exercises say it."""
    names = [name for book in BY_NOTEBOOK.values() for name in book]
    assert len(names) == len(set(names)) == len(EXERCISES)
    sentences = {key for name, key, _ in MISTAKES if name in FUNCTIONS}
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"{len(FUNCTIONS)} functions to write and {len(QUESTIONS)} questions to answer" in readme
    known = re.search(r"knows more than (\d+) mistakes", readme)
    assert known and 400 <= int(known[1]) <= len(sentences)


def test_the_readme_shows_a_real_diagnosis():
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    wrong = check("q_sample", lambda x0, t, eps, ab: column(ab[t]) * x0 + column(1 - ab[t]) * eps)
    assert str(wrong) in readme


def test_choices_offer_every_letter():
    for name, choice in QUESTIONS.items():
        if isinstance(choice, Choice):
            letters = sorted({choice.solution(), *choice.mistakes})
            assert len(letters) == len(choice.mistakes) + 1 >= 3, name
            assert letters == list("abcdef"[: len(letters)]), name


def test_progress_shows_the_notebooks_whose_checks_ran(monkeypatch):
    monkeypatch.setattr(checks, "_found", {})
    assert str(checks.progress()) == "No check has run in this kernel yet."
    check("corrupt", ...)
    check("corrupt", FUNCTIONS["corrupt"].answer)
    check("mixture_variance", lambda amount, p, n: 0.0)
    found = checks.progress()
    assert [r.exercise for r in found.results] == list(BY_NOTEBOOK["01"])
    assert {r.exercise: r.status for r in found.results if r.status != NOT_DONE} == {
        "corrupt": CORRECT,
        "mixture_variance": WRONG,
    }
    assert str(found).endswith(f"1 of {len(BY_NOTEBOOK['01'])} correct.")
    assert found._repr_html_().count("<tr>") == len(BY_NOTEBOOK["01"]) + 1


@pytest.mark.parametrize("name", EXERCISES)
def test_solution_shows_equation_and_source(name):
    exercise, text = EXERCISES[name], checks.solution(name)._repr_markdown_()
    if isinstance(exercise, Exercise):
        assert exercise.equation and exercise.equation in text and exercise.library
        for function in (exercise.answer, *exercise.library):
            assert inspect.getsource(function).strip().splitlines()[-1].strip() in text
            assert function.__module__.startswith("course_lib.")
    else:
        assert exercise.why in text and str(exercise.solution()) in text


def test_unknown_exercise_lists_the_known():
    with pytest.raises(ValueError, match="'corrupt', 'draw_noise'"):
        check("corrput", None)
    with pytest.raises(ValueError, match="'corrupt', 'draw_noise'"):
        checks.solution("corrput")


def test_result_reads_well_as_text_and_html():
    result = check("corrupt", lambda x, amount, noise: x + column(amount) * noise)
    assert str(result) == (
        "✗ corrupt: wrong. The noise is added, but the picture does not fade: weigh it by 1 - amount."
    )
    assert "does not fade" in result._repr_html_()
    assert "&lt;" in check("corrupt", lambda *_: exec("raise ValueError('<b>')"))._repr_html_()
