"""What the judge looks at besides the numbers, and what it says of numbers that nobody has foreseen."""

# mypy: allow-untyped-defs
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from course_lib.checks import CORRECT, NOT_DONE, REMARK, WRONG, Choice, Exercise, Question, Result, effects
from course_lib.checks.differences import CHANGES
from course_lib.checks.inputs import FLOAT_TIMES, ONE_TIME_EACH, SHARE_OF_T, Network, noise
from course_lib.checks.judge import FLOAT_FOR_INT, MARK, ON_THE_CPU, judge


def of(solution, *cases, mistakes=None, **options):
    """An exercise with fixed cases."""
    return Exercise(solution, lambda g: list(cases), mistakes or {}, solution, [], "", **options)


X = torch.tensor([[0.5, -1.5, 2.0], [0.25, 3.0, -0.75], [1.0, 0.0, -2.0]], dtype=torch.float64)


def told(answer, truth=lambda x: x, *cases):
    return judge(of(truth, *(cases or [(X,), (2 * X.flip(0) + X,)])), answer)


def test_a_remark_counts_as_correct_and_can_be_told_from_it():
    result = Result("corrupt", *told(lambda x: x + torch.zeros(3, 3)))
    assert result.status == REMARK != CORRECT and result.is_correct and result.message.startswith(ON_THE_CPU)
    assert str(result).startswith("✓ corrupt: correct, with a remark. On a GPU it would fail")
    assert MARK[REMARK][1] in result._repr_html_() and MARK[REMARK][1] != MARK[CORRECT][1]
    assert not Result("corrupt", WRONG, "").is_correct and not Result("corrupt", NOT_DONE, "").is_correct


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05


@pytest.mark.parametrize("status", MARK)
def test_marks_are_seen_on_a_light_and_on_a_dark_ground(status):
    own = luminance(MARK[status][1])
    assert luminance("#ffffff") / own > 4 and own / luminance("#111111") > 4


@pytest.mark.parametrize("answer", ["0.5", " 0.5 ", [0.5], (0.5,), ["0.5"], np.array(0.5), np.array([[0.5]]),
                                    np.float32(0.5), torch.tensor([0.5]), 0.5 + 1e-9])  # fmt: skip
def test_a_number_in_any_wrapping(answer):
    assert judge(Question(lambda: 0.5, "Why."), answer) == (CORRECT, "Why.")


@pytest.mark.parametrize("answer", ["", "half", [], [0.5, 0.5], np.zeros(2), np.array(["x"]), np.True_, {0.5}])
def test_no_number(answer):
    assert judge(Question(lambda: 0.5, "Why."), answer)[0] == WRONG


def test_a_measured_number_may_lie_on_either_side():
    question = Question(lambda: 1.0, "Why.", {0.5: "Half."}, tolerance=0.02)
    assert [judge(question, value)[0] for value in (0.9987, 1.0003, 1.05)] == [CORRECT, CORRECT, WRONG]
    assert judge(question, 0.501) == (WRONG, "Half.")


def test_result_dtype_is_remarked():
    assert told(lambda x: x.float())[0] == REMARK and "float32 where float64" in told(lambda x: x.float())[1]
    found = told(lambda x: x.double())
    assert found[0] == REMARK and "It returns float64 where float32 is wanted" in found[1]


def in_place(x):
    x *= 2
    return x / 2


@pytest.mark.parametrize(
    ("answer", "truth", "case", "sentence"),
    [
        (lambda x: in_place(x) + x.mul_(0), lambda x: x, X, effects.IN_PLACE),
        (lambda v: (v.reverse(), [*v])[1], lambda v: [*reversed(v)], [3, 1, 2], effects.LIST_IN_PLACE),
        (lambda v: [v.pop(0) for _ in range(3)], lambda v: [*v], [3, 1, 2], effects.LIST_IN_PLACE),
        (lambda v: (v.append(0), v[:-1])[1], lambda v: [*v], [3, 1, 2], effects.LIST_IN_PLACE),
        (lambda net: (net.eval(), net.weights)[1], lambda net: net.weights, Network(), effects.MODE),
        (lambda net: net.weights.data.add_(1) - 1, lambda net: net.weights + 0, Network(), effects.WEIGHTS),
    ],
)
def test_what_an_answer_does_to_its_arguments(answer, truth, case, sentence):
    assert judge(of(truth, (case,)), answer) == (WRONG, sentence)
    assert judge(of(truth, (case,)), truth)[0] == CORRECT


