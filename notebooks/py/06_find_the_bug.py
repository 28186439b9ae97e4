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
# # Find the bug
#
# **You will do:** look at eleven short programs, each with one mistake in it; say from what you see which mistake it is; mend it; and run the smallest test that would have caught it.
#
# **You will learn:** which symptom speaks for which mistake and against which others; why a falling loss proves little; how small a test can be. At the end stands a debugging guide for your own programs.
#
# **You need:** about 80 minutes, in as many sittings as you like, since each case stands alone (the computer needs less than one of them); notebooks 02 to 05 (cases 1 to 3 need 03 alone).
#
# ![Twelve small panels. Eleven symptoms: a strip that runs from noise to picture; white shapes on gray; a last picture that is still a pullover; flat gray squares; a loss that begins at one half; a loss that begins near 20 and stops at 1; two losses that are one curve; one boot in four brightnesses, and a white square; black and white noise; black squares and white blotches; garments with grain. The twelfth shows healthy samples.](../figures/06_symptoms.png)
#
# *Eleven patients, and one who is well. All of it comes from the programs below.*

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
from itertools import pairwise

import torch
from torch import nn

from course_lib import viz, widgets
from course_lib.checkpoint import load_shipped
from course_lib.checks import check, progress
from course_lib.data import load_fashion_mnist, to_float
from course_lib.forward import q_sample
from course_lib.objective import denoising_loss
from course_lib.runtime import make_generator
from course_lib.sample import SampleStep, predict, reverse_step, sample
from course_lib.schedule import from_betas, make_schedule, sampling_times, zero_terminal_snr
from course_lib.shapes import count_parameters
from course_lib.unet import BottleneckUNet, DoubleConvUNet, UNet

torch.set_num_threads(1)  # small networks, small batches: several threads would only wait for each other
pictures, test = (load_fashion_mnist(split, source="packaged") for split in ("train", "test"))
small = load_fashion_mnist("train", 16, source="packaged")
shipped = load_shipped()
model, schedule = shipped.model, shipped.schedule
T, alpha_bar = schedule.T, schedule.alpha_bar.float()  # alpha_bar (T+1,), 1 at t = 0

# %% [markdown]
# ## The rules
#
# What is imported from `course_lib` is right, and so are the three cells below. The mistake is in the code of the case itself: always one, in one line, of a kind that people really make, and the program always runs.
#
# For each case: **run** it and look. **Diagnose**: choose what is wrong; the check says why the symptom speaks against a wrong choice. **Mend**: write the broken function as it should be. You may copy the lines of its body and change what must be changed; keep the name of yours, since the test below still needs the broken program. The check compares with the library's own.
# Then run **the smallest test**, on the broken program and on the library's. It says red or green and stops nothing. Tests come last here because they give the answer away. In your own programs they come first.


# %%
def column(values):
    """(B,) to (B, 1, 1, 1), ready to multiply pictures."""
    return values.view(-1, 1, 1, 1)


def noise(count, seed, size=28):
    """count tensors from N(0, 1), (count, 1, size, size)."""
    return torch.randn(count, 1, size, size, generator=make_generator(seed))


def verdict(test, **programs):
    """Run a test on each program: red with its message, or green."""
    for name, program in programs.items():
        try:
            test(program)
            print(f"✓ green  {name}")
        except Exception as error:
            print(f"✗ red    {name}: {error}")


# %%
def train_for(updates, network, loss_of, lr):
    """Train with AdamW; returns the loss of each update."""
    optimizer, generator, losses = torch.optim.AdamW(network.parameters(), lr=lr), make_generator(0), []
    for _ in range(updates):
        x0 = pictures[torch.randint(len(pictures), (16,), generator=generator)]
        t = torch.randint(1, T + 1, (16,), generator=generator)
        eps = torch.randn(x0.shape, generator=generator)
        loss = loss_of(network, x0, t, eps, alpha_bar)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def library_loss(network, x0, t, eps, alpha_bar):
    """The loss of notebook 04, one number."""
    return denoising_loss(network, schedule, x0, t, eps).mean()


# %%
def train_16(updates, net, forward):
    """Train to find the picture in any mixture of it with noise, as in notebook 02; returns the losses."""
    optimizer, generator, losses = torch.optim.Adam(net.parameters(), lr=3e-3), make_generator(0), []
    for _ in range(updates):
        x0 = small[torch.randint(len(small), (32,), generator=generator)]
        amount = torch.rand(32, 1, 1, 1, generator=generator)
        mixed = (1 - amount) * x0 + amount * torch.randn(x0.shape, generator=generator)
        loss = (forward(net, mixed) - x0).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% [markdown]
# ## Case 1: The film runs backwards
#
# The program makes the table of a schedule from its betas, then mixes one picture with noise at nine timesteps.


# %%
def make_table(betas):
    """betas (T,); returns the table alpha_bar, (T+1,), for t = 0..T."""
    products = (1 - betas).cumprod(0)
    return 1 - torch.cat([torch.ones_like(betas[:1]), products])


def mix_1(x0, t, eps, table):
    a = column(table[t])
    return a.sqrt() * x0 + (1 - a).sqrt() * eps


betas = torch.linspace(0.0001, 0.02, 1000)
stops_1 = torch.tensor([0, 50, 100, 200, 300, 400, 500, 700, 1000])
boot = test.of_class(9)[:1]  # (1, 1, 28, 28)

# %%
seen_1 = mix_1(boot, stops_1, noise(1, seed=0), make_table(betas))  # (9, 1, 28, 28)
viz.show_rows({"x_t": seen_1}, titles=[f"t = {t}" for t in stops_1.tolist()])

# %% [markdown]
# ### Exercise 1 — Diagnose case 1  (difficulty 1 of 3, 2 minutes)
#
# Which mistake would show itself like this?
#
# - **a** `betas` falls from 0.02 to 0.0001 instead of rising.
# - **b** The noise is too strong: its variance is not 1.
# - **c** `mix_1` reads the table as the share of picture that is left; the table holds the share of noise that was added.
# - **d** The timesteps are handed to `mix_1` in falling order.

