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
# # Jump to any timestep
#
# **You will do:** noise a picture in a thousand small steps, replace them by one formula, and prove with numbers that both are the same.
#
# **You will learn:** how $\bar\alpha_t$ comes about, line by line; what a noise schedule is and what it decides; when $x_T$ is not yet noise, and what
# mending that costs; where one step *back* would lead if the picture were known.
#
# **You need:** about 60 minutes, exercises included (the computer needs less than one of them); notebook 01; mean, variance and the normal distribution.
#
# ![Two plots against the timestep. Left: the mean of a bright and of a black pixel over 256 walks; the dots of the simulated chain lie on the curves √ᾱ·x₀, which fall from 1 and rise from −1 to 0. Right: the variance over the walks lies on 1 − ᾱ, which rises from 0 to 1.](../figures/03_chain_vs_closed_form.png)

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
import time

import torch
from torch.distributions import Normal

from course_lib import viz, widgets
from course_lib.checks import check, progress, solution  # noqa: F401 - solution is for you to call
from course_lib.data import load_fashion_mnist
from course_lib.forward import make_target, q_posterior, q_sample, q_step, to_x0_eps
from course_lib.runtime import make_generator
from course_lib.schedule import SCHEDULES, from_betas, linear_betas, make_schedule, zero_terminal_snr

pictures = load_fashion_mnist("train", source="packaged")
print(pictures)

# %% [markdown]
# ## Walk a thousand small steps
#
# ![Three copies of one pullover in a row each, from t = 0 to t = 1000. After one step nothing has changed, after 100 there is grain, after 300 an outline, from 500 on only noise; each row has its own noise.](../figures/03_one_step.png)
#
# Notebook 01 went from picture to noise with one amount. Diffusion takes the same road in many small steps. **One step** shrinks what is there a little and
# adds a little fresh noise:
#
# $$x_t = \sqrt{1-\beta_t}\;x_{t-1} + \sqrt{\beta_t}\;z_t, \qquad z_t \sim \mathcal N(0, I), \qquad t = 1 \ldots T$$
#
# As a distribution, this is $q(x_t \mid x_{t-1}) = \mathcal N\big(\sqrt{1-\beta_t}\,x_{t-1},\; \beta_t I\big)$: $q$ is the usual name for all
# probabilities of the noising process, also for those that look back. (Read $q(x_t \mid x_{t-1})$ as "the distribution of $x_t$ when $x_{t-1}$ is known". $\mathcal N(0, I)$: every pixel has
# its own independent draw from N(0, 1); $\beta_t I$: the same with variance $\beta_t$.)
#
# | symbol | code | shape |
# |---|---|---|
# | $x_0$, the pictures; $x_t$, after $t$ steps | `x0`, `x_t` | `(B, C, H, W)` |
# | $z_t$, the noise of step $t$ | `z` | `(B, C, H, W)` |
# | $\beta_t$, the variance that step $t$ adds | `betas[t - 1]` | `(T,)` |
#
# Recognize the roots? This is the *rooted* mixture of notebook 01 with amount $\beta_t$. If $x_{t-1}$ has variance 1, so has $x_t$: $(1-\beta_t)\cdot 1 + \beta_t = 1$.
#
# ### Exercise 1 — One step  (difficulty 1 of 3, 4 minutes)
#
# Write the step from $x_{t-1}$ to $x_t$. Its noise is given, and nothing is clamped.


# %%
def my_step(x, t, betas, z):
    """x, the pictures x_(t-1), and z (B, C, H, W), t an int in 1..T, betas (T,); returns x_t, like x."""
    return ...  # your code


