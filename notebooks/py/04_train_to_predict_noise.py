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
# # Train to predict noise
#
# **You will do:** build the clock that tells a U-Net how noisy its input is, write the loss and the training step, overfit one batch,
# and train a real network for three minutes.
#
# **You will learn:** what changes when a network is asked for the noise and not for the picture; which loss a healthy network starts with; what an
# optimizer can make of a gradient; where in time the task is hard; what an average of the weights is good for.
#
# **You need:** about 60 minutes, exercises included (the computer needs about four of them); notebooks 02 (the U-Net) and 03 (x_t, a_t, b_t).
#
# ![Eight garments that the network has never seen; below each the same with noise, from t = 20 to t = 980; and below that the picture that the network believes to be in it: sharp at small t, smoothed in the middle, a shadow and then specks at the end.](../figures/04_x0_hat.png)
#
# In a hurry? Run all cells, and read the loss curve while it grows.

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
import copy
import math

import torch
import torch.nn.functional as F
from IPython.display import display
from safetensors import safe_open

from course_lib import viz, widgets
from course_lib.blocks import ResBlock, sinusoidal_embedding
from course_lib.checkpoint import load_checkpoint, load_shipped, save_checkpoint
from course_lib.checks import check, progress, solution  # noqa: F401 - solution is for you to call
from course_lib.data import load_fashion_mnist
from course_lib.forward import TARGETS, q_sample, to_x0_eps
from course_lib.objective import denoising_loss, min_snr_weights
from course_lib.optim import is_matrix, make_optimizers, orthogonalize
from course_lib.runtime import describe_machine, make_generator, pick_autocast, pick_device
from course_lib.sample import sample
from course_lib.schedule import make_schedule, sampling_times, start_time, zero_terminal_snr
from course_lib.shapes import count_parameters, format_trace, trace
from course_lib.train import EMA, RandomBatches, TrainConfig, train
from course_lib.unet import UNet

# %%
device = pick_device()
pictures = load_fashion_mnist("train")
test = load_fashion_mnist("test", source="packaged").to(device)
schedule = make_schedule("cosine")
print(describe_machine())
print(pictures)

# %% [markdown]
# The same symbols as in notebook 03: $x_t = a_t\,x_0 + b_t\,\varepsilon$ with $a_t$ = `schedule.signal[t]`, $b_t$ = `schedule.noise[t]`,
# and $\bar\alpha_t = a_t^2$ = `schedule.alpha_bar[t]`. Pictures are (B, C, H, W) in [−1, 1], timesteps `t` are int64 (B,), from 1 to T = 1000.
#
# ## Tell the network the time
#
# ![A heat map of the time embedding: narrow stripes on the left of each half, broad ones on the right; beside it four entries as waves, from fast to slow.](../figures/04_time_embedding.png)
#
# One network serves all thousand timesteps, so it must know which one it is looking at: at t = 10 nearly everything it sees is picture, at
# t = 990 nearly everything is noise. How should `t` enter?
#
# - **As the raw number:** 1 to 1000, beside pixels between −1 and 1. It would drown them.
# - **As one more input plane filled with t/T,** as the `DoubleConvUNet` of notebook 02 can. Neighbors then differ by a thousandth,
#   even at small t, where one step can halve the signal-to-noise ratio. And the plane enters once, at the top: every deeper layer must be handed the time by the one above.

# %%
snr = schedule.snr
print(f"t/T moves by {1 / schedule.T}; signal-to-noise ratio: {snr[1]:,.0f} at t = 1, {snr[2]:,.0f} at t = 2")
assert snr[2] < snr[1] / 2

# %% [markdown]
# The first step more than halves it, and the plane hardly moves. A **sinusoidal embedding** writes t as the hands of many
# clocks, fast ones for the fine differences and slow ones for the coarse. With `dim` entries and $i = 0, \dots, \text{dim}/2-1$:
#
# $$e_i(t) = \cos(\omega_i t), \qquad e_{\text{dim}/2+i}(t) = \sin(\omega_i t), \qquad \omega_i = 10000^{-2i/\text{dim}}$$
#
# ### Exercise 1 — The clocks  (difficulty 2 of 3, 8 minutes)
#
# Write the embedding of a batch of timesteps: first all cosines, then all sines. Make whatever tensors you need on the device of `t`.


# %%
def my_embedding(t, dim):
    """t (B,) of int64, dim an even int; returns the embedding, float32 (B, dim)."""
    return ...  # your code


# %%
check("embedding", my_embedding)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Three steps: the frequencies `omega`, (dim/2,), from `torch.arange(dim // 2, ...)`; the angles, (B, dim/2); their cosines and sines, joined by `torch.cat`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `t[:, None]` has shape (B, 1), so that times `omega` it gives (B, dim/2). A tensor is made on the CPU unless you say `device=t.device`.
#
# </details>
# <details><summary>Solution</summary>
#
# Run `solution("embedding")` in a new cell. The library's function is `course_lib.blocks.sinusoidal_embedding`.
#
# </details>

# %% [markdown]
# Written out for all timesteps at once, and compared with the library's:

# %%
t_all = torch.arange(1, schedule.T + 1)  # (1000,)
omega = 10000.0 ** (-2 * torch.arange(16) / 32)  # (16,)
hands = t_all[:, None] * omega  # (1000, 16): where each hand stands
written_out = torch.cat([hands.cos(), hands.sin()], dim=1)
torch.testing.assert_close(written_out, sinusoidal_embedding(t_all, 32), atol=1e-3, rtol=0)
viz.plot_time_embedding(written_out, t_all)

# %% [markdown]
# Because $\cos\cos + \sin\sin$ is the cosine of the difference, the distance of two embeddings depends on the distance of their
# times alone. Neighbors are as easy to tell apart at t = 1 as at t = 999:

