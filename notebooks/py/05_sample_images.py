# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Sample images
#
# **You will do:** walk from noise to a picture by hand, one step and then a thousand; take the same walk in 50 steps, then in 25; blend two pictures; look for your samples among the training pictures; put a number on how good they are; and ask for a garment by its class.
#
# **You will learn:** why one step is a mixture, what DDPM and DDIM share and where they part, why the last step adds no noise, how to tell a new picture from a copy, and what a number for quality is worth.
#
# **You need:** about 55 minutes, exercises included (the computer needs about three of them); notebooks 03 (the posterior) and 04 (the network that predicts noise).
#
# ![Two rows of pictures. Above, pure noise turns into a piece of clothing from left to right; below, what the network believes the picture will be: specks first, soon an outline, then details.](../figures/05_trajectory.png)
#
# *One walk. Above is x_t, below is `x0_hat`, what the network expects at the end. Outlines come early, details late.*

# %%
# Finds course_lib: installed, in a folder above this notebook, or in a clone beside it.
import sys
from importlib.util import find_spec
from pathlib import Path

for folder in (Path.cwd(), *Path.cwd().parents, *Path.cwd().glob("*/")):
    if find_spec("course_lib") is None and (folder / "course_lib" / "__init__.py").is_file():
        sys.path.insert(0, str(folder))
missing = [name for name in ("course_lib", "torch", "matplotlib", "anywidget") if find_spec(name) is None]
if missing:
    how = "Choose the course's .venv as the kernel, or run `%pip install -e COURSE_FOLDER` (README.md, 'Install')."
    raise ModuleNotFoundError(f"This kernel has no {' or '.join(missing)}. {how}")
else:
    import course_lib  # noqa: F401 - before torch, whose threads then wait without spinning

# %%
import math
import time
from dataclasses import replace
from itertools import pairwise

import torch
from IPython.display import display

from course_lib import viz, widgets
from course_lib.checkpoint import load_checkpoint, load_shipped
from course_lib.checks import check, progress, solution  # noqa: F401 - solution is for you to call
from course_lib.data import CLASS_NAMES, load_fashion_mnist
from course_lib.forward import q_sample, to_x0_eps
from course_lib.guide import AutoGuidance
from course_lib.interop import to_diffusers
from course_lib.metrics import embed, frechet_distance, measure
from course_lib.runtime import describe_machine, make_generator, pick_device
from course_lib.sample import reverse_step, sample, trajectory
from course_lib.schedule import sampling_times, start_time

device = pick_device()
print(describe_machine())

# %%
shipped = load_shipped(device)
model, schedule = shipped.model, shipped.schedule
T = schedule.T
assert shipped.target == "eps" and schedule.is_variance_preserving and T == 1000
for key, value in shipped.details.items():
    print(f"{key}: {str(value)[:100]}")


def noise(count, seed):
    """count tensors x_T, (count, 1, 28, 28), from N(0, 1)."""
    return torch.randn(count, 1, 28, 28, generator=make_generator(seed, device), device=device)


# %% [markdown]
# ## One reverse step by hand
#
# ![From left to right: a noisy picture, the noise that the network sees in it, the picture that this leaves, and the slightly less noisy mixture of the two.](../figures/05_reverse_step.png)
#
# Take test pictures, which the network has never seen, and bring them to t = 600. The network answers with `eps_hat`, the noise that it sees in them. The sentence of the course, $x_t = a_t x_0 + b_t \varepsilon$, then gives the picture that must be underneath:
#
# $$\hat x_0 = \frac{x_t - b_t\,\hat\varepsilon}{a_t}$$
#
# with $a_t$ = `schedule.signal[t]` and $b_t$ = `schedule.noise[t]`. All four tensors have the shape (B, C, H, W).

# %%
x0 = load_fashion_mnist("test", source="packaged")[::333].to(device)
t = 600
x_t, eps = q_sample(schedule, x0, t, generator=make_generator(0, device))
with torch.no_grad():
    eps_hat = model(x_t, torch.full((len(x_t),), t, device=device))
a_t, b_t = schedule.signal[t].item(), schedule.noise[t].item()
x0_hat, _ = to_x0_eps("eps", schedule, eps_hat, x_t, t)  # what you wrote by hand in notebook 04
print(f"a = {a_t:.2f}, b = {b_t:.2f}, shape {tuple(x_t.shape)}")
assert a_t < b_t  # more noise than picture
viz.show_rows({"x_t": x_t, "eps_hat": eps_hat, "x0_hat": x0_hat, "x_0 (hidden)": x0})

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# `x0_hat` has about the right shape and a smooth, washed-out inside. Many pictures could lie under this x_t, and the answer with the least squared error is their average. Going all the way to `x0_hat` would be the single step that failed in notebook 02.
#
# </details>

# %% [markdown]
# So we don't go there. We go a little way towards it, to a timestep s < t, and ask again. What is a picture at timestep s? The same sentence says it: $a_s$ of the picture and $b_s$ of the noise. We have a guess at both:
#
# $$x_s = a_s\,\hat x_0 + b_s\,\hat\varepsilon$$
#
# This is the step of **DDIM** (denoising diffusion implicit models). Nothing in it is random.

# %% [markdown]
# ### Exercise 1 — The DDIM step  (difficulty 1 of 3, 5 minutes)
#
# Write the step from t to s: first $\hat x_0$, then the mixture at s. You get $\bar\alpha$ as `alpha_bar`, shape (T+1,), and $a_t = \sqrt{\bar\alpha_t}$, $b_t = \sqrt{1 - \bar\alpha_t}$. Clamp nothing yet.


# %%
def my_ddim_step(x_t, eps_hat, t, s, alpha_bar):
    """x_t, eps_hat (B, C, H, W); t, s ints with s < t; alpha_bar (T+1,); returns x_s."""
    return ...  # your code