# %%
check("q_step", my_step)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Look up the one $\beta_t$ that you need. `betas` holds $\beta_1 \ldots \beta_T$, and Python counts from 0: see the table.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $\beta_t$ is a variance. Pictures and noise are multiplied by roots, and the first root covers all of $1 - \beta_t$.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("q_step")` in a new cell. The library's `q_step` takes strides of any length.
#
# </details>

# %% [markdown]
# Written out. In the DDPM paper, $\beta$ rises in a straight line from 0.0001 to 0.02 over $T = 1000$ steps:


# %%
def step(x, t, betas, z):
    """One step of q: from x_(t-1) to x_t."""
    beta = betas[t - 1]  # betas holds beta_1..beta_T, and Python counts from 0
    return (1 - beta).sqrt() * x + beta.sqrt() * z


betas = linear_betas(1000)
schedule = from_betas(betas, "linear")  # the library's form of these betas; what is in it comes below
keeps, adds = (1 - betas).sqrt(), betas.sqrt()
for t in (1, 1000):
    print(f"t = {t:4}: keeps {keeps[t - 1]:.5f} of the picture, adds {adds[t - 1]:.3f} of noise")
assert betas[0] == 0.0001 and betas[-1] == 0.02

x0 = pictures[:8]
z = torch.randn(x0.shape, generator=make_generator(0))
torch.testing.assert_close(step(x0, 10, betas, z), q_step(schedule, x0, 9, 10, z)[0])

# %% [markdown]
# The last line shows that the library's `q_step(schedule, x_s, s, t)` does the same.
#
# **How this course counts.** $t = 0$ is the picture itself, and $x_1 \ldots x_T$ are the papers' indices. Tables over $t$ therefore have $T+1$ entries, except
# `betas`, because no step leads to $t = 0$. (The library `diffusers` counts from 0 to $T-1$: its $t$ plus 1 is ours.) Where two timesteps appear, `s` is the earlier: $s < t$.
#
# Now a thousand steps. To have something to measure, 256 copies of *one* picture set out together, each with its own noise.

# %%
copies, stops = 256, [0, 10, 100, 200, 300, 400, 500, 600, 700, 800, 1000]
picture = pictures[5:6]  # (1, 1, 28, 28)
x = picture.expand(copies, -1, -1, -1)
chain, generator, start = {0: x}, make_generator(0), time.perf_counter()
for t in range(1, 1001):
    z = torch.randn(x.shape, generator=generator)
    x = step(x, t, betas, z)
    if t in stops:
        chain[t] = x
print(f"{copies} copies, 1000 steps: {time.perf_counter() - start:.1f} s")

# %%
walks = torch.stack([chain[t][:3] for t in stops], 1)  # (3, 11, 1, 28, 28)
viz.show_rows({f"copy {i + 1}": walks[i] for i in range(3)}, titles=[f"t = {t}" for t in stops])

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# One step changes nothing that an eye could notice; a few hundred of them drown the pullover. The three copies part at once and never meet again, since every step
# draws fresh noise. After about 500 steps nothing can be recognized, although the chain goes on for 500 more.
#
# </details>

# %% [markdown]
# The trouble: training needs pictures at random $t$, hundreds of them a second even on a laptop. Walking there would cost up to a thousand draws of noise for each picture.

# %% [markdown]
# ## Collapse the chain into one jump
#
# Write $\alpha_t = 1 - \beta_t$ for the share of variance that step $t$ keeps. Two facts about normal distributions are all we need:
#
# - **Scaling.** If $z \sim \mathcal N(0, I)$, then $c\,z \sim \mathcal N(0, c^2 I)$.
# - **Sum.** If $z$ and $z'$ are independent and normal, then $c\,z + d\,z'$ is normal again, and variances add: $c\,z + d\,z' \sim \mathcal N\big(0, (c^2 + d^2) I\big)$.
#
# (For uniform noise variances add up as well, but the sum is not uniform again: two draws add up to a triangle. That is why this course adds normal noise.)
#
# ### Two steps
#
# Line 1 is the step, with $\alpha_t$ in place of $1 - \beta_t$:
#
# $$x_t = \sqrt{\alpha_t}\,x_{t-1} + \sqrt{1-\alpha_t}\,z_t \tag{1}$$
#
# *Substitute* for $x_{t-1}$ the same line, one step earlier:
#
# $$x_t = \sqrt{\alpha_t}\,\Big(\sqrt{\alpha_{t-1}}\,x_{t-2} + \sqrt{1-\alpha_{t-1}}\,z_{t-1}\Big) + \sqrt{1-\alpha_t}\,z_t \tag{2}$$
#
# *Multiply out*, so that picture and noise stand apart:
#
# $$x_t = \sqrt{\alpha_t\alpha_{t-1}}\;x_{t-2} + \underbrace{\sqrt{\alpha_t(1-\alpha_{t-1})}\;z_{t-1} + \sqrt{1-\alpha_t}\;z_t}_{\text{two independent normal draws}} \tag{3}$$
#
# *Scaling and sum*: $z_{t-1}$ and $z_t$ are independent, so the noise over the brace is normal with mean 0 and variance
#
# $$\alpha_t(1-\alpha_{t-1}) + (1-\alpha_t) = \alpha_t - \alpha_t\alpha_{t-1} + 1 - \alpha_t = 1 - \alpha_t\alpha_{t-1} \tag{4}$$
#
# *Put (4) into (3)*: divide the noise by its standard deviation and call the quotient $\varepsilon' \sim \mathcal N(0, I)$:
#
# $$x_t = \sqrt{\alpha_t\alpha_{t-1}}\;x_{t-2} + \sqrt{1-\alpha_t\alpha_{t-1}}\;\varepsilon' \tag{5}$$
#
# Compare (5) with (1): two steps look like one step, with $\alpha_t\alpha_{t-1}$ where $\alpha_t$ was. So the $\alpha$'s multiply, and a name for the product is due:
#
# $$\bar\alpha_t = \alpha_1\,\alpha_2 \cdots \alpha_t = \prod_{i=1}^{t} (1-\beta_i), \qquad \bar\alpha_0 = 1 \tag{6}$$
#
# ### All steps: induction
#
# **Claim.** For every $t$ from 0 to $T$ there is an $\varepsilon_t \sim \mathcal N(0, I)$, made of $z_1 \ldots z_t$ alone, with
#
# $$x_t = \sqrt{\bar\alpha_t}\;x_0 + \sqrt{1-\bar\alpha_t}\;\varepsilon_t \tag{7}$$
#
# **Start.** At $t = 0$ the product is empty, $\bar\alpha_0 = 1$, and (7) says $x_0 = x_0$. (The noise has weight 0.)
#
# **From $t-1$ to $t$.** *Put the claim for* $t-1$ *into (1)*:
#
# $$x_t = \sqrt{\alpha_t\,\bar\alpha_{t-1}}\;x_0 + \sqrt{\alpha_t(1-\bar\alpha_{t-1})}\;\varepsilon_{t-1} + \sqrt{1-\alpha_t}\;z_t \tag{8}$$
#
# *By (6)*, the first factor is $\sqrt{\bar\alpha_t}$. *Independent*: $\varepsilon_{t-1}$ is made of $z_1 \ldots z_{t-1}$, and $z_t$ is drawn afresh. So, *by scaling and sum*, the two noises make one normal noise of variance
#
# $$\alpha_t(1-\bar\alpha_{t-1}) + 1 - \alpha_t = \alpha_t - \bar\alpha_t + 1 - \alpha_t = 1 - \bar\alpha_t \tag{9}$$
#
# Divided by its standard deviation it is $\varepsilon_t$, made of $z_1 \ldots z_t$, and (8) has become (7). Nothing was approximated, and the steps need not be small. $\blacksquare$
#
# Dropping the index of $\varepsilon$, we have the sentence on which the whole course rests, with two tables $a$ and $b$:
#
# $$\boxed{\;x_t = a_t\,x_0 + b_t\,\varepsilon, \qquad a_t = \sqrt{\bar\alpha_t}, \quad b_t = \sqrt{1-\bar\alpha_t}\;}$$
#
# | symbol | code | shape |
# |---|---|---|
# | $\bar\alpha_t$ | `alpha_bar` | `(T+1,)` |
# | $a_t$, the signal; $b_t$, the noise | `schedule.signal`, `schedule.noise` | `(T+1,)` |
# | $\varepsilon$, the noise of the whole jump | `eps` | `(B, C, H, W)` |
#
# ### Exercise 2 — The product of the alphas  (difficulty 1 of 3, 4 minutes)
#
# Compute equation (6) for all $t$ at once. Mind the first entry; make it on the device of `betas`.


# %%
def my_alpha_bar(betas):
    """betas (T,), beta_1..beta_T; returns alpha_bar (T+1,) for t = 0..T."""
    return ...  # your code


# %%
check("alpha_bar", my_alpha_bar)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `torch.cumprod(v, 0)` gives all running products of `v`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.cat` glues two tensors together. The one in front holds a single 1, on the device of `betas`: `betas.new_ones(1)` is such a tensor.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("alpha_bar")` in a new cell. In the library it is a line of `course_lib.schedule.from_betas`.
#
# </details>

# %% [markdown]
# ### Exercise 3 — The jump  (difficulty 2 of 3, 6 minutes)
#
# Write the boxed equation. Every picture of the batch has its own $t$, so `alpha_bar[t]` has shape `(B,)`, and the pictures `(B, C, H, W)`. Clamp nothing: with noise in it, $x_t$ may leave [−1, 1].


# %%
def my_q_sample(x0, t, eps, alpha_bar):
    """x0 and eps (B, C, H, W), t (B,) of int64, alpha_bar (T+1,); returns x_t, like x0."""
    return ...  # your code


# %%
check("q_sample", my_q_sample)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Look up first, then make it `(B, 1, 1, 1)`, as in notebook 01.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $\bar\alpha$ is a share of *variance*. What multiplies pictures are the square roots, and the second root covers all of $1 - \bar\alpha_t$.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("q_sample")` in a new cell. The library's function is `course_lib.forward.q_sample`.
#
# </details>