# %%
e = sinusoidal_embedding(t_all, 32)
steps = (e[1:] - e[:-1]).norm(dim=1)
print(f"distance of neighbors: {steps.min():.2f} to {steps.max():.2f}; length of each embedding: {e[0].norm():.2f}")
assert (steps - 1.17).abs().max() < 0.005 and (e.norm(dim=1) - 4).abs().max() < 1e-3
viz.plot_curves({"from t = 300": (t_all, (e - e[299]).norm(dim=1))}, xlabel="t", ylabel="distance", mark=300)

# %% [markdown]
# ### How a block reads it
#
# Two linear layers turn the embedding into a vector `emb` (B, 128). Each residual block makes from it two numbers per channel, a **scale**
# and a **shift**, and applies them to its normalized maps h (B, C, H, W):
#
# $$h \leftarrow (1 + \text{scale}) \cdot \text{norm}(h) + \text{shift}$$
#
# where norm is GroupNorm: it brings each group of channels of one picture to mean 0 and variance 1. So the time can turn any channel of any
# block up, down or off. Here is the whole block, beside the library's:

# %%
block = load_shipped().model.down[0].res  # of the trained network that comes with the course
g, C = make_generator(0), block.conv1.in_channels
assert block.scale_shift.in_features == 128
x, emb = torch.randn(2, C, 14, 14, generator=g), torch.randn(2, block.scale_shift.in_features, generator=g)
with torch.no_grad():
    h = block.conv1(F.silu(block.norm1(x)))
    scale, shift = block.scale_shift(F.silu(emb))[:, :, None, None].chunk(2, dim=1)  # each (2, C, 1, 1)
    h = block.conv2(F.silu((1 + scale) * block.norm2(h) + shift))
    torch.testing.assert_close(x + h, block(x, emb), atol=1e-4, rtol=1e-4)

new = ResBlock(C, C, emb=emb.shape[1])
assert torch.equal(new(x, emb), x)
print("a new block hands on its input, bit for bit")

# %% [markdown]
# The last line holds because the second convolution starts at zero: a new block is its shortcut, and learns to add something.
# What does a *trained* block do with the time? Its gain, 1 + scale, for the four channels that move most:

# %%
with torch.no_grad():
    shipped = load_shipped().model
    gain = 1 + shipped.down[0].res.scale_shift(F.silu(shipped.time(t_all)))[:, :C]  # (1000, C)
assert (gain[199] - gain[0]).abs().mean() > (gain[999] - gain[800]).abs().mean()
most = gain.std(dim=0).argsort(descending=True)[:4]
viz.plot_curves({f"channel {c}": (t_all, gain[:, c]) for c in most.tolist()}, xlabel="t", ylabel="1 + scale")

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# The gains are smooth in t: from fast and slow clocks the network has mixed slow curves of its own. They move most at small t,
# where $b_t$ grows fastest, and level off where there is little but noise.
#
# </details>
#
# ## Look at the network
#
# ![The U-Net as a U: 28×28 pixels become 14×14, then 7×7 at the bottom, and come back up; arrows carry the skips across.](../figures/04_unet.png)
#
# `UNet()` is notebook 02's U with three large changes. Residual blocks that know the time replace the double convolutions. At the deepest point,
# where maps are 7×7, attention lets each place look at all others. And the picture is first cut into **patches** of 2×2 pixels, which become
# 4 channels, (B, 1, 28, 28) to (B, 4, 14, 14): the largest maps have a quarter of the pixels, which is what makes three minutes enough.
# There are small changes too: GroupNorm for BatchNorm, SiLU (a smooth ReLU) for ReLU, convolutions of stride 2 for the pools, and repeated
# pixels with a convolution for the transposed ones.

# %%
torch.manual_seed(0)  # the initial weights
model = UNet()
rows = trace(model, torch.zeros(1, 1, 28, 28), torch.tensor([1]), depth=2)
print(format_trace(rows))
sizes = [row.out_shape for row in rows]
assert count_parameters(model) == 677_668 and (1, 4, 14, 14) in sizes and min(s[-1] for s in sizes if len(s) == 4) == 7
viz.plot_unet(rows)

# %% [markdown]
# ## Ask for the noise
#
# **What we want** is a step back, from $x_t$ to a less noisy $x_s$. Notebook 03 has it for $s = t - 1$, the posterior $q(x_s \mid x_t, x_0)$, but it needs
# the picture $x_0$, which a sampler does not have. So a network $f(x_t, t)$ guesses. Of all guesses, the mean of all pictures that could
# hide in $x_t$ has the least squared error, and that is what training approaches.
#
# Picture and noise are tied together by $x_t$: who knows one knows the other. DDPM asks for the noise, $\hat\varepsilon$ = `eps_hat`.
#
# ### Exercise 2 — The picture behind the noise  (difficulty 1 of 3, 5 minutes)
#
# Solve $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$ for $x_0$, with the guess `eps_hat` in place of $\varepsilon$.
# Each picture has its own t: make `alpha_bar[t]`, of shape (B,), fit (B, C, H, W). Solve it as it is, without a clamp.


# %%
def my_x0_hat(x_t, eps_hat, t, alpha_bar):
    """x_t and eps_hat (B, C, H, W), t (B,) of int64, alpha_bar (T+1,); returns x0_hat like x_t."""
    return ...  # your code