def draw(x, generator):
    return torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)


def seeds_it(x, generator):
    return draw(x, generator.manual_seed(0))


def seeds_all(x, generator):
    torch.manual_seed(0)
    return draw(x, generator)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (seeds_it, effects.RESEEDED),
        (seeds_all, effects.GLOBAL_SEED),
        (lambda x, generator: draw(x, generator.clone_state()), effects.COPIED),
        (lambda x, generator: draw(x, torch.Generator().manual_seed(0)), effects.UNTOUCHED),
        (lambda x, generator: draw(x, generator) + draw(x, None), "There is noise without a generator in it."),
    ],
)
def test_what_an_answer_does_to_generators(answer, sentence):
    mistakes = {"There is noise without a generator in it.": lambda x, g: draw(x, g) + draw(x, None)}
    exercise = of(draw, (X, torch.Generator().manual_seed(5)), mistakes=mistakes)
    before = torch.get_rng_state()
    assert judge(exercise, answer) == (WRONG, sentence)
    assert judge(exercise, draw)[0] == CORRECT
    assert torch.equal(torch.get_rng_state(), before)


def loss(model, x, t):
    return (model(x, t) - x).square().mean()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (torch.no_grad()(loss), effects.NO_GRADIENT),
        (lambda model, x, t: (model(x, t).detach() - x).square().mean(), effects.NO_GRADIENT),
        (lambda model, x, t: loss(model, x, t).item(), effects.NO_GRADIENT),
        (lambda model, x, t: loss(model, x, t / 20), SHARE_OF_T),
        (lambda model, x, t: loss(model, x, t.float()), FLOAT_TIMES),
        (lambda model, x, t: (loss(model, x, t) + loss(model, x, t).detach()) / 2, effects.GRADIENT_CUT),
        (lambda model, x, t: loss(model, x, t[:1]), ONE_TIME_EACH),
        (lambda model, x, t: loss(model, x, 7), ONE_TIME_EACH),
    ],
)
def test_a_network_is_asked_with_gradients_and_whole_times(answer, sentence):
    x, t = noise((3, 1, 4, 4), torch.Generator().manual_seed(0)), torch.tensor([7, 7, 7])
    exercise = of(loss, (Network(), x, t), gradient=True)
    assert judge(exercise, answer) == (WRONG, sentence)
    assert judge(exercise, lambda m, x, t: F.mse_loss(m(x, t.int()), x))[0] == CORRECT
    assert "gradient" not in sentence or judge(replace(exercise, gradient=False), answer)[0] == CORRECT


def test_a_network_notes_what_it_was_asked():
    model, x = Network(batch_norm=True), noise((2, 1, 4, 4), torch.Generator().manual_seed(0))
    in_train = model(x, torch.tensor([3, 3]))
    with torch.no_grad():
        in_eval = model.eval()(x, torch.tensor([0, 0]))
    model(in_train, torch.tensor([5, 5]))
    assert model.calls == [([3, 3], False), ([0, 0], False), ([5, 5], True)] and not torch.equal(in_train, in_eval)