# %%
diagnosis_1 = ...  # "a", "b", "c" or "d"

# %%
check("diagnosis_1", diagnosis_1)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Which number must the table hold at t = 0, where $x_0$ is untouched? Which does it hold?
#
# </details>
#
# <details><summary>Solution</summary>
#
# **c.** `products` is what is left, from 1 downwards. `1 - products` is what has been added, and grows. `mix_1` weighs the picture with its root.
#
# </details>
#
# ### Exercise 2 — Mend case 1  (difficulty 1 of 3, 3 minutes)
#
# Write `make_table` as it should be: $\bar\alpha_t = \prod_{i \le t} (1 - \beta_i)$, with $\bar\alpha_0 = 1$.


# %%
def my_table(betas):
    """betas (T,), beta_1..beta_T; returns alpha_bar, (T+1,)."""
    return ...  # your code


# %%
check("mend_1", my_table)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# One `1 -` too many.
#
# </details>
#
# <details><summary>Solution</summary>
#
# `course_lib.schedule.from_betas` works out $\bar\alpha$ on its way to the two tables; `solution("mend_1")` shows it (`from course_lib.checks import solution`).
#
# </details>
#
# **The smallest test:** the first entry, and the direction. Ten betas are enough.


# %%
def test_1(make_table):
    table = make_table(torch.full((10,), 0.1))
    assert table[0] == 1, f"t = 0 must be the picture itself, but only {table[0]:g} of it is left there"
    assert (table.diff() < 0).all(), "the picture must fade with t"


# %%
verdict(test_1, broken=make_table, library=lambda betas: from_betas(betas).alpha_bar)

# %% [markdown]
# Run it on yours, too: `verdict(test_1, mine=my_table)`. So in every case; where yours needs something around it, the case says so.
#
# ## Case 2: White shapes on gray
#
# The pictures come from the disk as bytes. The program prepares them, and mixes them with noise on the cosine schedule.


# %%
def load(images):
    """images uint8, 0..255; returns floats, the same shape."""
    return images.float()


stops_2 = torch.tensor([0, 200, 400, 600, 800, 900, 950, 1000])
x0 = load(test.of_class(9).images[:1])
a, b = schedule.at(stops_2, x0)  # each (8, 1, 1, 1)
seen_2 = a * x0 + b * noise(1, seed=1)
viz.show_rows({"x_t": seen_2}, titles=[f"t = {t}" for t in stops_2.tolist()])

# %% [markdown]
# ### Exercise 3 — Diagnose case 2  (difficulty 1 of 3, 2 minutes)
#
# - **a** The schedule has too few steps.
# - **b** The noise is too weak.
# - **c** Black and white are swapped.
# - **d** The pixels are still the numbers of bytes, 0 to 255.

# %%
diagnosis_2 = ...  # "a", "b", "c" or "d"

# %%
check("diagnosis_2", diagnosis_2)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The screen shows -1 as black, 0 as mid-gray, and 1 and all above as white. Which values has the background at t = 0?
#
# </details>
#
# <details><summary>Solution</summary>
#
# **d.** The first loss need not betray it: a `UNet`, whose last layer starts at zero, answers 0 to bytes too, and has a loss of 1. The library's `q_sample` refuses such pictures.
#
# </details>
#
# ### Exercise 4 — Mend case 2  (difficulty 1 of 3, 3 minutes)
#
# Write `load` as it should be, for the range of this course.


# %%
def my_load(images):
    """images uint8, any shape; returns float32, the same shape."""
    return ...  # your code


# %%
check("mend_2", my_load)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# 0 must become -1, and 255 must become 1: divide by half the range, then shift.
#
# </details>
#
# <details><summary>Solution</summary>
#
# `course_lib.data.to_float`.
#
# </details>
#
# **The smallest test:** two pixels.