# %%
check("x0_hat", my_x0_hat)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Bring the noise to the other side, then divide. The weights are square roots of `alpha_bar[t]` and of `1 - alpha_bar[t]`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `alpha_bar[t].view(-1, 1, 1, 1)` has shape (B, 1, 1, 1) and broadcasts over channels, rows and columns.
#
# </details>
# <details><summary>Solution</summary>
#
# Run `solution("x0_hat")` in a new cell. In the library it is `to_x0_eps` with kind `"eps"`, the first of the two results.
#
# </details>
#
# ### From the bound to one line
#
# How well does a model explain the pictures? DDPM's theory bounds it (the *variational bound*) by a sum over t: how far is the network's
# reverse step from the posterior, measured by a *KL divergence* between the two distributions? If the reverse step is a Gaussian with the
# posterior's variance, that is a weighted squared error of the noise. We take it from the paper (DDPM, eq. 12, for s = t − 1; the paper counts this term as $L_{t-1}$):
#
# $$L_t = \underbrace{\frac{\beta_t}{2\,\alpha_t\,(1-\bar\alpha_{t-1})}}_{c_t}\; \mathbb{E}\,\lVert \varepsilon - \hat\varepsilon(x_t, t) \rVert^2 \quad\text{(sum over pixels)}$$
#
# with $\alpha_t = 1 - \beta_t$. Here is $c_t$, the weight (t = 1 is a case of its own, since $\bar\alpha_0 = 1$):

# %%
beta, alpha_bar = schedule.beta, schedule.alpha_bar
c = beta[2:] / (2 * (1 - beta[2:]) * (1 - alpha_bar[1:-1]))
print(f"c at t = 2: {c[0]:.2f}, smallest: {c.min():.4f}, at t = T: {c[-1]:.0f}")
assert c[0] > 100 * c.min() and c[-1] > 100 * c.min()
viz.plot_curves({"c_t": (t_all[1:], c)}, xlabel="t", ylabel="weight in the bound", logy=True)

# %% [markdown]
# On this schedule the bound cares most for both ends: the last touches, which nobody sees, and the first step out of pure noise. DDPM drops the weight
# and gets better pictures. What is left is $L_\text{simple}$ (eq. 14), with t uniform on 1..T, the loss that we write and watch; *Weigh the timesteps*, below, gives
# small t less weight in the training:
#
# $$L_\text{simple} = \mathbb{E}_{x_0,\,t,\,\varepsilon}\ \lVert \varepsilon - \hat\varepsilon(a_t x_0 + b_t \varepsilon,\ t) \rVert^2 \quad\text{(mean over pixels)}$$
#
# ### Exercise 3 — The loss  (difficulty 2 of 3, 5 minutes)
#
# Write it: mix $x_t$ as in notebook 03, ask `model(x_t, t)`, compare with `eps`. Return one number, the mean over batch and pixels,
# as a tensor from which gradients can flow back to the network.


# %%
def my_loss(model, x0, t, eps, alpha_bar):
    """x0 and eps (B, C, H, W), t (B,) of int64, alpha_bar (T+1,); returns a scalar tensor with its gradient."""
    return ...  # your code


# %%
check("loss", my_loss)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Three lines: `x_t`, `eps_hat`, and the mean of the square of a difference.
#
# </details>
# <details><summary>Solution</summary>
#
# Run `solution("loss")` in a new cell. The library's `denoising_loss` keeps one number per picture; `.mean()` makes one number of them.
#
# </details>
#
# ### The loss at the start
#
# A good loss curve begins with a number that you know. The last convolution of `UNet` starts at zero, so a new network answers 0
# everywhere, whatever it is shown.
#
# ### Exercise 4 — Predict the first loss  (difficulty 1 of 3, 2 minutes)
#
# What is the loss of a network that answers 0, averaged over many pictures, timesteps and draws of noise? Predict it to a few percent; below it is measured.

# %%
my_first_loss = ...  # a number

# %%
check("first_loss", my_first_loss)

# %% [markdown]
# <details><summary>Hint</summary>
#
# With `eps_hat` = 0 the loss is the mean of $\varepsilon^2$. Each $\varepsilon$ is a draw from N(0, 1).
#
# </details>
# <details><summary>Solution</summary>
#
# Run `solution("first_loss")` in a new cell, or go on: the next code cell measures it.
#
# </details>

# %% [markdown]
# Over n numbers the mean of $\varepsilon^2$ scatters by $\sqrt{2/n}$:

# %%
g = make_generator(0, device)
x0 = test[:256]
t = torch.randint(1, schedule.T + 1, (256,), generator=g, device=device)
eps = torch.randn(x0.shape, generator=g, device=device)

model = model.to(device)
with torch.no_grad():
    a, b = schedule.at(t, x0)  # each (256, 1, 1, 1)
    eps_hat = model(a * x0 + b * eps, t)
    loss = (eps_hat - eps).square().mean()
    torch.testing.assert_close(loss, denoising_loss(model, schedule, x0, t, eps).mean())
scatter = math.sqrt(2 / eps.numel())
print(f"largest answer: {eps_hat.abs().max():.1f}, loss at the start: {loss:.4f} ± {scatter:.4f}")
assert eps_hat.abs().max() == 0 and abs(loss - 1) < 5 * scatter

# %% [markdown]
# This is a free test of any training code. While the last layer is zero, the loss is the mean of the squared target, whatever the network is
# shown. A start other than 1 means that the last layer is not zero, that the target is not noise of variance 1 (another scale, bytes), or
# that the loss is a sum, not a mean. An answer that leaks into the input shows later: then the loss falls to almost 0 on new noise too.
#
# ### Other things to ask for
#
# | target | the network predicts | known from |
# |---|---|---|
# | `eps` | the noise | DDPM |
# | `x0` | the picture | DDPM tried it; cold diffusion |
# | `v` | $a_t\,\varepsilon - b_t\,x_0$ | progressive distillation (arXiv:2202.00512) |
# | `velocity` | $\varepsilon - x_0$ | flow matching (arXiv:2210.02747) |
#
# Each gives back the pair ($\hat x_0$, $\hat\varepsilon$), with one exception. If no picture is left in x_T, $a_T = 0$, its noise says
# nothing about the picture: Exercise 2 divides by zero. The library refuses:

# %%
print("targets:", TARGETS)
try:
    to_x0_eps("eps", zero_terminal_snr(schedule), eps[:2], eps[:2], schedule.T)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Overfit one batch
#
# ![Loss of one batch seen again and again: from 1 down to nearly nothing.](../figures/04_overfit.png)
#
# Before you spend minutes (or weeks) on training, spend seconds: give the network the same 16 pictures, the same t and the same noise in
# each update. It has far more parameters than there are numbers to remember, so the loss must go towards 0. If it does not, something
# is broken, such as a gradient that does not arrive or a wrong target, and no amount of data will mend it.
#
# An **optimizer** holds the weights and changes them. PyTorch splits an update into three calls: `optimizer.zero_grad()` forgets the old gradient of every
# weight, `loss.backward()` *adds* the new one to what is there, `optimizer.step()` moves the weights by it.
#
# ### Exercise 5 — The training step  (difficulty 2 of 3, 8 minutes)
#
# One update of `model`: the loss of Exercise 3, its gradient, the step. The network may come with an old gradient. Call `my_loss` if you have solved it,
# or write the loss out again. Return the loss as it was before the step. Nothing else yet: no clipping, no weights, no change of mode.


# %%
def my_training_step(model, optimizer, x0, t, eps, alpha_bar):
    """x0 and eps (B, C, H, W), t (B,) of int64, alpha_bar (T+1,); updates model, returns the loss, a scalar."""
    return ...  # your code


# %%
check("training_step", my_training_step)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The loss first; then the three calls above, in the order in which they are named; then `return`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# All that is random is handed in: the noise that is mixed into x_t is the target too. Draw nothing.
#
# </details>
# <details><summary>Solution</summary>
#
# Run `solution("training_step")` in a new cell. In the library the step stands in the loop of course_lib/train.py, between learning rates, parts of a batch and averages.
#
# </details>

# %% [markdown]
# The step that this notebook goes on with has three additions. The gradient is cut to length 1 where it is longer, so that one odd batch cannot
# throw the weights far off. Each picture's loss can be multiplied by a number, and `make_optimizers` returns two optimizers: of both the next section speaks.


# %%
def step_once(model, optimizers, x0, t, eps, weight=1.0):
    """One update, with a weight of each picture's loss; returns the loss before it, unweighted, a scalar tensor."""
    each = denoising_loss(model, schedule, x0, t, eps)  # forward; (B,)
    model.zero_grad()  # forget the last gradient
    (weight * each).mean().backward()  # gradient of each parameter
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # at most of length 1
    for optimizer in optimizers:
        optimizer.step()
    return each.detach().mean()


torch.manual_seed(0)
small = UNet().to(device)
optimizers = make_optimizers(small, lr=2e-3)
few = (test[:16], t[:16], eps[:16])
losses = [step_once(small, optimizers, *few).item() for _ in range(120)]
print(f"first {losses[0]:.3f}, last {losses[-1]:.4f}")
assert losses[-1] < 0.05
viz.plot_loss(losses, smooth=0.5, reference={"predicting 0": 1.0}, logy=True)

# %% [markdown]
# Has it understood anything? The same pictures at the same timesteps, with fresh noise:

# %%
fresh = torch.randn(few[0].shape, generator=g, device=device)
with torch.no_grad():
    renewed = denoising_loss(small, schedule, test[:16], t[:16], fresh).mean().item()
print(f"noise it has seen {losses[-1]:.4f}, fresh noise {renewed:.4f}, {renewed / losses[-1]:.0f} times as much")
assert renewed > 5 * losses[-1]

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# It has learned this noise by heart. That is what was asked: the test is about the code, not about the network. In real training each update
# draws new pictures, new timesteps and new noise, so there is nothing to learn by heart.
#
# </details>
#
# **Explain it in your own words:** here a loss near 0 is good news. In real training, on new noise each time, it would be an alarm. Why?
#
# <details><summary>Model answer</summary>
#
# In $x_t$ picture and noise are mixed, and nobody can tell them apart without error: many pairs of both give the same $x_t$. The best possible
# network still has a loss clearly above 0. One near 0 therefore knows what it cannot know: the target has leaked into the input, or the target is
# something that is easy to read off $x_t$, or the "new" noise is always the same.
#
# </details>
#
# ## Train for three minutes
#
# ![The loss of a short run: it drops steeply from 1, then creeps down.](../figures/04_loss.png)
#
# ### Weigh the timesteps
#
# The loss of the noise can be read as an error of the picture. The true pair and the guessed one make up the same $x_t$:
# $a_t x_0 + b_t \varepsilon = a_t \hat x_0 + b_t \hat\varepsilon$, so $b_t (\varepsilon - \hat\varepsilon) = -a_t (x_0 - \hat x_0)$, and squared
#
# $$\lVert \varepsilon - \hat\varepsilon \rVert^2 = \frac{a_t^2}{b_t^2}\, \lVert x_0 - \hat x_0 \rVert^2 = \operatorname{SNR}_t\, \lVert x_0 - \hat x_0 \rVert^2$$
#
# The signal-to-noise ratio (SNR, notebook 03) is over a thousand at t = 10: there an error of the picture that is too small to see is a large loss.
# **Min-SNR** weighting (Hang et al. 2023) multiplies the loss by $\min(\operatorname{SNR}_t, 5) / \operatorname{SNR}_t$, so that an error of the picture counts
# $\min(\operatorname{SNR}_t, 5)$ times: 5 times at most.