@pytest.mark.parametrize("sentence", CHANGES)
def test_a_change_of_the_right_numbers_is_named(sentence):
    right = torch.stack([X, X.T * 1.3, X * X.T]) - 0.1
    right = right.abs() if "root" in sentence else right
    assert told(CHANGES[sentence], lambda x: x, (right,), (2 * right,)) == (WRONG, sentence)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: 1.25 * x, "Every number is 1.25 times what it should be."),
        (lambda x: -x, "Every number has the wrong sign."),
        (lambda x: x + 0.5, "Every number is too large by 0.5."),
        (lambda x: x - 0.5, "Every number is too small by 0.5."),
        (lambda x: 2 * x - 1, "Every number is 2 times what it should be, minus 1."),
        (lambda x: 0 * x + 3, "Every number is 3, whatever the input."),
        (lambda x: x.clamp(-1, 1), "cut off at -1 and 1"),
        (lambda x: x.relu(), "cut off at 0: nothing"),
        (lambda x: (x - x.min()) / (x.max() - x.min()), "is a minimum, maximum, mean or spread of the input in it?"),
        (lambda x: x / x.std(dim=1, keepdim=True), "Each picture is right but for a factor"),
        (lambda x: x.flatten().sort()[0].view(3, 3), "the right numbers in another order"),
        (lambda x: x[:1].expand(3, -1), "Only the first entry along the first axis is right."),
        (lambda x: torch.cat([x[:1] + 1, x[1:]]), "All is right but the first entry along the first axis."),
        (lambda x: torch.cat([x[:-1], x[-1:] + 1]), "All is right but the last entry along the first axis."),
        (lambda x: x + (x[0, 0] > 1) * x**2, "It is right for x of shape (3, 3), but not for x of shape (4, 3)."),
        (lambda x: x + x.abs().sqrt(), "The numbers differ by up to"),
    ],
)
def test_what_is_true_of_wrong_numbers_is_told(answer, words):
    cases = [(X,), (torch.cat([2 * X.flip(0) + X, X[:1] * 5]),)] if "(4, 3)" in words else [(X,), (2 * X.flip(0) + X,)]
    status, message = told(answer, lambda x: x, *cases)
    assert status == WRONG and words in message


def test_a_single_wrong_number_is_shown_with_the_right_one_and_the_arguments():
    exercise = of(lambda size, kernel: size - kernel + 1, (7, 3), (9, 2), (15, 5))
    sentence = "It gives 5 where 11 is right (for size = 15, kernel = 5). The hints below may help."
    assert judge(exercise, lambda size, kernel: size - 2 * kernel) == (WRONG, sentence)


def of_one_function(solution, **options):
    cases = [(torch.linspace(0, 1, n, dtype=torch.float64),) for n in (3, 4)]
    return of(solution, *cases, **options)


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
def test_tensors_made_on_the_cpu_are_seen_without_a_gpu(answer):
    status, words = judge(of_one_function(lambda x: x + torch.arange(len(x), device=x.device)), answer)
    assert status == REMARK and words.startswith(ON_THE_CPU)


def test_an_int_is_asked_for_and_no_float():
    exercise = of(lambda n, k: n // k, (7, 2), (9, 3), (28, 5))
    assert judge(exercise, lambda n, k: n // k)[0] == CORRECT
    assert judge(exercise, lambda n, k: n / k // 1) == (WRONG, FLOAT_FOR_INT)


def test_several_values():
    exercise = of_one_function(lambda x: (x, x.sum()), mistakes={"The sum is a mean.": lambda x: (x, x.mean())})
    assert judge(exercise, lambda x: [x, sum(x)])[0] == CORRECT
    assert judge(exercise, lambda x: (x, sum(x) / len(x))) == (WRONG, "The sum is a mean.")
    assert judge(exercise, lambda x: x) == (WRONG, "It must return 2 values, but returns a Tensor.")
    assert "but returns 3" in judge(exercise, lambda x: (x, x, x))[1]
    assert "returns shape (3,) where () is wanted" in judge(exercise, lambda x: (x, x))[1]


def test_a_mistake_may_show_in_the_shape_and_be_written_in_several_ways():
    exercise = of(lambda x: x[1:], (X,), mistakes={"All.": lambda x: x, "One.": [lambda x: x[:1], lambda x: x[2:]]})
    for wrong, words in ((lambda x: x * 1, "All."), (lambda x: x[:1], "One."), (lambda x: x[-1:], "One.")):
        assert judge(exercise, wrong) == (WRONG, words)
    assert "returns shape (1, 3) where (2, 3) is wanted" in judge(exercise, lambda x: x[1:2])[1]


def test_noise_that_the_answer_draws_itself_is_the_same_each_time():
    exercise = of_one_function(lambda x: x, mistakes={"There is noise in it.": lambda x: x + torch.randn_like(x)})
    assert judge(exercise, lambda x: torch.randn_like(x) + x) == (WRONG, "There is noise in it.")


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
    assert judge(choice, "c") == (WRONG, "Not c.") and judge(choice, ...)[0] == NOT_DONE
    for other in ("d", "", 2, ["b"], len):
        assert judge(choice, other) == (WRONG, "The answer is one of 'a', 'b', 'c'.")