# %%
check("ddim_step", my_ddim_step)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two lines. The first uses only `alpha_bar[t]`, the second only `alpha_bar[s]`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `eps_hat` appears in both lines: with a minus where the noise of t is taken away, with a plus where the noise of s is put back.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("ddim_step")` in a new cell. The library's function is `course_lib.sample.reverse_step`, here with `eta=0`.
#
# </details>

# %% [markdown]
# The numbers for one pixel in the middle of the first picture, from t = 600 to s = 500:

# %%
s = 500
a_s, b_s = schedule.signal[s].item(), schedule.noise[s].item()
x, e = x_t[0, 0, 14, 14].item(), eps_hat[0, 0, 14, 14].item()
guess = (x - b_t * e) / a_t
print(f"x0_hat = ({x:.3f} - {b_t:.3f} · {e:.3f}) / {a_t:.3f} = {guess:.3f}     (hidden: {x0[0, 0, 14, 14]:.3f})")
print(f"x_s    = {a_s:.3f} · {guess:.3f} + {b_s:.3f} · {e:.3f} = {a_s * guess + b_s * e:.3f}")
assert abs(a_s * guess + b_s * e - (a_s * x0_hat + b_s * eps_hat)[0, 0, 14, 14].item()) < 1e-4

# %% [markdown]
# **DDPM** takes the other road of notebook 03. If x_0 were known, x_s would be a draw from the posterior $q(x_s \mid x_t, x_0)$, a normal distribution. There s was t − 1. For any s < t the same lines hold, with $a_t^2/a_s^2$ for $\alpha_t$ and $b_t^2 - (a_t^2/a_s^2)\,b_s^2$ for $\beta_t$, and the variance is
#
# $$\mathrm{var} = b_s^2\left(1 - \frac{a_t^2\,b_s^2}{a_s^2\,b_t^2}\right)$$
#
# Put $\hat x_0$ in the place of $x_0$ and draw. Part of the old noise is kept, part is replaced by fresh noise $z \sim N(0, I)$, and η, from 0 to 1, scales what is fresh:
#
# $$x_s = a_s\,\hat x_0 + \sqrt{b_s^2 - \eta^2\,\mathrm{var}}\;\hat\varepsilon + \eta\,\sqrt{\mathrm{var}}\;z$$
#
# At η = 1 it is DDPM: with $x_t = a_t \hat x_0 + b_t \hat\varepsilon$ put in, the posterior's mean is the first two terms. At η = 0 it is the DDIM step. Between them lies a whole family, and in all of it the noise at s has the variance $b_s^2$: squared, the two roots add up to it.

# %% [markdown]
# ### Exercise 2 — The DDPM step  (difficulty 2 of 3, 10 minutes)
#
# Write the step with η = 1 from t to s = t − 1. `z` is the fresh noise, of the shape of `x_t`: use it instead of drawing. Clamp nothing yet. For neighbors the variance is
#
# $$\mathrm{var} = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\left(1 - \frac{\bar\alpha_t}{\bar\alpha_{t-1}}\right)$$


# %%
def my_ddpm_step(x_t, eps_hat, z, t, alpha_bar):
    """x_t, eps_hat, z (B, C, H, W); t an int >= 1; alpha_bar (T+1,); returns x at t - 1."""
    return ...  # your code


# %%
check("ddpm_step", my_ddpm_step)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Four lines: `x0_hat` as in exercise 1; `var`; the share of `eps_hat`, which is `(1 - alpha_bar[t - 1] - var).sqrt()`; and the sum of three terms.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The papers write the mean as $(x_t - \beta_t\,\hat\varepsilon/\sqrt{1-\bar\alpha_t})/\sqrt{\alpha_t}$ with $\alpha_t = \bar\alpha_t/\bar\alpha_{t-1}$ and $\beta_t = 1 - \alpha_t$. It is the same number, and a shorter way to the solution.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("ddpm_step")` in a new cell. In the library it is `reverse_step` with `eta=1`, and `schedule.posterior_variance(t - 1, t)` is the variance.
#
# </details>

# %% [markdown]
# Written out for any s < t and any η, and compared with the library's function. Where the variance is 0, no noise is drawn:


# %%
def step_by_hand(x0_hat, eps_hat, t, s, eta, generator):
    a_t, b_t = schedule.signal[t].item(), schedule.noise[t].item()
    a_s, b_s = schedule.signal[s].item(), schedule.noise[s].item()
    var = eta**2 * b_s**2 * (1 - (a_t * b_s / (a_s * b_t)) ** 2)
    x_s = a_s * x0_hat + (b_s**2 - var) ** 0.5 * eps_hat
    if var > 0:
        x_s = x_s + var**0.5 * torch.randn(x_s.shape, generator=generator, device=x_s.device)
    return x_s


for eta in (0.0, 0.5, 1.0):
    by_hand = step_by_hand(x0_hat, eps_hat, t, s, eta, make_generator(1, device))
    library = reverse_step(schedule, x0_hat, eps_hat, t, s, eta, generator=make_generator(1, device))
    torch.testing.assert_close(by_hand, library)
    print(f"eta = {eta}: the same step, up to {(by_hand - library).abs().max():.1g}")

# %% [markdown]
# ## The loop
#
# Ask, step, ask again: that is all of sampling. `times` falls from T to 0, for instance 1000, 950, 900, …, 50, 0, and each step goes from one of them to the next.
#
# ### Exercise 3 — The sampling loop  (difficulty 2 of 3, 10 minutes)
#
# Write it with the DDIM step of exercise 1 (call `my_ddim_step` if you have solved it), along any falling list of times. `model(x, t)` wants one timestep per picture: an int64 tensor of shape (B,), on the device of `x`. The model may come straight from a training, in train mode: put it into eval mode. No gradients are needed: work under `torch.no_grad()`. Ask the network once in each step, clamp nothing yet, and leave the list `times` as it is.


# %%
def my_sample(model, x_T, times, alpha_bar):
    """x_T (B, C, H, W); times a list of ints that ends with 0; alpha_bar (T+1,); returns x_0."""
    return ...  # your code