# %%
loss_weights = min_snr_weights(schedule)  # (T+1,)
torch.testing.assert_close(loss_weights[1:], snr[1:].clamp(max=5) / snr[1:])
full = int((loss_weights == 1).nonzero()[0])  # the first t of weight 1
print(f"SNR at t = 20: {snr[20]:.0f}, weight {loss_weights[20]:.4f}; weight 1 from t = {full} on")
assert snr[10] > 1000 and loss_weights[20] < 0.01 and 250 < full < 300
viz.plot_curves({"min-SNR": (t_all, loss_weights[1:])}, xlabel="t", ylabel="weight of the loss")

# %% [markdown]
# About a quarter of all timesteps count for less, the very first for next to nothing. How much nearer to real pictures this brings the samples is
# measured in benchmarks/README.md.
#
# ### The loop
#
# DDPM's algorithm 1 is a loop around the step. Written as a Python generator (`yield`) it hands out each loss, and whoever calls it may look
# at anything in between:


# %%
def my_train(model, pictures, config):
    """Train for config.steps updates; yields the loss of each."""
    optimizers = make_optimizers(model, config.lr)
    loss_weights = min_snr_weights(schedule, gamma=config.snr_gamma).float().to(device)
    pictures = pictures.to(device)
    batches = RandomBatches(pictures, schedule, config.batch_size, config.seed)
    for step in range(1, config.steps + 1):
        index, t, eps = batches(step)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate(step, (step - 1) / config.steps)
        yield step_once(model, optimizers, pictures[index], t, eps, loss_weights[t]).item()


# %% [markdown]
# `batches(step)` gives the random part of an update: indices of B pictures, timesteps t (B,), noise (B, C, H, W). They follow from the seed
# and the number of the update alone, so a training that was stopped can go on as if nothing had happened.
#
# The library's `train` is this loop, plus time limits, autocast, averaging and many GPUs. From equal weights and one seed the two must agree:

# %%
config = TrainConfig(steps=6, batch_size=16, lr=1e-3, warmup=0, seed=1)
torch.manual_seed(0)
mine = UNet().to(device)
theirs = copy.deepcopy(mine)
my_losses = torch.tensor(list(my_train(mine, pictures, config)))
their_losses = torch.stack([update.loss for update in train(theirs, schedule, pictures, config)]).cpu()
print(my_losses)
torch.testing.assert_close(my_losses, their_losses, atol=0.005, rtol=0)

# %% [markdown]
# The learning rate rises over the first updates (`warmup`), then falls along half a cosine to a hundredth, so that the weights come to rest.
#
# ### Leave no direction behind
#
# The weight of a convolution, (out, in, 3, 3), is a matrix too: (out, in·9). So is its gradient, and a matrix can be taken apart into
# directions, with **singular values** that say how far it goes along each:
#
# $$G = U S V^\top = \sum_i S_i\, u_i v_i^\top$$
#
# In a gradient a few directions are far ahead of all others. The optimizer **Muon** (Jordan et al. 2024) goes equally far along each of them:
#
# $$W \leftarrow W - \text{lr} \cdot 0.2\,\sqrt{\max(\text{rows}, \text{columns})}\; U V^\top$$
#
# where G is now a running mean of the gradients. Instead of working out U and V it divides G by its norm and takes a polynomial of matrices, which acts on
# each singular value as on a plain number, $3.4445\,S_i - 4.775\,S_i^3 + 2.0315\,S_i^5$; after five times, all but the tiniest are near 1:


# %%
def my_orthogonalize(x):
    """x (rows, columns), rows <= columns; returns about U Vᵀ."""
    x = x / x.norm()
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x - 4.775 * square @ x + 2.0315 * square @ square @ x
    return x


shipped = shipped.to(device)
denoising_loss(shipped, schedule, *(part[:64] for part in (x0, t, eps))).mean().backward()
gradient = shipped.middle[0].res.conv1.weight.grad.flatten(1)  # (out, in * 9)
torch.testing.assert_close(my_orthogonalize(gradient), orthogonalize(gradient[None])[0], atol=1e-3, rtol=0)
moves = {"gradient": gradient, "AdamW, first step": gradient.sign(), "Muon": my_orthogonalize(gradient)}

# %%
curves, last = {}, []
for name, move in moves.items():
    s = torch.linalg.svdvals(move).cpu()
    curves[name] = (range(1, len(s) + 1), s / s[0])
    last.append(s[-1] / s[0])
    print(f"{name:18} singular values {s[0]:.2g} to {s[-1]:.2g}, the last is {s[-1] / s[0]:.2f} of the first")
assert s[-1] > 0.65 and s[0] < 1.25 and last[0] < last[1] < last[2]
small_ones = [name for name, p in shipped.named_parameters() if p.ndim > 1 and not is_matrix(p)]
assert small_ones == ["out.2.weight"] and shipped.out[2].out_channels == 4
viz.plot_curves(curves, xlabel="direction", ylabel="singular value / the first", logy=True)

# %% [markdown]
# Muon's values lie between about 0.7 and 1.2, which is near enough. **AdamW**, the usual optimizer, divides each entry of the gradient by a running mean of its
# size, so that its first step is the sign of the gradient: flatter than the gradient, but not flat. Why flat is better is not settled. One reading: what is rare or fine lives in the directions
# that the gradient hardly has, and Muon learns it from the start. Is it better here? Measure it: *On your own*, 5.
#
# AdamW still trains what is no matrix (biases, scales of the norms) and the last convolution, a matrix of only four rows. The factor before $U V^\top$ makes the step
# about as large as one of AdamW, so that one learning rate serves both.
#
# ### Average the weights
#
# Weights jitter from batch to batch; their running average, an **EMA** (exponential moving average), jitters less, and it is the average that we sample from. With decay d:
#
# $$\text{average} \leftarrow d \cdot \text{average} + (1 - d) \cdot \text{weights}$$
#
# ### Exercise 6 — The running average  (difficulty 1 of 3, 3 minutes)
#
# Write one update of it, for one tensor of weights.