# %% [markdown]
# Both written out, and compared with the library:


# %%
alpha_bar = torch.cat([betas.new_ones(1), (1 - betas).cumprod(0)])  # (T+1,)
torch.testing.assert_close(alpha_bar, schedule.alpha_bar)
assert abs(alpha_bar[500].sqrt() - 0.28) < 0.005


def jump(x0, t, eps, alpha_bar):
    share = alpha_bar[t].view(-1, 1, 1, 1).to(x0.dtype)  # (B,) -> (B, 1, 1, 1)
    return share.sqrt() * x0 + (1 - share).sqrt() * eps


eps = torch.randn(x0.shape, generator=make_generator(1))
t = torch.tensor([0, 50, 100, 200, 300, 400, 600, 1000])  # one timestep for each picture
x_t, _ = q_sample(schedule, x0, t, eps)
torch.testing.assert_close(jump(x0, t, eps, alpha_bar), x_t)
viz.show_grid(x_t, titles=[f"t = {i}" for i in t])

# %% [markdown]
# Equation (7) speaks of single draws as well. Let the noise walk along without the picture: after a thousand steps it is exactly what separates $x_t$ from $\sqrt{\bar\alpha_t}\,x_0$.

# %%
walker, noise_only = x0.double(), torch.zeros_like(x0).double()
generator = make_generator(2)
for t in range(1, 1001):
    z = torch.randn(x0.shape, dtype=torch.float64, generator=generator)
    walker, noise_only = step(walker, t, betas, z), step(noise_only, t, betas, z)

torch.testing.assert_close(walker, alpha_bar[1000].sqrt() * x0.double() + noise_only)
blended = noise_only / (1 - alpha_bar[1000]).sqrt()  # the eps of equation (7)
print(f"eps, blended of 1000 draws: mean {blended.mean():.3f}, variance {blended.var():.3f}")
assert abs(blended.mean()) < 0.06 and abs(blended.var() - 1) < 0.09  # 5 standard errors

# %% [markdown]
# **Explain it in your own words:** the steps of another chain add *uniform* noise, scaled to variance 1. Which part of equation (7) still holds, and which does not?
#
# <details><summary>Model answer</summary>
#
# Means and variances do not ask for a distribution: scaling and adding independent draws works for every kind of noise. So $x_t$ has mean $\sqrt{\bar\alpha_t}\,x_0$ and variance
# $1-\bar\alpha_t$, as before. But the blended noise is neither uniform nor the same kind at every $t$: two uniform draws make nearly a triangle, many make nearly a normal distribution (the central
# limit theorem). One uniform draw in its place would be another process. Of all noise with a finite variance, only normal noise keeps its shape when it is added up.
#
# </details>

# %% [markdown]
# ## Measure chain against jump
#
# ### Exercise 4 — Average the copies  (difficulty 1 of 3, 2 minutes)
#
# At $t = 500$ each of the 256 copies looks like noise. Add them up, pixel by pixel, and divide by 256. Decide before you go on: what is there to see?
#
# - **a** noise, as strong as in a single copy
# - **b** an even gray: the noise averages out, and the picture is gone
# - **c** the picture, as it was
# - **d** the picture, pale

# %%
my_mean_of_copies = ...  # "a", "b", "c" or "d"

# %%
check("mean_of_copies", my_mean_of_copies)

# %% [markdown]
# <details><summary>Hint</summary>
#
# The mean of $x_t$ over all copies is the mean of the right side of (7). Its first term is the same in every copy.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("mean_of_copies")` in a new cell, or go on: this section shows it.
#
# </details>

# %% [markdown]
# A proof may have a slip, and so may code. Equation (7) predicts for *every pixel*, over the 256 copies: mean $a_t\,x_0$ and variance $b_t^2 = 1 - \bar\alpha_t$.
# The chain knows nothing of that formula. How far off may it be? With $N$ copies the standard errors are
#
# $$\operatorname{SE}(\text{mean}) = \frac{b_t}{\sqrt N}, \qquad \operatorname{SE}(\text{variance}) = b_t^2\,\sqrt{\frac{2}{N-1}}$$
#
# so measured minus predicted, divided by SE, should be 0 give or take 1, at each of 784 pixels. For a second opinion, 256 copies jump with one draw each.


# %%
def surprise(x_t, t):
    """Measured minus predicted in standard errors, for mean and variance, each (1, 28, 28)."""
    n, variance = len(x_t), 1 - alpha_bar[t]
    mean_off = (x_t.mean(0) - alpha_bar[t].sqrt() * picture[0]) / (variance / n).sqrt()
    variance_off = (x_t.var(0) - variance) / (variance * (2 / (n - 1)) ** 0.5)
    return mean_off, variance_off


generator = make_generator(3)
jumped = {t: q_sample(schedule, chain[0], t, generator=generator)[0] for t in stops}
print("             root mean square      largest of 784 pixels")
print("   t           mean   variance        mean   variance")
for t in stops[1:]:
    for name, x_t in {"chain": chain[t], "jump": jumped[t]}.items():
        off = surprise(x_t, t)
        typical, largest = [v.square().mean().sqrt() for v in off], [v.abs().max() for v in off]
        numbers = "".join(f"{v:11.2f}" for v in (*typical, *largest))
        print(f"{t:4}  {name:5}{numbers}")
        assert all(abs(v - 1) < 0.15 for v in typical) and all(v < 5.5 for v in largest)
        assert all(abs(v.mean()) < 4 / 28 for v in off)  # over 784 pixels SE is 1/28
late = alpha_bar[11] / alpha_bar[1]  # at t = 10, if each step took the beta of the next one
assert (alpha_bar[10] - late) / (1 - alpha_bar[10]) / (2 / (len(x_t) - 1)) ** 0.5 > 4 / 28

# %% [markdown]
# A typical surprise is 1, for the chain as for the jump, and none is beyond what one of 784 normal numbers may do. The assertion below it is sharper:
# over all pixels together, mean and variance agree to within a seventh of a pixel's standard error. A chain whose
# $\beta$'s are off by a single index fails it, at $t = 10$ by the last line.
#
# One black and one bright pixel on their way. Bars are two standard errors.