# %%
check("sample", my_sample)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `for t, s in pairwise(times):` gives (1000, 950), (950, 900), …, (50, 0). In the loop: ask at t, work out `x0_hat`, mix at s, and go on with that.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `model.eval()` before the loop, and the loop under `with torch.no_grad():`. The timesteps are `torch.full((len(x),), t, device=x.device)`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("sample")` in a new cell. The library's loop is `course_lib.sample.trajectory`, which also clamps, draws fresh noise and looks back; `sample` returns its last picture.
#
# </details>

# %% [markdown]
# Written out for any η. Two lines are new: the `clamp`, since pictures lie in [−1, 1], and the one in which `eps_hat` follows, so that the two still mix to x_t. (Our model is in eval mode: `load_shipped` hands it out so.)


# %%
@torch.no_grad()
def sample_by_hand(x, times, eta, generator):
    for t, s in pairwise(times):  # (T, 950), (950, 900), ..., (50, 0)
        a, b = schedule.at(t, x)
        eps_hat = model(x, torch.full((len(x),), t, device=x.device))
        x0_hat = ((x - b * eps_hat) / a).clamp(-1, 1)
        eps_hat = (x - a * x0_hat) / b
        x = step_by_hand(x0_hat, eps_hat, t, s, eta, generator)
    return x


times = sampling_times(T, 20)
by_hand = sample_by_hand(noise(4, seed=2), times, 1.0, make_generator(3, device))
library = sample(model, schedule, noise(4, seed=2), times=times, eta=1.0, generator=make_generator(3, device))
torch.testing.assert_close(by_hand, library, atol=1e-3, rtol=0)
print("By hand and by the library: the same pictures.")
viz.to_png(by_hand, scale=4)

# %% [markdown]
# The library's function refuses times that lead nowhere:

# %%
for wrong_times in ([0, 500, 1000], [1000, 500], [1001, 0]):
    try:
        sample(model, schedule, noise(1, seed=2), times=wrong_times)
    except ValueError as error:
        print(error)

# %% [markdown]
# The clamp is not cosmetic. At t = T the schedule leaves next to nothing of the picture, and dividing by $a_T$ blows up the network's smallest error:

# %%
blown_up = (schedule.noise[T] / schedule.signal[T]).item()
print(f"b_T / a_T = {blown_up:,.0f}")
assert 20_000 < blown_up < 21_000 and abs(0.001 * blown_up - 20) < 0.5
first = next(trajectory(model, schedule, noise(4, seed=2), clip=False))
print(f"without the clamp, x0_hat at t = {first.t} reaches {first.x0_hat.abs().max():,.0f}")
assert first.x0_hat.abs().max() * schedule.signal[T - 1] > 1

# %% [markdown]
# An error of 0.001 in the noise becomes an error of 20 in the picture, ten times the range from black to white. So the very first guess is wild, clamped or not. Clamped, it does little harm as long as the next s is near T, where $a_s$ lets almost nothing of it in. Without the clamp it does harm even there: $a_{T-1}$ times the number above is more than black and white are away from gray. (Networks that predict v instead of eps have no such division.)
#
# ![Two rows of pictures. Above, pure noise turns into a piece of clothing from left to right; below, what the network believes the picture will be: specks first, soon an outline, then details.](../figures/05_trajectory.png)
#
# Now all thousand steps of DDPM, for six pictures. 1000 calls of the network, one after another: this takes a while.
#
# *Below is a slider. Where it does not run (on GitHub, in print), the picture above shows what it is about; `make lab` opens the live one.*

# %%
start = time.perf_counter()
steps = list(trajectory(model, schedule, noise(6, seed=0), eta=1.0, generator=make_generator(1, device)))
seconds_ddpm = (time.perf_counter() - start) / 6
print(f"{len(steps)} steps, {seconds_ddpm:.1f} seconds per picture")
assert len(steps) == T and steps[0].t == T and steps[-1].s == 0
widgets.trajectory_player([*steps[:-1:25], steps[-1]], columns=3)

# %% [markdown]
# Press play, or drag. How long does x_t look like noise? When do you first know what it will be? To measure it, follow the distance of `x0_hat` from the final picture (root mean square over all pixels). The red line marks the timestep with as much picture as noise:

# %%
final = steps[-1].x_s
t_of = [step.t for step in steps]
far = [(step.x0_hat - final).square().mean().sqrt().item() for step in steps]
even = int((schedule.signal > schedule.noise).sum())
print(
    f"half picture, half noise at t = {even}; x0_hat at 900, 500, 100 is off by",
    [round(far[T - t], 2) for t in (900, 500, 100)],
)
assert 490 <= even <= 500 and far[T - 900] > far[T - 500] > far[T - 100]
viz.plot_curves({"distance": (t_of, far)}, xlabel="t (sampling goes from right to left)", ylabel="off by", mark=even)

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# Until about t = 500, x_t is more noise than picture, and looks it. `x0_hat` knows by then whether it is a shoe or a shirt; what is left are details. Early on it changes its mind, and with DDPM it may do so late, since every step adds fresh noise that the network has to explain.
#
# </details>

# %% [markdown]
# ## No noise at the last step
#
# The loop has no special case for its last step, from t = 1 to s = 0. Does it need one?
#
# ### Exercise 4 — Count the draws  (difficulty 1 of 3, 2 minutes)
#
# `x_T` has been drawn. How often does DDPM (η = 1) draw noise after that, over all T = 1000 steps?

# %%
my_draws = ...  # a number

# %%
check("noise_draws", my_draws)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# At which s is var = 0? Look at $b_s$ in its formula.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("noise_draws")` in a new cell. `(schedule.posterior_variance(torch.arange(T), torch.arange(1, T + 1)) > 0).sum()` counts it.
#
# </details>

# %% [markdown]
# ![One sample four times: as it is, and with noise added at the last step of a run with 1000, 50 and 10 steps. The last one is visibly grainy.](../figures/05_last_step.png)
#
# At s = 0 the tables say $a_0 = 1$ and $b_0 = 0$. So var = 0, the noise terms vanish, and the last step hands out `x0_hat` as it is. No `if` is needed:

# %%
var = schedule.posterior_variance(torch.zeros(T, dtype=torch.int64), torch.arange(1, T + 1))
assert (var == 0).all()  # exactly 0, from whichever t the last step starts
assert torch.equal(steps[-1].x_s, steps[-1].x0_hat)
print(f"posterior variance at s = 0: {var.max():g}; the last x_s is x0_hat, bit for bit")

# %% [markdown]
# Much code gets this wrong. DDPM's other choice of variance, the one of the step forward, is not 0 at s = 0: it is $b_t^2$, where t is the last timestep before 0. Then grain is added to a picture that was finished. Let us add on purpose what runs of 1000, 50 and 10 steps would add, and measure it:

# %%
rows = {"right": final}
for count in (1000, 50, 10):
    t_last = sampling_times(T, count)[-2]
    _, std = schedule.step_kernel(0, t_last)
    rows[f"wrong, {count} steps"] = final + std.item() * noise(6, seed=4)
    measured = (rows[f"wrong, {count} steps"] - final).var().item()
    print(f"{count:4} steps, last from t = {t_last:3}: variance of the grain {measured:.6f}, b_t² = {std**2:.6f}")
    assert abs(measured / schedule.noise[t_last].item() ** 2 - 1) < 0.1