# %%
def my_ema(average, weights, decay):
    """Two tensors of one shape and a number; returns the new average, a new tensor."""
    return ...  # your code


# %%
check("ema", my_ema)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# With a decay near 1 the average hardly moves.
#
# </details>
# <details><summary>Solution</summary>
#
# Run `solution("ema")` in a new cell. In the library one fused call does it for all parameters.
#
# </details>

# %% [markdown]
# Such an average looks back over about $1/(1-d)$ updates. Your run has perhaps one to three thousand. After a thousand, what share of the average
# would still be the random start? With a plain average $d^n$. The library limits d to $(1+n)/(10+n)$ at update n, which forgets the start at once:

# %%
n, decay = 1000, EMA(small).decay
limited = [min(decay, (1 + i) / (10 + i)) for i in range(1, n + 1)]
print(f"share of the start after {n} updates: {0.999**n:.1%} with d = 0.999, {math.prod(limited):.0e} with the limit")
recent = 1 - math.prod(limited[-n // 9 :])
print(
    f"share of the last ninth of the updates: {recent:.0%}; d = {decay} counts from update {9 / (1 - decay) - 10:,.0f} on"
)
assert round(0.999**n, 2) == 0.37 and math.prod(limited) < 1e-15
assert decay < 1001 / 1010 or abs(recent - 2 / 3) < 0.03

# %% [markdown]
# A plain 0.999 would be too slow for a run of a thousand: 37 % of the average would be random weights. With the limit, two thirds of it come from the last ninth of
# the run, however long the run is, until d itself is the smaller of the two.
#
# ### Run it
#
# Two things make it quick. `channels_last` stores the channels of a pixel side by side, which convolutions like. `pick_autocast` tries
# whether this machine trains this model clearly faster with *autocast*, where most operations take numbers of 16 bits (bfloat16) in place of 32. The limit is a time, not a number of updates, so it takes three minutes on any
# machine; a faster one gets further. `draw` makes 8 pictures in 25 steps with the averaged weights, always from the same noise. What you look
# at on the way is part of the three minutes, so it is kept short. Let it finish; for a shorter run, set `minutes=1`.

# %%
torch.manual_seed(0)
model = UNet().to(device, memory_format=torch.channels_last)
ema = EMA(model)
config = TrainConfig(minutes=3)
x_T = torch.randn(32, 1, 28, 28, generator=make_generator(1, device), device=device)


def draw(model=ema.model, count=8):
    """Samples; notebook 05 is about how."""
    times = sampling_times(schedule.T, 25, start=start_time(schedule))
    return sample(model, schedule, x_T[:count], times=times, eta=1.0, order=2, generator=make_generator(2, device))


@torch.no_grad()
def held_out(model, count=32):
    """Loss on test pictures, always with the same timesteps and noise."""
    g = make_generator(3, device)
    t = torch.linspace(1, schedule.T, count).long().to(device)
    eps = torch.randn(count, 1, 28, 28, generator=g, device=device)
    return denoising_loss(model, schedule, test[:count], t, eps).mean().item()


# %%
monitor = widgets.TrainingMonitor(draw=draw, smooth=0.95, reference={"predicting 0": 1.0})
display(monitor)
autocast = pick_autocast(model, x_T, torch.ones(len(x_T), dtype=torch.int64, device=device))
an_eighth, half_way, history = None, None, []
for update in monitor.watch(train(model, schedule, pictures, config, ema=ema, autocast=autocast)):
    if update.progress >= 0.1 * (len(history) + 1):  # ten times in all
        history.append((update.step, held_out(model), held_out(ema.model)))
    if an_eighth is None and update.progress >= 1 / 8:
        an_eighth = copy.deepcopy(ema.model)  # to be saved below
    if half_way is None and update.progress >= 0.5:
        half_way = copy.deepcopy(model), copy.deepcopy(ema.model)

# %%
last = monitor.losses[-(len(monitor.losses) // 5) :]  # one batch alone says little
final = sum(last) / len(last)
print(f"{update.step:,} updates in {update.seconds:.0f} s, loss {final:.3f}, autocast: {autocast}")
assert final < 0.5  # loose on purpose: a slow or busy machine must meet it too
viz.show_grid(draw(count=32), columns=8, title="32 samples of the averaged weights")

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# The loss falls off a cliff and then creeps: the network soon tells noise from everything else; the rest is learning what clothes are. The samples are noise at first, then blots, then garments, and they go on improving while the loss hardly moves.
# A single loss value says little: each batch has other pictures, other noise and other timesteps. How much the timestep matters is the next section.
#
# </details>
#
# ## See what it learned
#
# ### Exercise 7 — Predict where it is hard  (difficulty 2 of 3, 2 minutes)
#
# The loss of single pictures depends on their t. Before you look: where is it highest?
#
# - **a** at small t, where $x_t$ is nearly the picture
# - **b** in the middle, where both are mixed
# - **c** at large t, where $x_t$ is nearly noise
# - **d** nowhere: the noise has variance 1 at every t

# %%
my_hard_times = ...  # "a", "b", "c" or "d"

# %%
check("hard_times", my_hard_times)

# %% [markdown]
# <details><summary>Hint</summary>
#
# The network is asked for the noise, not for the picture. Imagine being shown $x_t$ at t = 1 and being asked which noise is in it.
#
# </details>
# <details><summary>Solution</summary>
#
# Run `solution("hard_times")` in a new cell, or go on: the next code cell measures it.
#
# </details>
#
# ### Loss by timestep
#
# ![Mean loss against the timestep: high bars at small t, falling steadily to almost nothing at large t.](../figures/04_loss_by_timestep.png)
#
# A thousand test pictures, one at each timestep:

# %%
net = ema.model
x0_each = test[: schedule.T]
eps_each = torch.randn(x0_each.shape, generator=make_generator(4, device), device=device)
t_each = t_all.to(device)
with torch.no_grad():
    by_time = denoising_loss(net, schedule, x0_each, t_each, eps_each)
early, late = by_time[:100].mean(), by_time[-100:].mean()
print(f"mean loss: {early:.3f} for t up to 100, {late:.3f} for t above 900")
assert early > 1.5 * late  # loose again, for slow machines
viz.plot_loss_by_timestep(t_each, by_time, schedule.T)

# %% [markdown]
# **Explain it in your own words:** which timesteps are hard, and why?
#
# <details><summary>Model answer</summary>
#
# Small t. There the input is almost all picture, and the noise to be found is a whisper in it: at t = 1 its factor $b_t$ is less than a hundredth.
# Whatever the network cannot tell from texture, it cannot report; only on the black ground around the clothes does the noise lie open. At large t the input is almost all noise, and
# handing it on is nearly the right answer. That training hardly asks about the first timesteps adds to it; but without weights they are hard too (*On your own*, 2).
#
# </details>

# %% [markdown]
# Careful: an easy timestep is not one where the network knows the picture. Its error is that of the noise divided by the signal-to-noise ratio
# (*Weigh the timesteps*), so the same error of the noise is a tiny error of the picture at small t and a huge one at large t:

# %%
with torch.no_grad():
    x_t, _ = q_sample(schedule, x0_each, t_each, eps_each)
    x0_hat, eps_hat = to_x0_eps("eps", schedule, net(x_t, t_each), x_t, t_each)
picture_error = (x0_each - x0_hat).square().mean(dim=(1, 2, 3))  # (1000,)
torch.testing.assert_close(picture_error, by_time / snr[1:].float().to(device), rtol=0.02, atol=1e-6)

for low in (1, 201, 401, 601, 801):
    errors = [error[low - 1 : low + 99].mean() for error in (by_time, picture_error)]
    print("t = {:3d} to {:3d}: noise error {:.3f}, picture error {:.4f}".format(low, low + 99, *errors))
assert picture_error[800:900].mean() > 3 * picture_error[:100].mean()
assert schedule.noise[1] < 0.01 and 1 / schedule.signal[-1] > 20_000

# %% [markdown]
# **Explain it in your own words:** picture and noise are tied together by $x_t$. So does it matter at all which of the two a network is asked for?
#
# <details><summary>Model answer</summary>
#
# Its answer can be turned into the other, but the plain losses count errors differently. The one on the noise is the one on the picture times the
# signal-to-noise ratio: asked for the noise, a network is taken to task for small faults of the picture at small t; asked for the picture, for the rough
# guesses at large t, beside which the fine faults at small t count for next to nothing. The weights of `min_snr_weights` undo this: they have a
# formula for each target, and the weighted loss is always $\min(\operatorname{SNR}_t, 5)$ times the error of the picture.
#
# </details>
#
# ### x0_hat at every timestep
#
# ![Eight garments that the network has never seen; below each the same with noise, from t = 20 to t = 980; and below that the picture that the network believes to be in it: sharp at small t, smoothed in the middle, a shadow and then specks at the end.](../figures/04_x0_hat.png)
#
# Drag **t** over pictures that the network has never seen. The bottom row is what it believes to be behind the noise: x_t follows your hand at once, the guess as fast as the network answers.
#
# *Below is a slider. Where it does not run (on GitHub, in print), the picture above shows what it is about; `make lab` opens the live one.*

# %%
widgets.x0_hat_explorer(net, schedule, test[:8], t=300)

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# At small t the guess is the picture. In the middle prints and straps go, and the outline stays: $\hat x_0$ is a mean over all pictures that
# could be there, and a mean is blurred. Far out it turns into an all-purpose garment, then into specks: at t = T dividing by
# $a_T$ multiplies each small error by more than 20,000. So one jump from noise gives no picture here: specks, and without them a mean of all pictures.
# Notebook 05 takes many short steps, and asks again after each.
#
# </details>
#
# ### EMA or not
#
# ![Two rows of samples from the same noise, half-way through training: with the weights of the moment, and with their average.](../figures/04_ema.png)
#
# The weights of the moment and their average, on the same test pictures with the same noise, all through the run:

# %%
seen, plain, averaged = zip(*history, strict=True)
half = (len(history) - 1) // 2  # the fifth of ten
print(f"half-way: weights {plain[half]:.4f}, average {averaged[half]:.4f}")
print(f"end:      weights {plain[-1]:.4f}, average {averaged[-1]:.4f}")
assert abs(averaged[-1] / plain[-1] - 1) < 0.1
curves = {"weights": (seen[1:], plain[1:]), "average": (seen[1:], averaged[1:])}
viz.plot_curves(curves, xlabel="updates", ylabel="loss on test pictures")

# %% [markdown]
# And in pictures, from the same x_T:

# %%
chosen = {
    "weights, half-way": half_way[0],
    "average, half-way": half_way[1],
    "weights, end": model,
    "average, end": net,
}
viz.show_rows({name: draw(one) for name, one in chosen.items()})

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# While the learning rate is high, the average is usually ahead: its loss is lower, and its samples have fewer specks. At the end, when the learning
# rate has gone down, the two losses are nearly the same. The samples need not be: over many of them, after three minutes of training, those of the last weights
# were more than twice as far from real pictures as those of the average (benchmarks/README.md). The loss does not see what the average still takes away.
# It costs a second copy of the weights.
#
# </details>
#
# ### Save it
#
# A checkpoint is one file: the weights and the schedule's tables as safetensors (numbers only, no code); its header says what they are.
# The average as it was after an eighth of the time gets a file, too: notebook 05 has a use for a network that is worse.

# %%
details = {
    "updates": update.step,
    "minutes": round(update.seconds / 60, 2),
    "data": pictures.sha256,
    "loss": round(final, 4),
}
path = save_checkpoint("my_unet.safetensors", net, schedule, target="eps", details=details)
save_checkpoint("my_unet_weak.safetensors", an_eighth, schedule, target="eps", details={"data": pictures.sha256})
with safe_open(path, "pt") as file:
    print(file.metadata()["card"])

# %%
loaded = load_checkpoint(path, device)
again = loaded.model.to(memory_format=torch.channels_last)
with torch.no_grad():
    assert torch.equal(again(x_T, t_each[:32]), net(x_T, t_each[:32]))
print(f"same output, bit for bit; trained with the {loaded.schedule.name} schedule to predict {loaded.target}")

# %% [markdown]
# Bit for bit needs the same machine and the same memory order, hence `channels_last` again: another order adds the same numbers in
# another sequence and rounds differently in the last digits. Notebook 05 samples from `my_unet.safetensors`, if it finds it.

# %% [markdown]
# The exercises of this notebook, by the last run of each check:

# %%
progress()

# %% [markdown]
# ## In three lines
#
# - The network sees $x_t$ and, through a scale and a shift in each block, the time; it answers with the noise.
# - The loss is the mean squared error of that answer. It starts at 1, must go to 0 on one batch, and is highest at small t, where training asks least.
# - From $\hat\varepsilon$ comes $\hat x_0$: a mean over all pictures that could be there, so it is blurred where much noise is.
#
# ## Honest limits
#
# - Three minutes give clothes that can be told apart, not good ones. Notebook 05 shows what the same network does after a longer training.
# - The loss does not measure how good samples look, and looking at 32 of them is no measurement either.
# - How many updates fit into three minutes depends on the machine, and with it every number after the training.
# - The network has seen grey 28×28 pictures of clothes with a black background. It knows nothing else.
#
# ## On your own
#
# 1. Train with `target="v"` in `TrainConfig`. Pass the target on to `denoising_loss`, `sample`, `to_x0_eps`, the explorer and
#    `save_checkpoint` (both times) too; what is asserted under *Loss by timestep* holds for eps alone. Where does x0_hat differ most? (The weighted
#    loss is the same error of the picture for both; what differs is how an answer becomes a picture.)
# 2. Train with `TrainConfig(minutes=3, snr_gamma=None)`, all timesteps alike. Compare the loss by timestep, and the samples.
# 3. Break a copy of `step_once`: leave out `zero_grad`. Does overfitting one batch notice? And what if x_t is mixed without the square roots,
#    with `Schedule(schedule.alpha_bar, 1 - schedule.alpha_bar)` from `course_lib.schedule` in the loss?
# 4. Draw timesteps below 200 only: in `my_train`, put `t = 1 + t % 199` after the batch, and run it with `TrainConfig(steps=update.step)`. What becomes of the loss, and what of the samples?
# 5. Let `make_optimizers` in `my_train` be AdamW alone, `[torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.0)]`, and train
#    for as many updates as above, with `TrainConfig(steps=update.step)` and lr 4e-3 or 1e-3; compare with `model`, not with its average. What becomes of the loss, and what of the samples?
# 6. Train for longer: in a terminal, in the course's folder, after `source .venv/bin/activate` (Windows: `.venv\Scripts\activate`). What takes hours should survive a closed lid: a run is a folder, and `--resume` goes on in it
#    where it was stopped or killed. The others train on your own pictures, on several GPUs, and look at the result:
#
# ```
# python -m course_lib train --minutes 60 --out runs/a
# python -m course_lib train --out runs/a --resume
# python -m course_lib train --minutes 60 --out runs/b --data path/to/folder --size 64 --color
# accelerate launch -m course_lib train --minutes 60 --batch-size 256 --out runs/c
# python -m course_lib sample --checkpoint runs/a --out samples
# ```
#
# ## References
#
# - Ho, Jain, Abbeel 2020, *Denoising diffusion probabilistic models*, arXiv:2006.11239. Section 3 derives the loss; algorithm 1 is your loop.
# - Nichol, Dhariwal 2021, *Improved denoising diffusion probabilistic models*, arXiv:2102.09672. The cosine schedule, and which timesteps carry the bound.
# - Dhariwal, Nichol 2021, *Diffusion models beat GANs on image synthesis*, arXiv:2105.05233. Scale and shift by the time, and other choices in the U-Net, tried one by one.
# - Salimans, Ho 2022, *Progressive distillation for fast sampling of diffusion models*, arXiv:2202.00512. Section 4 and appendix D: the v target and what weighting each target implies.
# - Hang et al. 2023, *Efficient diffusion training via min-SNR weighting strategy*, arXiv:2303.09556. The weights of the loss, and why timesteps pull against each other.
# - Liu et al. 2025, *Muon is scalable for LLM training*, arXiv:2502.16982. Muon (Keller Jordan et al. 2024, kellerjordan.github.io/posts/muon) beside AdamW, with the factor that lets them share a learning rate.