# %%
flat, every, at = picture.flatten(), range(1001), torch.tensor(stops)
chosen = {"black": flat.argmin(), "bright": flat.argmax()}
curves = {f"√ᾱ · x₀, {name}": (every, alpha_bar.sqrt() * flat[i]) for name, i in chosen.items()}
bars = 2 * ((1 - alpha_bar[at]) / copies).sqrt()
dots = {}
for name, i in chosen.items():
    means = torch.stack([chain[t].flatten(1)[:, i].mean() for t in stops])
    dots[f"chain, {name}"] = (stops, means, bars)
viz.plot_curves(curves, dots, xlabel="timestep t", ylabel="mean over 256 copies")

# %%
values = torch.stack([chain[t].var(0).mean() for t in stops])
bars = 2 * (1 - alpha_bar[at]) * (2 / (copies - 1) / 784) ** 0.5  # smaller than the dots
assert (values - (1 - alpha_bar[at])).abs().max() < 0.02
curves, dots = {"1 − ᾱ": (every, 1 - alpha_bar)}, {"chain": (stops, values, bars)}
viz.plot_curves(curves, dots, xlabel="timestep t", ylabel="variance, mean of all pixels")

# %% [markdown]
# And as pictures: average the 256 noisy copies, and what remains is the picture at the contrast $\sqrt{\bar\alpha_t}$.

# %%
few = [0, 100, 200, 300, 400, 500, 700]
rows = {
    "one copy": torch.stack([chain[t][0] for t in few]),
    "mean of 256": torch.stack([chain[t].mean(0) for t in few]),
    "√ᾱ · x₀": torch.stack([alpha_bar[t].sqrt().float() * picture[0] for t in few]),
}
viz.show_rows(rows, titles=[f"t = {t}" for t in few])

# %%
residuals = {
    name: (x[500] - alpha_bar[500].sqrt() * picture) / (1 - alpha_bar[500]).sqrt()
    for name, x in {"chain": chain, "jump": jumped}.items()
}
for name, values in residuals.items():
    outside = (values.abs() > 1).double().mean()
    print(f"{name}: {outside:.3f} lie outside of [-1, 1]; normal: 0.317")
    assert abs(outside - 0.317) < 0.006
viz.plot_histogram(residuals, title="x₅₀₀ without its picture, in units of b")

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# Mean, variance and shape are those of the formula: a thousand draws and one draw cannot be told apart. The middle row shows where the picture goes. It is not
# destroyed at $t = 500$, only outshouted: 256 copies together still know it. A single copy does not have that luxury.
#
# </details>

# %% [markdown]
# ## Compare schedules
#
# ![Signal a, noise b and the logarithm of their squared ratio against the timestep, for the linear, quadratic, sigmoid and cosine schedules, with a mark at t = 500. Linear loses its signal first; cosine keeps most of it through the second half and falls below all others at the very end.](../figures/03_schedules.png)
#
# The steps are gone; what remains of a noising process is two tables, $a_t$ and $b_t$. The course calls them a **schedule**:
#
# | schedule | rule | from |
# |---|---|---|
# | linear | $\beta_t$ rises in a straight line | DDPM |
# | quadratic | $\sqrt{\beta_t}$ rises in a straight line, between the same ends | DDPM's code |
# | sigmoid | $\beta_t$ rises along an S, between nearly the same ends | GeoDiff |
# | cosine | $\bar\alpha_t$ falls along a squared cosine | improved DDPM |
# | linear amount | $a_t = 1 - t/T$, $b_t = t/T$ | notebook 01 |
#
# The last one is our old friend: the same sentence $x_t = a_t x_0 + b_t \varepsilon$ with other tables. Its squares do not add up to 1, so it has no $\bar\alpha$.
#
# ### Exercise 5 — Four schedules  (difficulty 2 of 3, 8 minutes)
#
# The first four rules in full. The ends are $\beta_{\min} = 0.0001$ and $\beta_{\max} = 0.02$ whatever $T$ is, and $\rho = \frac{t-1}{T-1}$ runs from 0 to 1 in equal steps:
#
# $$\begin{aligned}
# \text{linear:}\quad & \beta_t = \beta_{\min} + \rho\,(\beta_{\max} - \beta_{\min}) \\
# \text{quadratic:}\quad & \sqrt{\beta_t} = \sqrt{\beta_{\min}} + \rho\,\big(\sqrt{\beta_{\max}} - \sqrt{\beta_{\min}}\big) \\
# \text{sigmoid:}\quad & \beta_t = \beta_{\min} + \frac{\beta_{\max} - \beta_{\min}}{1 + e^{-(12\rho - 6)}} \\
# \text{cosine:}\quad & \bar\alpha_t = \frac{f(t)}{f(0)}, \quad f(t) = \cos^2\Big(\frac{t/T + 0.008}{1.008} \cdot \frac\pi2\Big), \quad \beta_t = 1 - \frac{\bar\alpha_t}{\bar\alpha_{t-1}} \text{, but at most } 0.999
# \end{aligned}$$
#
# Where the cap bites, at $t = T$, $\bar\alpha_T$ is the product with the capped $\beta_T$: small, but not the 0 of $f(T)$.
#
# Write them as one function; the cap is the only limit, and float32 is exact enough. The check takes the kinds in this order and stops at the first that is wrong or missing, so you can run it after each.


# %%
def my_betas(kind, T):
    """kind "linear", "quadratic", "sigmoid" or "cosine", T an int; returns beta_1..beta_T, (T,)."""
    return ...  # your code


# %%
check("betas", my_betas)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `torch.linspace(start, end, T)` is a straight line of T numbers with both ends. For *quadratic*, draw it between the roots of the ends. `torch.sigmoid(x)` is $1/(1 + e^{-x})$; here $x$ goes from −6 to 6.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# *Cosine* needs $f$ at $t = 0 \ldots T$, which is T + 1 numbers, and of them all ratios of neighbors, which is T: `f[1:] / f[:-1]`. The $f(0)$ cancels, and π is `torch.pi`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `clamp(max=0.999)` keeps numbers from growing beyond. Without it the last $\beta$ would be 1.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("betas")` in a new cell. In the library they are four functions of `course_lib.schedule`.
#
# </details>

# %% [markdown]
# `make_schedule` gives any of the five tables by its name, here for $T = 1000$:

# %%
schedules = [make_schedule(name) for name in SCHEDULES]
print("a² + b²  " + "".join(f"{'t = ' + str(t):>10}" for t in (0, 250, 500, 750, 1000)))
for one in schedules:
    total = one.signal**2 + one.noise**2  # (T+1,)
    print(f"{one.name:14}" + "".join(f"{total[t]:10.2f}" for t in (0, 250, 500, 750, 1000)))
    assert one.is_variance_preserving == (one.name != "linear amount")