viz.show_rows(rows)

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# With 1000 steps nobody sees it: the grain is about 0.006, less than one step of a byte (0.008). That is why this mistake lives so long. With 50 steps you may see it on the black background, with 10 it is plain.
#
# </details>

# %%
grain, byte = schedule.noise[1].item(), 2 / 255
print(f"grain {grain:.4f}, one byte {byte:.4f}")
assert abs(grain - 0.006) < 0.0005 and abs(byte - 0.008) < 0.0005 and grain < byte

# %% [markdown]
# ## Fifty steps instead of a thousand
#
# Nothing in the step asks that s = t − 1. `sampling_times` picks 50 timesteps of the 1000, evenly, and the same network serves. Below it gets the same 16 tensors x_T, in 50 steps, for five values of η from 0 to 1.
#
# ### Exercise 5 — Predict what η does  (difficulty 2 of 3, 2 minutes)
#
# Same x_T, same network, more and more fresh noise on the way. What becomes of the pictures as η grows?
#
# - **a** They stay the same pictures, and get grainier.
# - **b** They stay the same pictures, and get sharper.
# - **c** They become other pictures, with no more grain than before.

# %%
my_fresh_noise = ...  # "a", "b" or "c"

# %%
check("fresh_noise", my_fresh_noise)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Square and add the two roots in the step: how much noise is there at s for η = 0, and how much for η = 1? And at s = 0?
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("fresh_noise")` in a new cell, or go on: the next pictures show it.
#
# </details>
#
# ![The same eight starting points sampled with eta 0, one half and 1: most of them become other pictures as eta grows.](../figures/05_eta.png)
#
# *Below is a slider. Where it does not run (on GitHub, in print), the picture above shows what it is about; `make lab` opens the live one.*

# %%
times = sampling_times(T, 50)
print(times[:4], "...", times[-3:])
start = time.perf_counter()
by_eta = {
    eta: sample(model, schedule, noise(16, seed=5), times=times, eta=eta, generator=make_generator(6, device))
    for eta in (0.0, 0.25, 0.5, 0.75, 1.0)
}
print(f"{(time.perf_counter() - start) / (5 * 16):.2f} seconds per picture; DDPM took {seconds_ddpm:.2f}")
assert times[:2] == [1000, 980] and len(times) == 51
widgets.eta_explorer(by_eta, columns=8)

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# For small η some pictures only change a little; with much fresh noise the starting point is forgotten, and others appear. At η = 0 an error that is made early stays to the end; fresh noise covers it, and the network can mend it. Blotches and pictures that are nearly all white or all black are such errors: for which η do you see fewest?
#
# </details>

# %% [markdown]
# η = 0 uses no randomness after x_T. In this course that is strict: nothing is drawn, so the generator stays where it was. And the same seed gives the same picture, for every η:

# %%
generator = make_generator(7, device)
before = generator.get_state()
once = sample(model, schedule, noise(2, seed=8), times=sampling_times(T, 10), eta=0.0, generator=generator)
assert torch.equal(generator.get_state(), before)
sample(model, schedule, noise(2, seed=8), times=sampling_times(T, 10), eta=1.0, generator=generator)
assert not torch.equal(generator.get_state(), before)

for eta in (0.0, 1.0):
    runs = [
        sample(model, schedule, noise(2, 8), times=sampling_times(T, 10), eta=eta, generator=make_generator(7, device))
        for _ in range(2)
    ]
    assert torch.equal(*runs)
print("eta = 0 draws nothing; same seed, same picture.")

# %% [markdown]
# How many steps are enough? With η = 0 the walk follows a curve from x_T to a picture (the solution of a differential equation), and more steps follow it more closely. Take 250 steps as the truth, and see how far 5, 10 and 50 are from it:

# %%
rows, seconds = {}, {}
for count in (5, 10, 50, 250):
    start = time.perf_counter()
    rows[f"{count} steps"] = sample(model, schedule, noise(8, seed=9), times=sampling_times(T, count), eta=0.0)
    seconds[count] = (time.perf_counter() - start) / 8
off = {n: (rows[f"{n} steps"] - rows["250 steps"]).square().mean().sqrt().item() for n in seconds}
for n in seconds:
    print(f"{n:3} steps: {seconds[n]:.2f} s per picture, distance from 250 steps {off[n]:.2f}")
assert off[5] > off[10] > off[50]
viz.show_rows(rows)

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# The time is nearly proportional to the number of steps. From 50 to 250 steps you have to search for differences. With 5 steps the pictures are coarse, also because the wild first guess at t = T weighs much when the next s is far away.
#
# </details>

# %% [markdown]
# ### Fewer still: look back once
#
# The step from t to s holds $\hat x_0$ fixed, as it was at t, though on the way to s the network would have changed its mind. Its last two answers say in which direction. So reach ahead along the straight line through them, to the middle of the step (DPM-Solver++, second order). "Middle" is meant on the clock on which the curve is smooth, $\lambda = \log(a/b)$. With $\hat x_0'$ the answer of the step before, at t′:
#
# $$D = \hat x_0 + \frac{\hat x_0 - \hat x_0'}{2r}, \qquad r = \frac{\lambda_t - \lambda_{t'}}{\lambda_s - \lambda_t}$$
#
# D takes the place of $\hat x_0$ in the same step, $\hat\varepsilon$ follows from it, and it costs no further call of the network. The first step has nothing to look back to; the last goes to s = 0, where λ is infinite. Both stay as they were.


# %%
@torch.no_grad()
def second_order(x, times, eta, generator):
    clock = [math.log(a / b) if b else math.inf for a, b in zip(schedule.signal, schedule.noise, strict=True)]
    before = None
    for t, s in pairwise(times):
        a, b = schedule.at(t, x)
        x0_hat = ((x - b * model(x, torch.full((len(x),), t, device=x.device))) / a).clamp(-1, 1)
        D = x0_hat
        if before is not None and s > 0:
            t_before, x0_before = before
            r = (clock[t] - clock[t_before]) / (clock[s] - clock[t])
            D = x0_hat + (x0_hat - x0_before) / (2 * r)
        before = t, x0_hat
        x = step_by_hand(D, (x - a * D) / b, t, s, eta, generator)
    return x


few = sampling_times(T, 25)
for eta in (0.0, 1.0):
    by_hand = second_order(noise(4, seed=2), few, eta, make_generator(3, device))
    options = dict(times=few, eta=eta, order=2, generator=make_generator(3, device))
    torch.testing.assert_close(by_hand, sample(model, schedule, noise(4, seed=2), **options), atol=1e-3, rtol=0)
print("order=2 by hand and by the library: the same pictures.")

# %% [markdown]
# One thing stands in the way: the wild first guess at t = T. The first step has nothing to look back to, so both orders make it alike: of 25 steps it goes to s = 960, mixes $a_s$ = 0.06 of that guess into x_s, and with η = 0 nothing takes it out again. The second order then has little left to mend. And at T there is nothing to guess yet. So begin a little later, where the noise is not 20,000 times as strong as the picture but at most 80 times. That is still as good as noise alone, so N(0, I) serves as before. `start_time` finds the timestep, and below each order has 25 steps, from T and from there. The truth is again 250 steps, each time from the same start.

# %%
first = start_time(schedule)
ratio = schedule.noise[1:] / schedule.signal[1:]  # of t = 1 to T
print(f"noise over picture: {ratio[-1]:,.0f} at t = {T}, {ratio[first - 1]:.0f} at t = {first}")
assert sampling_times(T, 25)[1] == 960 and round(schedule.signal[960].item(), 2) == 0.06
assert T - first == 9 and ratio[-1] > 20_000 and ratio[first - 1] <= 80 < ratio[first]

ends_at, x_start = {}, noise(16, seed=9)
for t in (T, first):
    truth = sample(model, schedule, x_start, times=sampling_times(T, 250, start=t), eta=0.0)
    for order in (1, 2):
        short = sample(model, schedule, x_start, times=sampling_times(T, 25, start=t), eta=0.0, order=order)
        each = (short - truth).square().mean(dim=(1, 2, 3)).sqrt()  # (16,)
        ends_at[t, order] = each.median().item()  # one picture that becomes another would rule a mean
        print(f"25 steps from t = {t}, order {order}: distance from 250 steps, median {ends_at[t, order]:.3f}")
gain_T, gain_first = (ends_at[t, 1] / ends_at[t, 2] for t in (T, first))
assert ends_at[first, 1] < 0.8 * ends_at[T, 1] and ends_at[first, 2] < 0.8 * ends_at[T, 2]
assert gain_first > 1.2 and gain_first > gain_T

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# Nine timesteps of a thousand are left out, and both orders come much nearer to their curve: much of the error of 25 steps was made in the very first one. From T the second order earns little or nothing. From the later start it clearly does, and costs nothing.
#
# </details>
#
# With fresh noise (η = 1) it works too, and this is how notebook 04 drew its samples: 25 steps from `start_time`, `order=2, eta=1.0`. Below it is measured what the fresh noise is good for.

# %% [markdown]
# ## Between two pictures
#
# ![Nine pictures in a row: the first and the last are samples, those between blend from one into the other.](../figures/05_interpolation.png)
#
# With η = 0 every x_T has one picture. So blend two tensors of noise, $z_1$ and $z_2$, and look at what lies between. Is the straight line a good road?
#
# ### Exercise 6 — Halfway  (difficulty 1 of 3, 2 minutes)
#
# $z_1$ and $z_2$ are independent, both from N(0, I). What is the variance of $\tfrac12 z_1 + \tfrac12 z_2$?

# %%
my_halfway = ...  # a number

# %%
check("halfway", my_halfway)

# %% [markdown]
# <details><summary>Hint</summary>
#
# It is the variance of a mixture, from notebook 01, at amount 0.5: the weights come squared.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("halfway")` in a new cell, or go on: the next code cell measures its root, the standard deviation.
#
# </details>