# %%
def test_2(load):
    ends = load(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
    assert ends == [-1, 1], f"black and white must become -1 and 1, and become {ends[0]:g} and {ends[1]:g}"


# %%
verdict(test_2, broken=load, library=to_float)

# %% [markdown]
# ## Case 3: The last picture is no noise
#
# A thousand steps are slow, so this program takes 150.


# %%
def make_alpha_bar(T):
    """The table alpha_bar of T steps, (T+1,)."""
    betas = torch.linspace(0.0001, 0.02, T)
    return torch.cat([torch.ones(1), (1 - betas).cumprod(0)])


stops_3 = torch.tensor([0, 20, 40, 60, 80, 100, 120, 135, 150])
a = column(make_alpha_bar(150)[stops_3])
seen_3 = a.sqrt() * test.of_class(2)[:1] + (1 - a).sqrt() * noise(1, seed=2)
viz.show_rows({"x_t": seen_3}, titles=[f"t = {t}" for t in stops_3.tolist()])

# %% [markdown]
# ### Exercise 5 — Diagnose case 3  (difficulty 1 of 3, 2 minutes)
#
# - **a** The noise is too weak.
# - **b** These betas are too small for so few steps.
# - **c** `t` is off by one.
# - **d** The weight of the picture is $\sqrt{\alpha_t}$, of one step, instead of $\sqrt{\bar\alpha_t}$.

# %%
diagnosis_3 = ...  # "a", "b", "c" or "d"

# %%
check("diagnosis_3", diagnosis_3)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# How much of the picture is left? Print `make_alpha_bar(150)[-1].sqrt()`, then the same for 1000.
#
# </details>
#
# <details><summary>Solution</summary>
#
# **b.** Notebook 03 shows what comes of it: the network never sees pure noise in training, and is handed just that when sampling begins.
#
# </details>
#
# ### Exercise 6 — Mend case 3  (difficulty 2 of 3, 6 minutes)
#
# Larger betas would do. Here mend any table, whatever it came from: write the function that shifts and stretches $a = \sqrt{\bar\alpha}$ so that $a_T = 0$ and $a_1$ stays where it was,
#
# $$a'_t = (a_t - a_T)\,\frac{a_1}{a_1 - a_T}, \qquad t \ge 1$$
#
# and returns $\bar\alpha' = a'^2$, with $\bar\alpha'_0 = 1$.


# %%
def my_rescaled(alpha_bar):
    """alpha_bar (T+1,); returns alpha_bar of the same length, with 0 at the end."""
    return ...  # your code


# %%
check("mend_3", my_rescaled)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Work with `a = alpha_bar.sqrt()`, and square at the end.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Compute the whole table, then put a 1 in front of its entries from 1 on: `torch.cat`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# `course_lib.schedule.zero_terminal_snr`. Who predicts eps cannot begin at a_T = 0, and takes larger betas instead, or v: notebook 03.
#
# </details>
#
# **The smallest test:** one entry of the table, for every T that you use.


# %%
def test_3(make_alpha_bar):
    for steps in (1000, 150, 50):
        left = make_alpha_bar(steps)[-1].sqrt()
        assert left < 0.02, f"with {steps} steps, {left:.2f} of the picture is left in x_T"


# %%
left_3 = make_alpha_bar(150)[-1].sqrt()
assert abs(left_3 - 0.47) < 0.005 and make_alpha_bar(1000)[-1].sqrt() < 0.007
verdict(test_3, broken=make_alpha_bar, library=lambda T: zero_terminal_snr(make_schedule("linear", T)).alpha_bar)

# %% [markdown]
# The broken program passes with 1000 steps. A test must try what you use. Yours takes a table, so try it as
# `verdict(test_3, mine=lambda T: my_rescaled(make_alpha_bar(T)))`.
#
# ## Case 4: Everything turns into flat gray
#
# The weights that come with the course draw eight pictures in 20 steps. Each step asks the network for the picture and the noise, and mixes them again for the next timestep.


# %%
def mix_4(x0, t, eps, alpha_bar):
    """x0, eps (B, C, H, W), t (B,); returns x_t."""
    picture, rest = column(alpha_bar[t]), column((1 - alpha_bar[t]).sqrt())
    return picture * x0 + rest * eps


def draw_4(x, times):
    for t, s in pairwise(times):  # predict: the library's x0_hat and eps_hat
        x0_hat, eps_hat = predict(model, schedule, x, t)
        x = mix_4(x0_hat, torch.full((len(x),), s), eps_hat, alpha_bar)
    return x


# %%
seen_4 = draw_4(noise(8, seed=3), sampling_times(T, 20))
print(f"standard deviation of the pixels: {seen_4.std():.2f}; of real pictures {test[:500].std():.2f}")
assert seen_4.std() < 0.25 and test[:500].std() > 0.6
viz.show_rows({"samples": seen_4})

# %% [markdown]
# ### Exercise 7 — Diagnose case 4  (difficulty 2 of 3, 3 minutes)
#
# - **a** In `mix_4` the weight of the picture lacks its root.
# - **b** In `mix_4` the weight of the noise lacks its root.
# - **c** The network has not been trained long enough.
# - **d** The network is told the wrong timestep.

# %%
diagnosis_4 = ...  # "a", "b", "c" or "d"

# %%
check("diagnosis_4", diagnosis_4)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Gray is 0: the picture has been multiplied away. By which weight, step after step?
#
# </details>
#
# <details><summary>Solution</summary>
#
# **a.** $\bar\alpha_s = a_s^2$ stands where $a_s$ belongs. In one step that is hardly seen; twenty steps multiply it up. The same slip in training is worse to find, since a network can learn from such mixtures: the loss falls, and only the sampler, whose tables are right, disagrees.
#
# </details>
#
# ### Exercise 8 — Mend case 4  (difficulty 1 of 3, 3 minutes)
#
# Write `mix_4` as it should be.


# %%
def my_mix(x0, t, eps, alpha_bar):
    """x0, eps (B, C, H, W), t (B,) of int64, alpha_bar (T+1,); returns x_t."""
    return ...  # your code


# %%
check("mend_4", my_mix)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# $x_t = a_t x_0 + b_t \varepsilon$ with $a_t = \sqrt{\bar\alpha_t}$ and $b_t = \sqrt{1 - \bar\alpha_t}$.
#
# </details>
#
# <details><summary>Solution</summary>
#
# `course_lib.forward.q_sample`.
#
# </details>
#
# **The smallest test:** no pictures and no noise. Mixing (1, 0) and (0, 1) gives the two weights, and their squares must add up to 1.


# %%
def test_4(mix):
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    for t in (1, 300, 700):
        index = torch.tensor([t])
        total = mix(one, index, zero, alpha_bar).square() + mix(zero, index, one, alpha_bar).square()
        assert abs(total.item() - 1) < 1e-4, f"at t = {t} the squared weights add up to {total.item():.2f}"


# %%
verdict(test_4, broken=mix_4, library=lambda x0, t, eps, alpha_bar: q_sample(schedule, x0, t, eps)[0])

# %% [markdown]
# ## Case 5: The loss is low from the first update
#
# A new network learns to predict the noise. `noisy_pair` gives what it sees and what it is asked for.


# %%
def noisy_pair(x0, t, eps, alpha_bar):
    """x_t, and the noise in it."""
    a = column(alpha_bar[t])
    picture, rest = a.sqrt() * x0, (1 - a).sqrt() * eps
    return picture + rest, rest


def loss_5(model, x0, t, eps, alpha_bar):
    x_t, target = noisy_pair(x0, t, eps, alpha_bar)
    return (model(x_t, t) - target).square().mean()


# %%
torch.manual_seed(0)
seen_5 = train_for(40, UNet(channels=(16, 32)), loss_5, lr=2e-3)
print(f"first loss {seen_5[0]:.2f}, mean of the last ten {sum(seen_5[-10:]) / 10:.2f}")
assert 0.3 < seen_5[0] < 0.65 and sum(seen_5[-10:]) / 10 < 0.25
viz.plot_loss(seen_5, smooth=0.8, reference={"predicting 0": 1.0})

# %% [markdown]
# ### Exercise 9 — Diagnose case 5  (difficulty 2 of 3, 3 minutes)
#
# A loss below that of a healthy run, from the first update on. What happened?
#
# - **a** The network is shown `eps` itself.
# - **b** The learning rate is too high.
# - **c** The last layer of the network does not start at zero.
# - **d** The network is asked for the noise as it was mixed in, times its weight.

# %%
diagnosis_5 = ...  # "a", "b", "c" or "d"

# %%
check("diagnosis_5", diagnosis_5)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# A new `UNet` answers 0. Then the loss is the mean of the squared target. What does that say of the target?
#
# </details>
#
# <details><summary>Solution</summary>
#
# **d.** The target is $b_t\,\varepsilon$, and the mean of $b_t^2$ over all t is one half here. A sampler that takes the answer for $\varepsilon$ takes away too little noise wherever $b_t$ is small.
#
# </details>
#
# ### Exercise 10 — Mend case 5  (difficulty 2 of 3, 4 minutes)
#
# Write the loss as it should be. Whether you need a second function is up to you.


# %%
def my_loss(model, x0, t, eps, alpha_bar):
    """x0, eps (B, C, H, W), t (B,) of int64, alpha_bar (T+1,); returns a scalar tensor with its gradient."""
    return ...  # your code


# %%
check("mend_5", my_loss)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The target is an argument of the function.
#
# </details>
#
# <details><summary>Solution</summary>
#
# `course_lib.objective.denoising_loss`, and its `.mean()`.
#
# </details>
#
# **The smallest test:** a network that answers 0 must have the loss $\text{mean}(\varepsilon^2)$, at every t. No training is needed.


# %%
def test_5(loss_of):
    x0, eps = test[:4], noise(4, seed=4)
    for t in (10, 300, 700):
        loss = loss_of(lambda x_t, t, y=None: torch.zeros_like(x_t), x0, torch.full((4,), t), eps, alpha_bar)
        due = eps.square().mean()
        assert abs(loss - due) < 1e-4, f"at t = {t} the answer 0 has a loss of {loss:.3f}, not {due:.3f}"


# %%
assert abs(schedule.noise[1:].square().mean() - 0.5) < 0.02  # the mean of b² that the solution speaks of
verdict(test_5, broken=loss_5, library=library_loss)

# %% [markdown]
# ## Case 6: The loss begins far above 1 and stops at 1
#
# The U-Net with double convolutions of notebook 02, told the time by one more input channel.


# %%
def make_input(x_t, t, T):
    """x_t (B, C, H, W) and t (B,), 0..T; returns what the network reads, (B, C+1, H, W)."""
    plane = column(t).to(x_t.dtype).expand(-1, 1, *x_t.shape[2:])
    return torch.cat([x_t, plane], dim=1)


class Denoiser(nn.Module):
    def __init__(self, make_input):
        super().__init__()
        self.make_input = make_input
        self.net = DoubleConvUNet(2, 1, features=(8, 16), bottleneck=32, batch_norm=False)

    def forward(self, x_t, t, y=None):
        return self.net(self.make_input(x_t, t, T))


# %%
torch.manual_seed(0)
denoiser = Denoiser(make_input)
with torch.no_grad():
    sizes = {t: denoiser(noise(1, 5), torch.tensor([t])).abs().mean().item() for t in (1, 10, 100, 1000)}
print("mean size of the new network's answer:", {t: round(size, 2) for t, size in sizes.items()})
seen_6 = train_for(60, denoiser, library_loss, lr=1e-3)
print(f"first loss {seen_6[0]:.0f}, mean of the last ten {sum(seen_6[-10:]) / 10:.2f}")
assert sizes[1] < 1 and sizes[1000] > 4 and 15 < seen_6[0] < 25 and 0.9 < sum(seen_6[-10:]) / 10 < 1.2
updates = range(1, 61)
viz.plot_curves({"loss": (updates, seen_6), "predicting 0": (updates, [1] * 60)}, xlabel="update", logy=True)

# %% [markdown]
# ### Exercise 11 — Diagnose case 6  (difficulty 2 of 3, 3 minutes)
#
# - **a** The learning rate is too high.
# - **b** The added channel holds the timestep itself.
# - **c** The weights of the network start too large.
# - **d** The loss is a sum over the pixels instead of a mean.

# %%
diagnosis_6 = ...  # "a", "b", "c" or "d"

# %%
check("diagnosis_6", diagnosis_6)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two facts are printed above the curve: how the answer's size depends on t before any training, and the first loss.
#
# </details>
#
# <details><summary>Solution</summary>
#
# **b.** Numbers up to 1000 stand beside pixels of about 1. The network must first unlearn them. After 60 updates it has come as far as the answer 0, with a loss of 1, and has learned hardly anything about pictures.
#
# </details>
#
# ### Exercise 12 — Mend case 6  (difficulty 1 of 3, 4 minutes)
#
# Write `make_input` as it should be: the plane runs from 0 at t = 0 to 1 at t = T, numbers of the size of pixels.


# %%
def my_input(x_t, t, T):
    """x_t (B, C, H, W), t (B,) of int64 in 0..T; returns (B, C+1, H, W)."""
    return ...  # your code


# %%
check("mend_6", my_input)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The argument T is there for a reason.
#
# </details>
#
# <details><summary>Solution</summary>
#
# It stands in `course_lib.unet.DoubleConvUNet.forward`, for networks built with `time_plane=T`. Better still is a sinusoidal embedding: notebook 04.
#
# </details>
#
# **The smallest test:** nothing that a network reads may be far larger than the pictures.


# %%
def test_6(make_input):
    read = make_input(torch.zeros(2, 1, 4, 4), torch.tensor([1, 1000]), 1000)
    assert read.shape == (2, 2, 4, 4), f"the shape is {tuple(read.shape)}"
    assert read.abs().max() <= 1, f"the network reads numbers up to {read.abs().max():g}"


# %%
def library_input(x_t, t, T):
    """What reaches the first layer of the library's network, caught on its way."""
    caught = []
    net = DoubleConvUNet(x_t.shape[1], 1, features=(8,), bottleneck=8, batch_norm=False, time_plane=T)
    net.down[0][0].register_forward_hook(lambda layer, inputs, output: caught.append(inputs[0]))
    net(x_t, t)
    return caught[0]


verdict(test_6, broken=make_input, library=library_input)

# %% [markdown]
# ## Case 7: More parameters, and the very same curve
#
# The small U-Net of notebook 02 takes noise from pictures of 16×16 pixels. Somebody makes the dense layers in its middle wider, from 8 to 256, and starts both networks from equal weights elsewhere.


# %%
def forward(net, x):
    """net: a BottleneckUNet, part by part; x (B, 1, 16, 16)."""
    x, skips = net.stem(x), []
    for block in net.down:
        x = block(x)
        skips.append(x)
    x = net.flatten(x)
    x = net.unflatten(x)
    for block in net.up:
        x = block(x, skips.pop())
    return net.out(x)


# %%
torch.manual_seed(0)
nets = {width: BottleneckUNet(features=(8, 16, 32), dense=width) for width in (8, 256)}
shared = {name: value for name, value in nets[8].state_dict().items() if not name.startswith("dense.")}
nets[256].load_state_dict(shared, strict=False)
seen_7 = {f"dense layers {width} wide": train_16(50, net, forward) for width, net in nets.items()}
counts = [count_parameters(net) for net in nets.values()]
first, second = seen_7.values()
print(
    f"{counts[0]:,} and {counts[1]:,} parameters; largest difference of the losses {torch.tensor(first).dist(torch.tensor(second), torch.inf):g}"
)
assert first == second and counts[1] > 5 * counts[0] and first[-1] < 0.5 * first[0]
viz.plot_loss(seen_7, smooth=0.8)

# %% [markdown]
# ### Exercise 13 — Diagnose case 7  (difficulty 2 of 3, 3 minutes)
#
# - **a** The dense layers have no part in the answer.
# - **b** Both runs have the same seed.
# - **c** The learning rate is too low for the dense layers to matter.
# - **d** The optimizer does not know the parameters of the dense layers.

# %%
diagnosis_7 = ...  # "a", "b", "c" or "d"

# %%
check("diagnosis_7", diagnosis_7)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Compare the very first losses, which are taken before any update. What must be true of two networks that answer alike?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `print(nets[8])` lists the parts in the order in which they were built. Which of them does `forward` not name?
#
# </details>
#
# <details><summary>Solution</summary>
#
# **a.** `net.dense` is built, counted and handed to the optimizer, and never called. Nothing complains: 512 numbers come out of `flatten`, and 512 go into `unflatten`.
#
# </details>
#
# ### Exercise 14 — Mend case 7  (difficulty 2 of 3, 4 minutes)
#
# Write `forward` as it should be. A gradient must reach every layer.


# %%
def my_forward(net, x):
    """net: a BottleneckUNet; x (B, C, H, W); returns its answer, like x."""
    return ...  # your code


# %%
check("mend_7", my_forward)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Between `flatten` and `unflatten` one line is missing.
#
# </details>
#
# <details><summary>Solution</summary>
#
# `course_lib.unet.BottleneckUNet.forward`.
#
# </details>
#
# **The smallest test:** after one backward pass every parameter has a gradient.


# %%
def test_7(forward):
    torch.manual_seed(0)
    net = BottleneckUNet(features=(8, 16), size=8, dense=8)
    forward(net, noise(4, seed=6, size=8)).square().sum().backward()
    without = [name for name, parameter in net.named_parameters() if parameter.grad is None]
    assert not without, f"no gradient reaches {len(without)} parameters, such as {without[0]}"


# %%
verdict(test_7, broken=forward, library=lambda net, x: net(x))

# %% [markdown]
# ## Case 8: One boot, five answers
#
# A network of the same kind, new and with all its layers called, is trained for 250 updates. Then it cleans a noisy boot: alone, and in batches with other pictures. Only the boot is shown.


# %%
def clean(net, noisy):
    """net: a network with BatchNorm, as it comes from training; noisy (B, 1, 16, 16); returns the pictures."""
    with torch.no_grad():
        return net(noisy)


torch.manual_seed(0)
cleaner = BottleneckUNet(features=(8, 16, 32))
losses_8 = train_16(250, cleaner, lambda net, x: net(x))
print(f"first loss {losses_8[0]:.2f}, mean of the last ten {sum(losses_8[-10:]) / 10:.2f}")

# %%
test_16 = load_fashion_mnist("test", 16, source="packaged")
noisy_boot = 0.6 * test_16.of_class(9)[:1] + 0.4 * noise(1, 7, 16)
company = {"alone": None, "with boots": 9, "with coats": 4, "with trousers": 1}
answers, grain = {"noisy": noisy_boot}, 0.4 * noise(31, 8, 16)
for name, label in company.items():
    others = noisy_boot[:0] if label is None else 0.6 * test_16.of_class(label)[1:32] + grain
    answers[name] = clean(cleaner, torch.cat([noisy_boot, others]))[:1]
answers["with black pictures"] = clean(cleaner, torch.cat([noisy_boot, -torch.ones(31, 1, 16, 16)]))[:1]
answers["alone, again"] = clean(cleaner, noisy_boot)
assert torch.equal(answers["alone"], answers["alone, again"])
off_8 = (answers["with black pictures"] - answers["alone"]).abs().mean()
print(f"alone and alone again: equal. Alone and with black pictures: {off_8:.2f} apart")
assert off_8 > 0.2
seen_8 = torch.cat([answers[name] for name in list(answers)[1:-1]])
viz.show_grid(torch.cat(list(answers.values())), titles=list(answers), columns=7)

# %% [markdown]
# ### Exercise 15 — Diagnose case 8  (difficulty 2 of 3, 3 minutes)
#
# - **a** Dropout is still on.
# - **b** Fresh noise is added in each call.
# - **c** The answer for one picture uses statistics of the whole batch.
# - **d** A reshape mixes up pictures and pixels.

# %%
diagnosis_8 = ...  # "a", "b", "c" or "d"

# %%
check("diagnosis_8", diagnosis_8)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# What is the same, and what differs, between "alone" and "alone, again", and between "alone" and "with black pictures"?
#
# </details>
#
# <details><summary>Solution</summary>
#
# **c.** The network is still in train mode. BatchNorm then uses mean and spread of the batch at hand; in eval mode it uses those that it has collected. (And each such call shifts what it has collected.) The course's `UNet` has GroupNorm, which looks at one picture at a time.
#
# </details>
#
# ### Exercise 16 — Mend case 8  (difficulty 2 of 3, 5 minutes)
#
# Write `clean` as it should be, and leave the network in the mode in which it came.


# %%
def my_clean(net, noisy):
    """net in train or eval mode; noisy (B, C, H, W); returns the answer, like noisy."""
    return ...  # your code


# %%
check("mend_8", my_clean)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `net.training` says in which mode it is, and `net.train(mode)` sets it.
#
# </details>
#
# <details><summary>Solution</summary>
#
# `course_lib.sample.predict` does it around each call of a network, with `in_mode` of `course_lib.runtime`.
#
# </details>
#
# **The smallest test:** the first picture of a batch must get the answer that it gets alone.


# %%
def test_8(clean):
    torch.manual_seed(0)
    net = BottleneckUNet(features=(8, 16), size=8, dense=8).train()
    x = noise(8, seed=9, size=8)
    apart = (clean(net, x)[:1] - clean(net, x[:1])).abs().max()
    assert apart < 1e-4, f"a picture's answer changes by up to {apart:.2f} with its neighbors"
    assert net.training, "the network came in train mode, and is left in eval mode"


# %%
def library_clean(net, noisy):
    return predict(net, schedule, noisy, 1, target="x0", clip=False)[0]


verdict(test_8, broken=clean, library=library_clean)

# %% [markdown]
# ## Case 9: The loss is fine, and the samples are noise
#
# DDIM in 25 steps, with the weights that come with the course.


# %%
@torch.no_grad()
def draw(model, x, times, alpha_bar):
    """From x (B, C, H, W) at times[0] down to times[-1] = 0, without fresh noise."""
    steps = len(times) - 1
    for i in range(steps):
        now, then = alpha_bar[times[i]], alpha_bar[times[i + 1]]
        t = torch.full((len(x),), steps - i, device=x.device)
        eps_hat = model(x, t)
        x0_hat = ((x - (1 - now).sqrt() * eps_hat) / now.sqrt()).clamp(-1, 1)
        eps_hat = (x - now.sqrt() * x0_hat) / (1 - now).sqrt()
        x = then.sqrt() * x0_hat + (1 - then).sqrt() * eps_hat
    return x


# %%
x_T = noise(8, seed=3)
with torch.no_grad():
    t = torch.linspace(1, T, 64).long()
    held_out = library_loss(model, test[:64], t, noise(64, seed=10), alpha_bar).item()
seen_9 = draw(model, x_T, sampling_times(T, 25), alpha_bar)
print(f"loss on test pictures {held_out:.3f}; standard deviation of x_T {x_T.std():.2f}")
assert held_out < 0.25 and abs(x_T.std() - 1) < 0.05
viz.show_rows({"samples": seen_9})

# %% [markdown]
# ### Exercise 17 — Diagnose case 9  (difficulty 3 of 3, 4 minutes)
#
# - **a** The network has not been trained long enough.
# - **b** The network is told the wrong time.
# - **c** Fresh noise is added in every step.
# - **d** `x_T` is not noise of variance 1.

# %%
diagnosis_9 = ...  # "a", "b", "c" or "d"

# %%
check("diagnosis_9", diagnosis_9)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The loss speaks for the network. So `draw` must hand it a pair of x and t that training never did. Print what `draw` gives to `model`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# **b.** `steps - i` counts the steps that are left: 25, 24, … 1. The timesteps are `times[i]`: 1000, 960, … 40. With 1000 steps both are the same, and the mistake sleeps until somebody samples in fewer.
#
# </details>
#
# ### Exercise 18 — Mend case 9  (difficulty 2 of 3, 5 minutes)
#
# Write `draw` as it should be: copy the lines of its body, and change what must be changed.


# %%
def my_draw(model, x, times, alpha_bar):
    """x (B, C, H, W) at times[0], times a falling list that ends with 0; returns the pictures."""
    return ...  # your code


# %%
check("mend_9", my_draw)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# One expression in one line.
#
# </details>
#
# <details><summary>Solution</summary>
#
# `course_lib.sample.sample` with `eta=0.0`.
#
# </details>
#
# **The smallest test:** in place of the network a spy that writes down what it is told.


# %%
def test_9(draw):
    told = []

    class Spy(nn.Module):
        def forward(self, x_t, t, y=None):
            told.append(t[0].item())
            return torch.zeros_like(x_t)

    draw(Spy(), noise(2, seed=11), [1000, 600, 200, 0], alpha_bar)
    assert told == [1000, 600, 200], f"x is at 1000, 600, 200, and the network is told {told}"


# %%
def library_draw(model, x, times, alpha_bar):
    return sample(model, schedule, x, times=times, eta=0.0)


verdict(test_9, broken=draw, library=library_draw)

# %% [markdown]
# ## Case 10: The pictures fade to black
#
# ![Four pictures on their way from t = 1000 to 0. At 975 all are specks of pure black and white; at 950 three are faint clouds and one is a white shape; by 900 three are black and one is a white slab, and so they stay.](../figures/06_fade.png)
#
# The same weights, other noise, in 40 steps. `predict` gives the network's view of the noise; `step` goes from t to s.


# %%
def step(x_t, eps_hat, t, s, alpha_bar):
    """x_t, eps_hat (B, C, H, W), timesteps s < t; returns x_s."""
    a, b = alpha_bar[t].sqrt(), (1 - alpha_bar[t]).sqrt()
    return (x_t - b * eps_hat) / a


x_10, times, steps_10 = noise(8, seed=0), sampling_times(T, 40), []
x = x_10
for t, s in pairwise(times):
    x0_hat, eps_hat = predict(model, schedule, x, t)
    x_s = step(x, eps_hat, t, s, alpha_bar)
    steps_10.append(SampleStep(t, s, *(part[4:] for part in (x, x0_hat, eps_hat, x_s))))
    x = x_s
seen_10 = x

# %%
black = [(one < -0.9).float().mean().item() > 0.97 for one in seen_10]
print(f"{sum(black)} of 8 samples are black")
assert sum(black) > 4
viz.show_rows({"samples": seen_10, "the library's": sample(model, schedule, x_10, times=times, eta=0.0)})

# %% [markdown]
# Watch four of them go: at which t is it decided?
#
# *Below is a slider. Where it does not run (on GitHub, in print), the picture above shows what it is about; `make lab` opens the live one.*

# %%
widgets.trajectory_player(steps_10, columns=2)

# %% [markdown]
# ### Exercise 19 — Diagnose case 10  (difficulty 2 of 3, 3 minutes)
#
# Most pictures go out, the others burn to a white blotch.
#
# - **a** 40 steps are too few.
# - **b** The guess is not divided by $a_t$.
# - **c** The guess is not kept between -1 and 1.
# - **d** What `step` returns lacks the noise of timestep s.

# %%
diagnosis_10 = ...  # "a", "b", "c" or "d"

# %%
check("diagnosis_10", diagnosis_10)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# An argument of `step` is not used.
#
# </details>
#
# <details><summary>Solution</summary>
#
# **d.** `step` hands on $\hat x_0$. The network, told s, looks for the noise that must be there, finds none, and takes away what is faintest in the picture. A little more goes each time.
#
# </details>
#
# ### Exercise 20 — Mend case 10  (difficulty 2 of 3, 4 minutes)
#
# Write `step` as it should be: the step of DDIM.


# %%
def my_step(x_t, eps_hat, t, s, alpha_bar):
    """x_t, eps_hat (B, C, H, W); t, s ints with s < t; alpha_bar (T+1,); returns x_s."""
    return ...  # your code


# %%
check("mend_10", my_step)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The sentence of the course, at s, with both guesses: $x_s = a_s\,\hat x_0 + b_s\,\hat\varepsilon$.
#
# </details>
#
# <details><summary>Solution</summary>
#
# `course_lib.sample.reverse_step` with `eta=0`.
#
# </details>
#
# **The smallest test:** with the true noise in place of the guess, a step must land exactly where mixing for s lands.


# %%
def test_10(step):
    x0, eps = test[:2], noise(2, seed=12)
    x_t, x_s = (q_sample(schedule, x0, t, eps)[0] for t in (700, 400))
    off = (step(x_t, eps, 700, 400, alpha_bar) - x_s).abs().max()
    assert off < 1e-3, f"told the true noise, the step misses x_s by up to {off:.2f}"


# %%
def library_step(x_t, eps_hat, t, s, alpha_bar):
    a, b = alpha_bar[t].sqrt(), (1 - alpha_bar[t]).sqrt()
    return reverse_step(schedule, (x_t - b * eps_hat) / a, eps_hat, t, s, eta=0.0)


verdict(test_10, broken=step, library=library_step)

# %% [markdown]
# ## Case 11: Grain on finished pictures
#
# DDPM in 15 steps: `sigma` says how much fresh noise goes into the step from t to s. Row `x0_hat` is the network's guess in the last step, row `sample` the result of that step.


# %%
def sigma(s, t, alpha_bar):
    """Standard deviation of the fresh noise in the step from t to s."""
    return (1 - alpha_bar[t] / alpha_bar[s]).sqrt()


def draw_11(x, times, sigma, generator):
    """Returns the samples, and the last x0_hat."""
    for t, s in pairwise(times):
        x0_hat, eps_hat = predict(model, schedule, x, t)
        fresh = sigma(s, t, alpha_bar)
        kept = (1 - alpha_bar[s] - fresh**2).clamp(min=0).sqrt()
        x = alpha_bar[s].sqrt() * x0_hat + kept * eps_hat
        x = x + fresh * torch.randn(x.shape, generator=generator)
    return x, x0_hat


# %%
seen_11, last_guess = draw_11(noise(8, seed=3), sampling_times(T, 15), sigma, make_generator(13))
corner = seen_11[:, :, :3, :3].std().item()
print(f"standard deviation in the upper left corner: {corner:.3f}; of the guess {last_guess[:, :, :3, :3].std():.3f}")
assert 0.08 < corner < 0.15 and last_guess[:, :, :3, :3].std() < 0.03
viz.show_rows({"x0_hat": last_guess, "sample": seen_11})

# %% [markdown]
# ### Exercise 21 — Diagnose case 11  (difficulty 2 of 3, 3 minutes)
#
# - **a** 15 steps are too few.
# - **b** The network's guess is grainy.
# - **c** The last step adds noise.
# - **d** The pictures were rounded to bytes.

# %%
diagnosis_11 = ...  # "a", "b", "c" or "d"

# %%
check("diagnosis_11", diagnosis_11)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# What is `sigma(0, t, alpha_bar)`, and what should it be?
#
# </details>
#
# <details><summary>Solution</summary>
#
# **c.** `sigma` is $\sqrt{\beta}$, the noise of the step *forward*. With 1000 steps its last value is 0.006, less than a byte shows; with 15 it is eighteen times that. An `if s > 0` mends the last step. The posterior's standard deviation mends all of them, and needs no `if`.
#
# </details>
#
# ### Exercise 22 — Mend case 11  (difficulty 2 of 3, 5 minutes)
#
# Write the posterior's standard deviation, for any s < t: the root of
#
# $$\mathrm{var} = \frac{1-\bar\alpha_s}{1-\bar\alpha_t}\left(1 - \frac{\bar\alpha_t}{\bar\alpha_s}\right)$$


# %%
def my_sigma(s, t, alpha_bar):
    """s < t ints, alpha_bar (T+1,); returns a standard deviation, a tensor of shape ()."""
    return ...  # your code


# %%
check("mend_11", my_sigma)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The broken function is the root of the bracket. A factor is missing, which is 0 at s = 0.
#
# </details>
#
# <details><summary>Solution</summary>
#
# `schedule.posterior_variance(s, t).sqrt()`.
#
# </details>
#
# **The smallest test:** wherever the last step begins, it adds nothing.


# %%
def test_11(sigma):
    for t in (1, 50, 1000):
        last = float(sigma(0, t, alpha_bar))
        assert last == 0, f"the step from t = {t} to 0 adds noise of strength {last:.3f}"


# %%
assert abs(sigma(0, 1, alpha_bar) - 0.006) < 0.0005 and abs(sigma(0, 67, alpha_bar) / sigma(0, 1, alpha_bar) - 18) < 0.5
verdict(test_11, broken=sigma, library=lambda s, t, alpha_bar: schedule.posterior_variance(s, t).sqrt())

# %% [markdown]
# ## What you have done

# %%
progress()

# %% [markdown]
# ## Debugging guide
#
# ![The way of a picture through a program, as boxes: pictures, table, mixture, network, loss, and back from noise through network and step to samples. Each box has its question, and the numbers of the cases in which it was at fault.](../figures/06_pipeline.png)
#
# The upper row is in order of cost: its first three boxes need no network, the next two no training. The lower row can be tested without training too, with a spy or the true noise.
#
# | what you see | likely causes | smallest test | case |
# |---|---|---|---|
# | t = 0 is the noisiest | the table holds what is added, or runs the wrong way | first entry 1, then falling | 1 |
# | shapes burnt to white, background gray; noise hardly shows | pixels 0 to 255 | black and white become -1 and 1 | 2 |
# | washed-out pictures, no black | pixels 0 to 1 | black and white become -1 and 1 | 2 |
# | $x_T$ still shows the picture; samples all of medium brightness | too few steps for these betas | $a_T$ < 0.02 for every T in use | 3 |
# | samples fade to flat gray | a root missing: $\bar\alpha$ for $\sqrt{\bar\alpha}$; no division by $a_t$ | squared weights add up to 1 | 4 |
# | samples smooth, without detail | a root missing over $1-\bar\alpha$ or over the variance of fresh noise: too little noise | squared weights; spread of one step over many draws | 4, 11 |
# | the loss begins below 1 | target already weighted; mean taken before the square; noise of a smaller variance | answer 0 has the loss mean(eps²) at every t, and mean(eps²) of your noise is 1 | 5 |
# | the loss begins far above 1 | last layer not small, and raw timesteps or bytes in the input | nothing that the network reads exceeds 1 by much | 6, 2 |
# | the loss stays at 1 | noise drawn twice, once for x_t and once for the target; parameters that the optimizer does not have | overfit one batch (notebook 04) | – |
# | a change of the network changes nothing | a layer built and never called | after one backward pass every parameter has a gradient | 7 |
# | the answer depends on the batch | train mode; t or alpha_bar broadcast along the wrong axis | first of a batch equals the same picture alone | 8 |
# | the loss is fine, samples are noise | sampler and training disagree: step number for timestep, another table, another target | a spy for the network; one step with the true noise | 9, 10 |
# | samples fade to black, or burn to white | no noise put back after the guess | one step with the true noise lands on x_s | 10 |
# | grain on finished pictures | noise in the last step | the fresh noise is 0 for s = 0 | 11 |
#
# Three habits that find most of it:
#
# - **Test pictures, tables and weights before anything learns.** Cases 1 to 4 and 11 are mistakes of one line there, and a test of a few lines finds each.
# - **Look at the first loss.** It should be 1. It costs no training, and tells apart targets, inputs and layers.
# - **Replace the network by something that you know:** zero, a spy, the true noise. What then is still wrong is not the network's fault.

# %% [markdown]
# ## In three lines
#
# - A symptom speaks against most causes, if you look at what is *not* wrong: the background, the first loss, the last guess.
# - A falling loss proves that something is learned, not that it is the right thing.
# - The smallest test needs no training: two pixels, one entry of a table, a spy, a neighbor.
#
# ## Honest limits
#
# - Each program has one mistake. Real ones have two, and the second hides behind the first.
# - You knew that something was wrong. The dangerous mistakes show nothing: grain below a byte, a mean over the wrong axis where all axes have the same length, a test set that was trained on.
# - The symptoms are those of these networks and pictures. On photographs, fading to black may look different, since not all of them have a black background.
#
# ## On your own
#
# 1. Make case 12: take `draw` of case 9, mended, and break it in a way that nobody sees at a glance. Let a neighbor diagnose it.
# 2. Train a new `UNet(channels=(16, 32))` with `train_for` and a loss that draws noise again, for the target alone:
#    `lambda net, x0, t, eps, table: (net(q_sample(schedule, x0, t, eps)[0], t) - torch.randn_like(eps)).square().mean()`. What does the loss do? Which line of the guide is it?
# 3. In a copy of `draw_11`, add `fresh**2 * torch.randn(...)` in the last line of the loop, the variance where its root belongs, and run it with `my_sigma` in 50 steps. Describe what all samples have in common before you explain it.
# 4. Take the worst mistake that you ever made yourself, and write the smallest test for it.
#
# ## References
#
# - Karpathy 2019, *A Recipe for Training Neural Networks*, karpathy.github.io/2019/04/25/recipe. Why networks fail silently; the first loss and the one batch come from there.
# - Zeller 2024, *The Debugging Book*, debuggingbook.org. What debugging is as a method: hypotheses, predictions, and experiments that could refute them.
# - Ioffe, Szegedy 2015, *Batch Normalization*, arXiv:1502.03167. Algorithm 2 is the switch from train to eval mode, the heart of case 8.
# - Lin, Liu, Li, Yang 2023, *Common Diffusion Noise Schedules and Sample Steps are Flawed*, arXiv:2305.08891. Case 3, found in models that everybody used.
# - Ho, Jain, Abbeel 2020, *Denoising Diffusion Probabilistic Models*, arXiv:2006.11239. Algorithm 2 has "z = 0 for t = 1": case 11 in half a line.