try:
    make_schedule("linear amount").alpha_bar
except ValueError as error:
    print(f"\nValueError: {error}")

# %% [markdown]
# Now drag **t**. All rows carry the same noise.
#
# ![One boot, one row for each of four schedules, from t = 0 to t = 1000 with the same noise. In the linear row it is lost near t = 400, in the cosine row about three hundred steps later.](../figures/03_schedule_rows.png)
#
# *Below is a slider. Where it does not run (on GitHub, in print), the picture above shows what it is about; `make lab` opens the live one.*

# %%
widgets.timestep_explorer(pictures[:6], schedules)

# %% [markdown]
# **What did you see?** Stop at $t = 250$ and at $t = 500$: which schedule hurries, which takes its time?
#
# <details><summary>Answer</summary>
#
# *Linear* hurries: at 250 it is about where *cosine* is at 500, and its last third is little but noise. *Quadratic* and *sigmoid* begin gently and hurry later.
# *Cosine* spreads its work evenly. *Linear amount* keeps step with *cosine* around the middle, but is paler: its variance sags.
#
# </details>

# %% [markdown]
# ### Signal-to-noise
#
# One number orders all these states, the **signal-to-noise ratio** (notebook 01 also multiplied by the variance of the pictures, 0.5: its mixture was at 1 at u = 0.41, and is at 1 here
# at t = 500):
#
# $$\operatorname{SNR}_t = \frac{a_t^2}{b_t^2} \qquad\Big(= \frac{\bar\alpha_t}{1-\bar\alpha_t} \text{ where } a_t^2 + b_t^2 = 1\Big)$$

# %%
equal = {}
for one in schedules:
    equal[one.name] = int((one.snr - 1).abs().argmin())
    below = (one.snr < 1).double().mean()
    print(f"{one.name:14} SNR is 1 at t = {equal[one.name]:3}; {below:.0%} of its steps lie beyond")
assert [equal[name] for name in SCHEDULES] == [259, 418, 439, 496, 500]
assert abs(schedule.snr[250] - make_schedule("cosine").snr[500]) < 0.15
viz.plot_schedules(schedules, t=500)

# %% [markdown]
# *Linear* spends three quarters of its steps where b is larger than a. Does the ratio really say it all? Visit each schedule where its SNR is 1, with the same
# noise, and divide by $\sqrt{a_t^2 + b_t^2}$ (which is 1 for all but the last):

# %%
rows, eps = {}, torch.randn(x0.shape, generator=make_generator(4))
for one in schedules:
    t = equal[one.name]
    size = (one.signal[t] ** 2 + one.noise[t] ** 2).sqrt().float()
    rows[f"{one.name}, t = {t}"] = q_sample(one, x0, t, eps)[0][:6] / size

same = torch.stack(list(rows.values()))  # (5, 6, 1, 28, 28)
largest = (same - same[:1]).abs().max()
print(f"largest difference of a pixel between rows: {largest:.3f}")
assert largest < 0.01
viz.show_rows(rows)

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# The same pictures five times. All schedules pass through the same states, as far as each one goes; they differ in *when*. A schedule is a clock, and choosing one means choosing which noise
# levels a network practices often, and where a sampler takes long strides.
#
# </details>

# %% [markdown]
# One thing does differ: the size of the numbers that a network is fed. Notebook 01's sag is back, and the four others lack it:

# %%
spread = pictures[:2000].var().double()
variances = {one.name: one.signal**2 * spread + one.noise**2 for one in schedules}
for name, variance in variances.items():
    print(f"{name:14} from {spread:.2f} to {variance[-1]:.2f}, least {variance.min():.2f}")
    assert abs(variance.min() - (1 / 3 if name == "linear amount" else 0.5)) < 0.002
curves = {name: (every, variance) for name, variance in variances.items()}
viz.plot_curves(curves, xlabel="timestep t", ylabel="variance of x_t over all pixels")

# %% [markdown]
# ## Ask whether $x_T$ is noise
#
# ![A gauge for linear betas with T = 150: the needle stands at 0.47, in the red zone labelled 'still holds the picture'. Below, eight pictures; their x_T with T = 150, where outlines shine through; and with T = 1000, only noise.](../figures/03_gauge.png)
#
# Sampling will start from pure noise and pretend that it is some $x_T$. That is honest only if $x_T$ holds (nearly) no picture: $a_T = \sqrt{\bar\alpha_T} \approx 0$.
# Few steps are tempting, so what if we take the linear $\beta$'s, with the same ends, and only $T = 150$?

# %%
short = make_schedule("linear", 150)
estimate = (-0.5 * linear_betas(150).sum()).exp()  # ln(1 - beta) is about -beta
print(f"T =  150: a_T = {short.signal[-1]:.3f}; estimate exp(-½ Σβ) = {estimate:.3f}")
print(f"T = 1000: a_T = {schedule.signal[-1]:.4f}")
assert abs(short.signal[-1] - 0.47) < 0.005 and abs(estimate - 0.47) < 0.005
assert abs(schedule.signal[-1] - 0.0064) < 0.0001

# %% [markdown]
# Almost half of the picture is left. The sum of the $\beta$'s decides, and with fixed ends it shrinks with $T$. How long must the linear schedule be
# until less than 0.1, and less than 0.02, remains?

# %%
left = {T: make_schedule("linear", T).signal[-1] for T in range(10, 1010, 10)}
long_enough = [min(T for T in left if left[T] < limit) for limit in (0.1, 0.02)]
print("T =", long_enough)
assert long_enough == [460, 780]

# %% [markdown]
# The gauge warns by these two limits. Try schedules and lengths:
#
# *Below is a slider. Where it does not run (on GitHub, in print), the picture above shows what it is about; `make lab` opens the live one.*

# %%
widgets.noise_gauge(pictures[:8], T=150)

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# *Linear* with $T = 150$ is in the red, and the clothes shine through $x_T$. From $T = 460$ on the warning softens, at 780 it goes. *Cosine* does not care: its $\beta$'s grow when
# $T$ shrinks, because it fixes $\bar\alpha$ instead. *Quadratic* is not quite done even at 1000.
#
# </details>

# %% [markdown]
# Where the eye sees nothing, averages still do. How well does the brightness of a whole $x_T$ tell the brightness of its picture?