# %% [markdown]
# The network was trained on noise of variance 1 at t = T and has never seen other. On the straight line the variance sags, as in notebook 01, so it is a bad road. Tensors of noise all have about the same length, $\sqrt{784}$, so they lie near a sphere; the arc on it keeps the length (θ is the angle between the two):
#
# $$z(c) = \frac{\sin((1-c)\,\theta)}{\sin\theta}\,z_1 + \frac{\sin(c\,\theta)}{\sin\theta}\,z_2$$


# %%
def spherical(z1, z2, c):
    """Between z1 (c = 0) and z2 (c = 1) on the arc; both (C, H, W)."""
    angle = torch.acos((z1 * z2).sum() / (z1.norm() * z2.norm()))
    return (torch.sin((1 - c) * angle) * z1 + torch.sin(c * angle) * z2) / torch.sin(angle)


shares = torch.linspace(0, 1, 9).tolist()
ends = [noise(2, seed) for seed in (10, 11)]
line = torch.stack([(1 - c) * z1 + c * z2 for z1, z2 in ends for c in shares])
arc = torch.stack([spherical(z1, z2, c) for z1, z2 in ends for c in shares])
middle = {name: z[[4, 13]].std().item() for name, z in {"line": line, "arc": arc}.items()}
print("standard deviation halfway:", {name: round(std, 2) for name, std in middle.items()})
assert abs(middle["line"] - 0.5**0.5) < 0.06 and abs(middle["arc"] - 1) < 0.06

# %% [markdown]
# Two pairs of ends, nine shares c = 0, 1/8, …, 1 of the second each, first along the arc, then along the line:

# %%
both = sample(model, schedule, torch.cat([line, arc]), times=times, eta=0.0)
names = ("1, line", "2, line", "1, arc", "2, arc")
pictures = dict(zip(names, both.split(9), strict=True))
viz.show_rows({name: pictures[name] for name in sorted(names)}, titles=[f"{k}/8" for k in range(9)])

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# Along the arc the pictures are as rich as at the ends, and neighbors are alike. It is no cross-fade: shapes change, and in some places they jump. Along the line the pictures halfway are smooth and flat: too little noise looks to the network like a picture without details.
#
# </details>

# %% [markdown]
# ## Your model, the shipped one, the training pictures
#
# Notebook 04 saved your own network as `my_unet.safetensors` in this folder. If it is there, it gets the same x_T as the shipped one.