# %%
assert abs(make_schedule("quadratic").signal[-1] - 0.027) < 0.0005
brightness, found = pictures[:2000].mean((1, 2, 3)), []
for name, T in (("linear", 150), ("quadratic", 1000), ("linear", 1000), ("cosine", 1000)):
    one = make_schedule(name, T)
    x_T, _ = q_sample(one, pictures[:2000], T, generator=make_generator(5))
    found.append(torch.corrcoef(torch.stack([brightness, x_T.mean((1, 2, 3))]))[0, 1])
    print(f"{name:9} T = {T:4}: a_T = {one.signal[-1]:.4f}, correlation {found[-1]:5.2f}")
assert torch.allclose(torch.stack(found), torch.tensor([0.97, 0.19, 0.04, 0.0]), atol=0.1)

darker = (brightness < 0).float().mean()
print(f"brightness of the pictures: mean {brightness.mean():.2f}; {darker:.0%} are darker than 0")
assert abs(brightness.mean() + 0.43) < 0.01 and darker > 0.9

# %% [markdown]
# With $T = 150$ a network learns that the mean of $x_T$ gives the brightness away. A trace is left even by *quadratic* with its 0.027.
#
# **Explain it in your own words:** a network trained with $T = 150$ is handed pure noise and asked for pictures. What will be wrong with them?
#
# <details><summary>Model answer</summary>
#
# The mean of pure noise over a picture is always near 0. The network takes it for the trace of a picture of brightness 0 and paints mostly such, although more than nine in ten of the real
# pictures are darker. It does what it learned; the mistake is in the schedule, and no amount of training mends it.
#
# </details>
#
# ### The mend, and its price
#
# More steps, or larger $\beta$'s, make $a_T$ small. **Zero terminal SNR** makes it 0: shift and stretch the table $a$, so that $a_1$ stays where it was.
#
# $$a'_t = (a_t - a_T)\,\frac{a_1}{a_1 - a_T}, \qquad b'_t = \sqrt{1 - a_t'^2}, \qquad t \ge 1$$

# %%
a = short.signal.clone()  # (T+1,)
a[1:] = (a[1:] - a[-1]) * a[1] / (a[1] - a[-1])
mended = zero_terminal_snr(short)
torch.testing.assert_close(a, mended.signal)
assert mended.signal[-1] == 0 and mended.signal[1] == short.signal[1]

shown = [0, 30, 60, 90, 120, 150]
six, same_eps = x0[3:4].expand(6, -1, -1, -1), eps[3:4].expand(6, -1, -1, -1)
pair = {"linear": short, "mended": mended}
strip = {name: q_sample(one, six, torch.tensor(shown), same_eps)[0] for name, one in pair.items()}
print("beta of the last three steps, mended:", mended.beta[-3:].numpy().round(2))
viz.show_rows(strip, titles=[f"t = {t}" for t in shown])

# %% [markdown]
# The price: from now on a network that predicts $\varepsilon$ is useless at $t = T$. To get the picture from its answer, the boxed equation is solved for $x_0$,
#
# $$\hat x_0 = \frac{x_t - b_t\,\hat\varepsilon}{a_t}$$
#
# (a hat marks a prediction). At $a_T = 0$ that is 0 divided by 0: $x_T$ *is* the noise, and naming it says nothing about the picture. The library refuses:

# %%
x_T, eps_T = q_sample(mended, x0, 150, generator=make_generator(6))
try:
    to_x0_eps("eps", mended, eps_T, x_T, 150)
except ValueError as error:
    print(f"ValueError: {error}")

# %% [markdown]
# One target that works is $v = a_t\,\varepsilon - b_t\,x_0$: at $t = 0$ it is the noise, at $t = T$ the (negative) picture, at both ends what $x_t$ does not show. Trained for
# $v$, a network is asked at $T$ for a picture out of nothing; the best answer is the mean of all pictures, a fair place to start from.

# %%
v = make_target("v", mended, x0, eps_T, 150)
x0_hat, eps_hat = to_x0_eps("v", mended, v, x_T, 150)
torch.testing.assert_close(x0_hat, x0)
torch.testing.assert_close(eps_hat, eps_T)

for t in (1, 259, 500, 900, 1000):
    factor = schedule.noise[t] / schedule.signal[t]
    print(f"linear, t = {t:4}: an error of 0.01 in eps_hat moves x0_hat by {0.01 * factor:.4f}")
assert abs(0.01 * factor - 1.57) < 0.01

# %% [markdown]
# The table shows that the trouble comes on gradually: near $T$, even the unmended schedule of 1000 steps magnifies errors of $\hat\varepsilon$ 157 times. Notebook 05 meets it again.

# %% [markdown]
# ## Step back when the picture is known
#
# ![Three bell curves over the value of one pixel at t = 4: what the picture says, to the right; what the step says, to the left; and both together, between them and narrower than either. Dots computed by Bayes' rule on a grid lie on the third.](../figures/03_posterior.png)
#
# All of this adds noise. Sampling must remove it. Which $x_{t-1}$ did $x_t$ come from? Without the picture nobody can say; *with* it there is an exact answer, the
# **posterior** $q(x_{t-1} \mid x_t, x_0)$. Pixels do not interact, so one pixel is enough, and all symbols below are numbers.
#
# *Bayes' rule*, everything given $x_0$:
#
# $$q(x_{t-1} \mid x_t, x_0) = \frac{q(x_t \mid x_{t-1}, x_0)\; q(x_{t-1} \mid x_0)}{q(x_t \mid x_0)} \tag{10}$$
#
# *The chain forgets*: step $t$ looks at $x_{t-1}$ only, so $q(x_t \mid x_{t-1}, x_0) = q(x_t \mid x_{t-1})$. The *denominator* does not hold $x_{t-1}$: a constant,
# which we drop ($\propto$ means "equal up to such a constant factor").
#
# $$q(x_{t-1} \mid x_t, x_0) \;\propto\; q(x_t \mid x_{t-1})\; q(x_{t-1} \mid x_0) \tag{11}$$
#
# *Put in both normal densities*, the step (1) and the jump (7) to $t-1$:
#
# $$\propto\; \exp\left(-\frac12\left[\frac{(x_t - \sqrt{\alpha_t}\,x_{t-1})^2}{\beta_t} + \frac{(x_{t-1} - \sqrt{\bar\alpha_{t-1}}\,x_0)^2}{1-\bar\alpha_{t-1}}\right]\right) \tag{12}$$
#
# *Multiply out and sort by powers of* $x_{t-1}$; what lacks $x_{t-1}$ joins the constant:
#
# $$\propto\; \exp\left(-\frac12\left[A\,x_{t-1}^2 - 2B\,x_{t-1}\right]\right), \qquad A = \frac{\alpha_t}{\beta_t} + \frac{1}{1-\bar\alpha_{t-1}}, \qquad B = \frac{\sqrt{\alpha_t}\,x_t}{\beta_t} + \frac{\sqrt{\bar\alpha_{t-1}}\,x_0}{1-\bar\alpha_{t-1}} \tag{13}$$
#
# *Complete the square*, $A x^2 - 2Bx = A\,(x - B/A)^2 - B^2/A$, and drop the last constant:
#
# $$\propto\; \exp\left(-\frac{A}{2}\left(x_{t-1} - \frac BA\right)^2\right) \tag{14}$$
#
# *Read off*: a normal density with variance $1/A$ and mean $B/A$. First $A$, *over one denominator*, in which $\alpha_t\bar\alpha_{t-1} = \bar\alpha_t$ and $\alpha_t + \beta_t = 1$:
#
# $$A = \frac{\alpha_t(1-\bar\alpha_{t-1}) + \beta_t}{\beta_t\,(1-\bar\alpha_{t-1})} = \frac{1-\bar\alpha_t}{\beta_t\,(1-\bar\alpha_{t-1})} \quad\Longrightarrow\quad \tilde\beta_t = \frac1A = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t \tag{15}$$
#
# *Then* $B$ *times* $1/A$, where one factor cancels in each term:
#
# $$\tilde\mu_t = \frac BA = \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\;x_t + \frac{\sqrt{\bar\alpha_{t-1}}\;\beta_t}{1-\bar\alpha_t}\;x_0 \tag{16}$$
#
# So $q(x_{t-1} \mid x_t, x_0) = \mathcal N(\tilde\mu_t, \tilde\beta_t)$. (At $t = 1$, line (12) would divide by 0, but the result stands: variance 0, mean $x_0$. Who knows the
# picture need not guess it.)
#
# ### Exercise 6 — The variance of the way back  (difficulty 2 of 3, 5 minutes)
#
# Compute $\tilde\beta_t$ of equation (15) from $\bar\alpha$ alone; $\beta_t$ is hidden in it.


# %%
def my_posterior_variance(t, alpha_bar):
    """t (B,) of int64 in 1..T, alpha_bar (T+1,); returns the posterior variance, (B,)."""
    return ...  # your code


# %%
check("posterior_variance", my_posterior_variance)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# By (6), $\bar\alpha_t = \alpha_t\,\bar\alpha_{t-1}$. Solve for $\alpha_t$; then $\beta_t = 1 - \alpha_t$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# You need `alpha_bar[t]` and `alpha_bar[t - 1]`, both of shape `(B,)`, and no roots at all.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("posterior_variance")` in a new cell. The library's `schedule.posterior_variance(s, t)` also takes strides longer than one step.
#
# </details>

# %% [markdown]
# ### Exercise 7 — The mean of the way back  (difficulty 3 of 3, 8 minutes)
#
# Compute $\tilde\mu_t$ of equation (16), again from $\bar\alpha$ alone. Every picture has its own $t$, as in the jump. Take `x0` as it is, even where it leaves [−1, 1]: a sampler will put its guess there.


# %%
def my_posterior_mean(x_t, x0, t, alpha_bar):
    """x_t and x0 (B, C, H, W), t (B,) of int64 in 1..T, alpha_bar (T+1,); returns the mean, like x_t."""
    return ...  # your code