# %%
x_T = noise(64, seed=12)
samples = sample(model, schedule, x_T, times=times, eta=1.0, generator=make_generator(13, device))
rows = {"shipped": samples[:10]}
mine = None
if Path("my_unet.safetensors").is_file():
    mine = load_checkpoint("my_unet.safetensors", device)
    print("yours:", mine.details)
    options = dict(times=sampling_times(mine.schedule.T, 50), eta=1.0, target=mine.target)
    rows["yours"] = sample(mine.model, mine.schedule, x_T[:10], **options, generator=make_generator(13, device))
else:
    print("There is no my_unet.safetensors here yet: run notebook 04, then this cell again. On with the shipped one.")
viz.show_rows(rows)

# %% [markdown]
# Are the samples new, or did the network learn pictures by heart? For each sample, look for the nearest training pictures: the Euclidean distance $\lVert x - x'\rVert$ over all 784 pixels.
#
# ![Samples in the first row, and under each the three training pictures nearest to it, with their distances: similar clothes, none the same.](../figures/05_nearest.png)

# %%
train = load_fashion_mnist("train")
print(train)
training = train[:]
viz.nearest_table(samples[:8].cpu(), training)

# %% [markdown]
# A distance means nothing alone. The honest yardstick is *held-out* pictures: test pictures are real, and the network has certainly not copied them. If samples were copies, they would be much nearer to the training set than test pictures are.

# %%
test = load_fashion_mnist("test", source="packaged")
chosen = torch.randperm(len(test), generator=make_generator(14))[:300]
distances = {
    "a training picture": viz.nearest(training[:64], training, k=1)[0],
    "samples": viz.nearest(samples.cpu(), training, k=1)[0],
    "test pictures": viz.nearest(test[chosen], training, k=1)[0],
}
for name, d in distances.items():
    print(f"{name}: nearest {d.min():.1f}, median {d.median():.1f}")
assert distances["a training picture"].max() < 0.2  # a copy is found, at distance 0 up to rounding
assert distances["samples"].min() > 1  # no sample is one
assert viz.nearest(noise(64, 18).cpu(), training, k=1)[0].min() > distances["samples"].max()  # noise is farther

# %%
curves = {}
for name in ("samples", "test pictures"):
    ranked = distances[name].flatten().sort().values
    curves[name] = (ranked.tolist(), torch.linspace(0, 1, len(ranked)).tolist())
viz.plot_curves(curves, xlabel="distance to the nearest training picture", ylabel="share of the pictures")

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# Copies would be at 0; no sample comes near it. If the curve of the samples lies left of that of the test pictures, don't call it memory yet: samples are smoother and more ordinary than real pictures, and the ordinary has near neighbors. The nearest pictures in the table show it: the same kind of thing, another thing.
#
# </details>
#
# **Explain it in your own words:** somebody's samples are all farther from every training picture than yours. Is their network better?
#
# <details><summary>Model answer</summary>
#
# Not for that reason. Pure noise is farther from every training picture than any of these samples, and it is no clothes at all. The distance answers one question, whether something was copied. How good the samples are is another question, and needs another number.
#
# </details>

# %% [markdown]
# ## How good are they?
#
# Pixels cannot say. Show the pictures to a network instead: a small classifier of Fashion-MNIST comes with the course and makes 64 *features* of each picture. Features of many pictures form a cloud, with a mean μ, shape (64,), and a covariance Σ, (64, 64). The **Fréchet distance** of the samples' cloud from that of the training pictures (μ′, Σ′) is
#
# $$d^2 = \lVert \mu - \mu' \rVert^2 + \mathrm{tr}\left(\Sigma + \Sigma' - 2\,(\Sigma\,\Sigma')^{1/2}\right)$$
#
# Papers call it FID when the features come from a network named Inception (arXiv:1706.08500). Ours is *not* FID. Other features, other pictures and another number of samples give other numbers: compare it with nothing outside this course, and inside it only where the number of samples and the real pictures are the same.
#
# A number needs company. Its interval: other samples would give another number. Its *floor*: the distance of as many real pictures that were held out. The **kernel distance** below it compares more than mean and covariance, and on average does not depend on how many samples there are. For both, less is better. *Precision* is the share of samples that lie among real pictures, *recall* the share of real pictures that lie among samples. *Classifier is sure*: the share of which it is at least 90 % sure. *Nearest training picture* is a distance as in the section before, but divided by 28 (the root of the *mean* square), and the nearest of 10,000. *Nearer than 99 % of the real*: the share that lies nearer to a training picture than 99 % of the held-out ones do; it is about 1 % for real pictures, copies would raise it, and so do pictures that are smoother than real ones.


# %%
def five_hundred(made, eta, clip=True):
    """500 samples of a checkpoint's network, in 25 steps of second order."""
    times = sampling_times(made.schedule.T, 25, start=start_time(made.schedule, made.target))
    options = dict(times=times, order=2, target=made.target, batch_size=100, clip=clip)
    return sample(made.model, made.schedule, noise(500, 15), eta=eta, **options, generator=make_generator(16, device))


known = load_fashion_mnist("train", source="packaged")
report = measure(five_hundred(shipped, 1.0), known, test, generator=make_generator(17))
print(report)

# %%
nothing = frechet_distance(embed(noise(500, 15)).features, embed(known).features)
print(f"pure noise {nothing:.0f}, samples {report.frechet.value:.1f}, real pictures {report.frechet.floor:.2f}")
assert nothing > 5 * report.frechet.value and report.frechet.value > report.frechet.floor
unsure = min(range(10), key=lambda label: report.real_classes.by_class[label])
print(f"of real pictures, the classifier is sure least often where it sees: {CLASS_NAMES[unsure]}")
assert CLASS_NAMES[unsure] == "Shirt"

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# The samples are much nearer to the real pictures than noise is, and the floor is still below them. The lower table says where to look: it sorts all pictures by what the classifier takes them for, and gives the share of which it is at least 90 % sure. Of shirts it is seldom sure, but that is so for real shirts as well, which differ from pullovers and coats by small things. Judge a class by the difference between its two shares.
#
# </details>
#
# **Explain it in your own words:** the floor compares real pictures with real pictures. Why is it not 0?
#
# <details><summary>Model answer</summary>
#
# They are *other* real pictures, and few. The mean and the covariance of 500 pictures differ by chance from those of the whole set, in 64 directions, and every difference adds to the distance: none can take away. So even perfect samples would get about the floor, and a distance below it would be no merit but luck, or a copy.
#
# </details>

# %% [markdown]
# Now the question from above: what is fresh noise good for? The same network, the same x_T, the same number of calls, with η = 1 and η = 0; your network, if you have trained it:

# %%
name, made = ("your network", mine) if mine else ("the shipped network", shipped)
for eta in (1.0, 0.0):
    d = report.frechet
    if mine or eta == 0:
        d = measure(five_hundred(made, eta), known, test, generator=make_generator(17)).frechet
    print(f"{name}, η = {eta:g}: distance {d.value:.1f} ({d.low:.1f} to {d.high:.1f})")

# %% [markdown]
# The intervals overlap: 500 samples do not tell the two apart. With 1,000 of the shipped network (benchmarks/README.md), fresh noise comes out ahead from 25 calls on, though still within the intervals; with 5 calls it is clearly behind. Why could it help? Without it, an error that is made early is carried to the end; with it, each step covers some of what went wrong before, and the network gets another try. But there must be steps enough for that.

# %% [markdown]
# ## Guided by a worse version of itself
#
# The course comes with a second, *weak* network: the same U-Net, trained for three minutes. It errs where the good one errs, as a rule to the same side and farther. So its answer points back the way the good one has come. Go on, past the good answer, by w − 1 times the difference:
#
# $$\hat\varepsilon = \hat\varepsilon_\text{good} + (w - 1)\,(\hat\varepsilon_\text{good} - \hat\varepsilon_\text{weak})$$
#
# This is **autoguidance**; w is its *strength*, and each step takes two calls. Before you look: what are w = 0 and w = 1? Below, the same x_T and the same fresh noise for four strengths. (`clip=False`: guided guesses may leave [−1, 1] for a while, and where they are cut off, looking back sees a step that nobody made. And while there is more than twice as much noise as picture, b/a > 2, `AutoGuidance` leaves the good network alone: there it is decided what the picture will show and how bright it will be, and to push one such guess away from the other makes pictures too bright or too alike.)

# %%
weak = load_shipped(device, weak=True)
print(f"trained for {shipped.details['minutes']:.0f} and for {weak.details['minutes']:.0f} minutes")
later, rows = sampling_times(T, 25, start=first), {}
for w in (0.0, 1.0, 2.0, 4.0):
    guided = AutoGuidance(model, weak.model, schedule, strength=w)
    options = dict(times=later, order=2, eta=1.0, clip=False, generator=make_generator(19, device))
    rows[f"w = {w:g}"] = sample(guided, schedule, noise(10, seed=20), **options)
print(f"guided from t = {guided.start} on")
viz.show_rows(rows)

# %% [markdown]
# In numbers, by 500 samples of each (the distance of the good network alone is not quite the one above: this time nothing is clipped):

# %%
pair = replace(shipped, model=AutoGuidance(model, weak.model, schedule))  # strength 2
found = {}
for name, made in (("alone", shipped), ("guided", pair)):
    one = found[name] = measure(five_hundred(made, 1.0, clip=False), known, test, generator=make_generator(17))
    print(f"{name:6} distance {one.frechet.value:.2f} ({one.frechet.low:.2f} to {one.frechet.high:.2f}),", end=" ")
    print(f"recall {one.recall.value:.1%}, precision {one.precision.value:.1%}")
assert found["guided"].recall.value > found["alone"].recall.value + 0.01
assert found["guided"].precision.value < found["alone"].precision.value

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# From the printed t on, w = 0 is the weak network and w = 1 the good one alone. At w = 2 most pictures are still the same garment, now with clearer edges. At w = 4 they are overdrawn: hard black and white, with halos.
#
# Recall has grown: more of the real pictures have samples near them. Precision, the other way round, falls a little: some samples are bolder than real pictures. And the distance? 500 samples leave wide intervals, and guided, each step asks twice. So benchmarks/README.md compares, with 1,000 samples, at the same number of calls: with 50 the guided samples come out nearer to real pictures, with 25 those of the good network alone, both within the intervals; with 10 the good network alone is nearer by far.
#
# </details>

# %% [markdown]
# If you have trained your own network in notebook 04, here are ten pictures of it, from the same noise, alone and guided by its own average of an eighth of the way:

# %%
if mine and Path("my_unet_weak.safetensors").is_file():
    mine_weak = load_checkpoint("my_unet_weak.safetensors", device)
    assert mine_weak.target == mine.target, "run notebook 04 to its end, so that both are of one training"
    later = sampling_times(mine.schedule.T, 25, start=start_time(mine.schedule, mine.target))
    options = dict(times=later, order=2, eta=1.0, clip=False, target=mine.target)
    rows = {}
    for name, net in (
        ("yours", mine.model),
        ("guided", AutoGuidance(mine.model, mine_weak.model, mine.schedule)),
    ):
        rows[name] = sample(net, mine.schedule, noise(10, seed=20), **options, generator=make_generator(19, device))
    display(viz.show_rows(rows))
else:
    print("There are no two networks of yours here: run notebook 04, then this notebook again.")

# %% [markdown]
# ## Ask for a garment
#
# So far nobody chose what to sample: the network knows no classes. One more comes with the course that does, `UNet(num_classes=10)`. It has one table more, with a row of numbers for each class. While it trained, it was told the class y of every picture, and the row of y, 128 numbers, was added to the vector `emb` that two linear layers make of t (notebook 04); all else was the same. To sample, tell it what you want. Below, all columns of a row begin with the same noise, and with η = 0 none is added:

# %%
told = load_shipped(device, classes=True)
garments, rows = torch.arange(10, device=device), {}
walk = dict(times=sampling_times(T, 25, start=first), order=2, clip=False)
for seed in range(21, 25):
    x_T = noise(1, seed).expand(10, -1, -1, -1)
    rows[f"x_T {seed}"] = sample(told.model, schedule, x_T, eta=0.0, y=garments, **walk)
viz.show_rows(rows, titles=CLASS_NAMES)

# %% [markdown]
# Does it draw what it is told to? The classifier shall say. And guide it once more by the weak network, which knows no classes. So the two differ in what y tells, besides the length of their training: to go on past the good answer also makes every picture a clearer case of its class. The last line guides from the first step on (`largest=80`, the b/a of where it begins), the one before as late as above. Before you look: what is lost, and when? The *spread* below is the variance of the 64 features inside a class, added up: how much two pictures of one class differ.

# %%
count = 300
asked = torch.arange(count, device=device) % 10