# %%
check("posterior_mean", my_posterior_mean)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Look up $\bar\alpha_t$ and $\bar\alpha_{t-1}$ and give both the shape `(B, 1, 1, 1)`. All else is made of these two: $\alpha_t$ is their ratio, $\beta_t = 1 - \alpha_t$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Try $t = 1$ on paper: $\bar\alpha_0 = 1$, so $x_t$ gets the weight 0 and $x_0$ the weight 1. Which entry stands under which root?
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("posterior_mean")` in a new cell. The library's `q_posterior` gives mean and variance together, and writes the mean in another way, which holds for all schedules.
#
# </details>

# %% [markdown]
# Both written out, and compared with the library's `q_posterior`:


# %%
def posterior(x_t, x0, t, alpha_bar):
    """Mean, shaped like x_t, and variance of q(x_(t-1) | x_t, x_0); t is an int."""
    now, before = alpha_bar[t], alpha_bar[t - 1]
    alpha, beta = now / before, 1 - now / before
    mean = (alpha.sqrt() * (1 - before) * x_t + before.sqrt() * beta * x0) / (1 - now)
    return mean, (1 - before) / (1 - now) * beta


clean = x0.double()
for t in (1, 2, 300, 1000):
    x_t, _ = q_sample(schedule, clean, t, generator=make_generator(7))
    mean, variance = posterior(x_t, clean, t, alpha_bar)
    library_mean, library_variance = q_posterior(schedule, x_t, clean, t - 1, t)
    torch.testing.assert_close(mean, library_mean)
    torch.testing.assert_close(variance, library_variance.squeeze())
    print(f"t = {t:4}: beta_t {betas[t - 1]:.6f}, posterior variance {variance:.6f}")

# %% [markdown]
# ### Check it without algebra
#
# **By quadrature.** Lay a fine grid over all values of $x_{t-1}$, multiply the two densities of (11) at each point, divide by the sum, and take mean and variance. No square is completed.
#
# To see something, take a schedule of ten *large* steps. (The formulas never asked for small ones.)


# %%
def densities(x_t, x0, t, one, grid):
    """log q(x_(t-1) | x_0) and log q(x_t | x_(t-1)) at every x_(t-1) of the grid."""
    from_picture = Normal(one.signal[t - 1] * x0, one.noise[t - 1]).log_prob(grid)
    beta = one.beta[t]
    from_step = Normal((1 - beta).sqrt() * grid, beta.sqrt()).log_prob(grid.new_tensor(x_t))
    return from_picture, from_step


grid = torch.linspace(-6, 6, 120_001, dtype=torch.float64)
ten = from_betas(linear_betas(10, 0.05, 0.4), "ten large steps")
cases = ((ten, 5, -0.9, 0.8), (ten, 10, 0.4, -1.0), (schedule, 2, 0.8, 0.8), (schedule, 300, 0.5, -1.0))
for one, t, x_t, x0_pixel in cases:
    weight = sum(densities(x_t, x0_pixel, t, one, grid)).softmax(0)  # exp, divided by its sum
    mean = (weight * grid).sum()
    found = torch.stack([mean, (weight * (grid - mean) ** 2).sum()])
    derived = torch.stack(posterior(x_t, x0_pixel, t, one.alpha_bar))
    print(f"{one.name:15} t = {t:3}: quadrature {found.numpy()}, derived {derived.numpy()}")
    torch.testing.assert_close(found, derived, rtol=1e-8, atol=1e-10)

# %%
t, x_t, x0_pixel = 5, -0.9, 0.8
coarse = torch.linspace(-3, 5, 400, dtype=torch.float64)
from_picture, from_step = densities(x_t, x0_pixel, t, ten, coarse)
mu, beta_tilde = posterior(x_t, x0_pixel, t, ten.alpha_bar)
curves = {
    "what the picture says: q(x₄ | x₀ = 0.8)": (coarse, from_picture.exp()),
    "what the step says: q(x₅ = −0.9 | x₄)": (coarse, from_step.exp()),
    "both: q(x₄ | x₅, x₀)": (coarse, Normal(mu, beta_tilde.sqrt()).log_prob(coarse).exp()),
}
viz.plot_curves(curves, xlabel="x₄", ylabel="density")

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# The picture pulls to one side, the step to the other. The posterior lies between them, closer to the narrower one, and is narrower than either: two witnesses know more than one.
# Their precisions, one over the variance each, add up to $A$ in (13); as a curve over $x_{t-1}$ the step has the variance $\beta_t/\alpha_t$.
#
# </details>

# %% [markdown]
# **By simulation.** Jump from many known pictures to $x_{t-1}$, and take one step on to $x_t$. If the posterior is right, then $x_{t-1} - \tilde\mu_t(x_t, x_0)$ is
# what nobody can know: mean 0, variance $\tilde\beta_t$, and no correlation with $x_t$.

# %%
many, generator = pictures[:512].double(), make_generator(8)  # 401,408 pixels
n = many.numel()
for t in (2, 30, 300, 1000):
    x_s, _ = q_sample(schedule, many, t - 1, generator=generator)
    x_t, _ = q_step(schedule, x_s, t - 1, t, generator=generator)
    mean, variance = posterior(x_t, many, t, alpha_bar)
    rest = x_s - mean
    shared = torch.corrcoef(torch.stack([rest.flatten(), x_t.flatten()]))[0, 1]
    off = [rest.mean() / (variance / n).sqrt(), (rest.var() / variance - 1) / (2 / n) ** 0.5]
    off.append(shared * n**0.5)
    print(f"t = {t:4}: off by", ", ".join(f"{v:5.2f}" for v in off), "standard errors")
    assert all(abs(v) < 4.5 for v in off)

# %% [markdown]
# How much does knowing the picture help? Compare $\tilde\beta_t$ with $\beta_t$. That is the variance of the step forward, and it would be that of the step back, too, if pictures were nothing but noise from $N(0, I)$ (DDPM, section 3.2):

# %%
t = torch.arange(1, 1001)
ratio = schedule.posterior_variance(t - 1, t) / betas
print({i: round(ratio[i - 1].item(), 2) for i in (1, 2, 10, 100, 1000)})
assert ratio[0] == 0 and abs(ratio[1] - 0.45) < 0.01 and ratio[99] > 0.98
curves = {"ratio": (t[:100], ratio[:100])}
viz.plot_curves(curves, xlabel="timestep t", ylabel="posterior variance / beta")

# %% [markdown]
# Close to the picture it helps a lot: at $t = 1$ no variance is left, at $t = 2$ less than half of $\beta_t$. Far out, hardly at all: next to so much noise, one small step back is as uncertain as one small step forward.
#
# A sampler lacks $x_0$. But it can *guess* it, and the guess goes where $x_0$ stands in (16). Notebook 04 trains the guesser, notebook 05 walks back.

# %% [markdown]
# The exercises of this notebook, by the last run of each check:

# %%
progress()

# %% [markdown]
# ## In three lines
#
# 1. A thousand small Gaussian steps are one jump, $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$, exactly.
# 2. A schedule is two tables. Schedules pass through the same states on different clocks; look at $a_T$ before you trust one.
# 3. With the picture known, the step back is normal, too, with a variance below $\beta_t$ and none at $t = 1$.
#
# ## Honest limits
#
# - The jump needs *Gaussian* noise that is independent from step to step. Of all noise with a finite variance, only Gaussian keeps its shape when it is added up; uniform noise has no such
#   short cut. (Processes that flip bits or swap categories have exact jumps of their own.)
# - Agreement within standard errors is evidence for the code, at 256 copies and one picture. The proof is the derivation.
# - "The same states on other clocks" holds for the process. Networks trained on different clocks do differ, since they practice each noise level at a different rate.
# - The posterior given $x_0$ is normal. The one that a sampler would need, $q(x_{t-1} \mid x_t)$, is not in general; it comes close where steps are small.
#
# ## On your own
#
# - Walk the chain with uniform noise of variance 1, `(torch.rand(...) * 2 - 1) * 3**0.5`, with 1 and 5 added to `stops`. (The first assertion in the cell of `surprise`, further down, is for normal noise and fails at $t = 1$: take it out.) Look at histograms of $(x_t - \sqrt{\bar\alpha_t}\,x_0)/\sqrt{1-\bar\alpha_t}$ at $t = 1$, 5 and 500. Which theorem is at work?
# - Give `from_betas` the linear betas times `1000 / T`. How small may $T$ be before a $\beta$ leaves (0, 1], and what is $a_T$ then?
# - Derive the posterior for a stride, $q(x_s \mid x_t, x_0)$ with any $s < t$. Which lines of (10) to (16) change? Compare with `q_posterior(schedule, x_t, x0, s, t)`.
# - Invent a schedule: any falling table from 1 will do. `Schedule(signal, noise)` of `course_lib.schedule` tells you what it minds.
#
# ## References
#
# - Ho, Jain, Abbeel (2020), *Denoising Diffusion Probabilistic Models*, arXiv:2006.11239. Equations 2, 4, 6 and 7 are the step, the jump and the posterior of this notebook.
# - Sohl-Dickstein, Weiss, Maheswaranathan, Ganguli (2015), *Deep Unsupervised Learning using Nonequilibrium Thermodynamics*, arXiv:1503.03585. Where noising step by step and learning the way back began.
# - Nichol, Dhariwal (2021), *Improved Denoising Diffusion Probabilistic Models*, arXiv:2102.09672. The cosine schedule, and why the end of the linear one is wasted.
# - Kingma, Salimans, Poole, Ho (2021), *Variational Diffusion Models*, arXiv:2107.00630. Proves that a schedule is a clock: in continuous time only the two ends of the SNR matter to the loss.
# - Lin, Liu, Li, Yang (2023), *Common Diffusion Noise Schedules and Sample Steps are Flawed*, arXiv:2305.08891. What a left-over picture in $x_T$ does to samples, and zero terminal SNR.