def named_and_spread(pictures, labels):
    """Share of pictures that the classifier names as labelled, and the spread inside a class."""
    seen = embed(pictures)
    inside = [seen.features[labels == label].var(0).sum() for label in range(10)]
    return (seen.probabilities.argmax(1) == labels).double().mean().item(), torch.stack(inside).mean().item()


results = {"real, held out": named_and_spread(test, test.labels)}
for name, w, limit in (("w = 1", 1.0, 2.0), ("w = 2, late", 2.0, 2.0), ("w = 2, always", 2.0, 80.0)):
    guided = AutoGuidance(told.model, weak.model, schedule, strength=w, largest=limit)
    options = dict(**walk, eta=1.0, y=asked, batch_size=100, generator=make_generator(16, device))
    results[name] = named_and_spread(sample(guided, schedule, noise(count, 15), **options), asked.cpu())
for name, (named, spread) in results.items():
    print(f"{name:14} {named:.1%} named as asked, spread {spread:.1f}")
(real, real_spread), (alone, alone_spread), (late, late_spread), (always, always_spread) = results.values()
assert late > alone + 0.03 and min(late, always) > real and abs(alone - real) < 0.1 and abs(always - late) < 0.04
assert real_spread > alone_spread and late_spread > 0.97 * alone_spread and always_spread < 0.9 * alone_spread

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# In the rows, y decides which garment it is, and the noise all the rest: where one garment has a pattern, or is dark, others of its row are, too.
#
# Without guidance the classifier names nearly as many as of real pictures; with w = 2 more than of real ones. Guided late, that costs nothing: the spread stays what it was. Guided always, the classifier names about as many, and the spread, which is less than that of real pictures already, shrinks by more than a tenth. In the first steps it is decided what the picture will show: guided there, real shirts that could as well be pullovers are not drawn any more. Later steps make clear what was decided. So guidance towards a class pays for clear pictures with variety, and the more so the earlier it begins.
#
# This is the idea of **classifier-free guidance**, with which text-to-image models sample: away from the answer to no text, towards that to yours. There one network gives both, since in training the text was left out now and then.
#
# </details>

# %% [markdown]
# The exercises of this notebook, by the last run of each check:

# %%
progress()

# %% [markdown]
# ## In three lines
#
# - One step: guess picture and noise, then mix them again as at s. η says how much of the noise is fresh.
# - The loop is a few lines; DDPM, DDIM and any number of steps are the same loop. The last step adds nothing.
# - With η = 0 noise and picture belong together: same seed, same picture, and blends along the arc. With η = 1 errors are covered.
#
# ## Honest limits
#
# - The distances know only what their classifier looks at, and 500 samples are few: differences within the intervals mean nothing.
# - The search for copies compares pixels: a copy shifted by two pixels would escape it. And where only the subset is on the machine, it searches a sixth of the pictures that the shipped network was trained on.
# - Ten classes are ten words. Networks that draw from a sentence are told many numbers made of it, in place of one row of a table.
# - With very few steps the second order leaves the curve as well. Networks that need only one to four are trained for it (consistency models, arXiv:2303.01469).
#
# ## On your own
#
# 1. Start DDIM below T, again with 5 steps: `times=sampling_times(T, 5, start=900)`, from `noise(8, seed=9)`, with `eta=0.0`. Is it better than the 5 steps above, and why?
# 2. Sample with `clip=False`, in 50 steps and in 1000. What goes wrong, and when?
# 3. Bring a test picture to t = 300, 500 or 700 with `q_sample` and sample from there, `times=sampling_times(T, 50, start=500)`. What is kept of it? Then let the network that knows classes end the walk, with another class than the picture's.
# 4. Look for mirrored copies: `viz.nearest(samples.flip(3).cpu(), training)`.
# 5. Guide the shipped network from t = T on, with `largest=1e6` in `AutoGuidance`. What happens to the pictures?
# 6. Take the network to **diffusers**, the library that most of the field uses. `to_diffusers(schedule)` makes a scheduler of theirs that walks as `sample` does (it counts from 0: our t is its timestep plus 1). Here it is in their loop; then read what `help(to_diffusers)` says of η and order, and try DDPM (change `ours` below with it).

# %%
if find_spec("diffusers") is None:
    print("diffusers is not here: run `%pip install diffusers`, restart the kernel, and run all cells again.")
else:
    scheduler = to_diffusers(schedule, eta=0.0, order=2)
    scheduler.set_timesteps(25)
    x = noise(8, seed=9)
    for t in scheduler.timesteps:
        with torch.no_grad():
            eps_hat = model(x, torch.full((len(x),), int(t) + 1, device=device))
        x = scheduler.step(eps_hat, t, x).prev_sample
    ours = sample(model, schedule, noise(8, seed=9), times=few, eta=0.0, order=2)
    print(f"{type(scheduler).__name__} and sample differ by {(x - ours).abs().max():.1g} at most")
    torch.testing.assert_close(x, ours, atol=0.01, rtol=0)
    display(viz.to_png(x, columns=8))

# %% [markdown]
# ## References
#
# - Ho, Jain and Abbeel 2020, *Denoising Diffusion Probabilistic Models*, arXiv:2006.11239. Algorithm 2 is the loop; section 3.2 has both choices of the variance.
# - Song, Meng and Ermon 2021, *Denoising Diffusion Implicit Models*, arXiv:2010.02502. Equations 12 and 16 are the step with η; section 5.3 blends samples along the arc.
# - Lu and others 2022, *DPM-Solver++*, arXiv:2211.01095. Algorithm 2 looks back once; section 4 derives it, in λ, and says why with x0_hat rather than eps_hat.
# - Ho and Salimans 2022, *Classifier-Free Diffusion Guidance*, arXiv:2207.12598. Guidance towards a class, and what is lost by it.
# - Karras and others 2024, *Guiding a Diffusion Model with a Bad Version of Itself*, arXiv:2406.02507. Autoguidance; section 4 says when the errors of both point the same way.
# - Kynkäänniemi and others 2024, *Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models*, arXiv:2404.07724. Why not where there is nearly only noise.
# - Lin, Liu, Li and Yang 2023, *Common Diffusion Noise Schedules and Sample Steps Are Flawed*, arXiv:2305.08891. Why the first timestep must be T, and what to predict there.
# - Carlini and others 2023, *Extracting Training Data from Diffusion Models*, arXiv:2301.13188. Where the search for copies does find some, in larger models.
