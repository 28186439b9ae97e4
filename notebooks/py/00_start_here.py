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
# # Start here
#
# **You will do:** see what this machine has, dissolve a picture with a slider, sample a picture that never existed, and try two small exercises.
#
# **You will learn:** how these notebooks work, and the one sentence of mathematics that all of them are about.
#
# **You need:** some Python, and about 10 minutes, exercises included. No GPU and no network.
#
# ![A grid of 64 small grey pictures of clothes, shoes and bags, drawn by the trained model of this course.](../figures/samples_64.png)
#
# *Nobody photographed or drew these 64 pictures: the model that you will build made them out of noise. None was picked out.*
#
# A notebook is read from top to bottom. Click into a grey cell and press **Shift + Enter** to run it and go on to the next.

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
from IPython.display import display

from course_lib import data, viz, widgets
from course_lib.checkpoint import load_shipped
from course_lib.checks import check, progress, solution  # noqa: F401 - solution is for you to call
from course_lib.forward import q_sample
from course_lib.runtime import describe_machine, make_generator, pick_device
from course_lib.sample import trajectory
from course_lib.schedule import sampling_times
from course_lib.shapes import count_parameters

# %% [markdown]
# ## What this machine has
#
# The first line is your machine, the second is the data that was found. All 60,000 training pictures of Fashion-MNIST are used where they are on the machine; otherwise the 10,000 that come with the course. Both are enough for everything here.

# %%
device = pick_device()
print(describe_machine())
train = data.load_fashion_mnist()
print(train)
assert len(train) in (10_000, 60_000)

# %% [markdown]
# Pictures are tensors of shape (B, C, H, W): B pictures, C channels (1 for grey), H rows, W columns. Their values are floats from −1 (black) to 1 (white), everywhere in this course.

# %%
test = data.load_fashion_mnist("test", source="packaged")
first_of_each = [int((test.labels == label).nonzero()[0]) for label in range(8)]
x0 = test[torch.tensor(first_of_each)]
print(f"shape {tuple(x0.shape)}, {x0.dtype}, values from {x0.min():.0f} to {x0.max():.0f}")
assert x0.shape == (8, 1, 28, 28) and x0.min() == -1 and x0.max() == 1
viz.show_grid(x0, titles=[data.CLASS_NAMES[label] for label in range(8)])

# %% [markdown]
# ## A picture dissolves
#
# ![The slider of the next cell: eight pictures of clothes, a third of the way into noise.](../figures/00_slider.png)
#
# Drag the slider. At amount 0 you see the pictures, at amount 1 noise and nothing else; in between is the mixture (1 − amount) · picture + amount · noise.
#
# *Below is a slider. Where it does not run (on GitHub, in print), the picture above shows what it is about; `make lab` opens the live one.*

# %%
widgets.corruption_explorer(x0, amount=0.3, columns=4)

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# Edges and large shapes outlast the details: you can tell a trouser from a boot when the folds are long gone. The noise stays the same while you drag, only its share changes. Press the other kind of noise and look at the measured variance; notebook 01 explains why it sags halfway.
#
# </details>

# %% [markdown]
# ## A picture appears
#
# Making noise from a picture is easy. A diffusion model is trained for the way back.
#
# The course comes with the weights of a small U-Net that was trained as in notebook 04. Below it starts from nine pictures of pure noise, at *timestep* t = 1000, and walks back to t = 0, the finished pictures, in 25 steps. It takes seconds, also without a GPU.

# %%
shipped = load_shipped(device)
schedule = shipped.schedule
print(f"a network of {count_parameters(shipped.model):,} weights")
generator = make_generator(0, device)
x_T = torch.randn(9, 1, 28, 28, generator=generator, device=device)
times = sampling_times(schedule.T, 25)
start = time.perf_counter()
options = dict(times=times, order=2, target=shipped.target, generator=generator)  # order: see notebook 05
steps = list(trajectory(shipped.model, schedule, x_T, **options))
print(f"{len(x_T)} pictures in {time.perf_counter() - start:.1f} seconds, from t = {times[0]} to t = {times[-1]}")
assert count_parameters(shipped.model) < 1_000_000
assert len(steps) == len(times) - 1 and steps[-1].x_s.abs().max() <= 1
viz.to_png(steps[-1].x_s, columns=9)

# %% [markdown]
# ![Two rows of pictures. Above, pure noise turns into a piece of clothing from left to right; below, what the network believes the picture will be: specks first, soon an outline, then details.](../figures/05_trajectory.png)
#
# Press play, or drag. On the left is x_t, the noisy pictures at timestep t; on the right is `x0_hat`, what the network believes the pictures will be.
#
# *Below is a slider. Where it does not run (on GitHub, in print), the picture above shows what it is about; `make lab` opens the live one.*

# %%
widgets.trajectory_player(steps)

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# The left side looks like noise for about a third of the way. The right side has shapes much earlier: first where it is light and where dark, details last. Notebook 05 takes this walk apart.
#
# </details>

# %% [markdown]
# ## How exercises work
#
# An exercise is three cells: the task, a stub with three dots where your code goes (or a number, or a letter), and a check. Undone exercises are fine; nothing later depends on them. Three functions help:
#
# - `check("name", yours)` compares your answer with the library's own function, on random inputs. It never stops the notebook: it reports, and where it can it names the mistake.
# - `solution("name")`, in a new cell, shows the equation, a short answer and the library's function. Below every check there are hints to open first, one at a time.
# - `progress()` shows what is done in this notebook. It remembers as long as the kernel runs, and no longer.
#
# This is what a check can say:

# %%
display(check("to_float", ...))  # nothing written yet
display(check("to_float", lambda images: images.float() / 255))  # a mistake that many people make
display(check("to_float", data.to_float))  # the library's own function, which is the solution

# %% [markdown]
# ### Exercise 1 — From bytes to floats  (difficulty 1 of 3, 3 minutes)
#
# Picture files hold bytes, from 0 (black) to 255 (white). Write the function that takes a uint8 tensor of any shape to floats in [−1, 1], so that 0 becomes −1 and 255 becomes 1.


# %%
def my_to_float(images):
    """images: uint8, any shape, also a dark batch; returns float32 in [-1, 1], same shape, and leaves images as they are."""
    return ...  # your code


# %%
check("to_float", my_to_float)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `images.float()` comes first: arithmetic on bytes wraps around at 0 and 255.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The bytes span 255 and the floats span 2, so divide by 127.5. Then shift.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("to_float")` in a new cell. The function that it shows is `course_lib.data.to_float`: in every exercise with code, the solution is one that the course goes on to use.
#
# </details>

# %% [markdown]
# ### Exercise 2 — Numbers in a batch  (difficulty 1 of 3, 1 minute)
#
# How many numbers does a batch of 16 grey pictures of 28×28 pixels hold?

# %%
my_values_in_batch = ...  # a number

# %%
check("values_in_batch", my_values_in_batch)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The shape is (B, C, H, W). What is C for grey pictures?
#
# </details>
#
# <details><summary>Solution</summary>
#
# Multiply the four lengths of the shape, or let PyTorch do it: `torch.zeros(16, 1, 28, 28).numel()`. The number is in `solution("values_in_batch")`.
#
# </details>

# %% [markdown]
# Done? Each exercise by the last run of its check:

# %%
progress()

# %% [markdown]
# ## Notation
#
# The whole course is about one sentence:
#
# $$x_t = a_t\,x_0 + b_t\,\varepsilon$$
#
# Take $a_t$ of a picture and $b_t$ of noise, and you have the picture at *timestep* t. A *schedule* is the two tables a and b. They have T + 1 entries, for t = 0, 1, …, T: t = 0 is the picture itself ($a_0 = 1$, $b_0 = 0$), and at t = T next to nothing of it is left.
#
# | symbol | in code | shape | what it is |
# |:--|:--|:--|:--|
# | $x_0$ | `x0` | (B, C, H, W) | clean pictures, values in [−1, 1] |
# | $\varepsilon$ | `eps` | (B, C, H, W) | noise: every value drawn from the normal distribution N(0, 1) |
# | $x_t$ | `x_t` | (B, C, H, W) | noisy pictures at timestep t; $x_T$ is where sampling starts |
# | $T$ | `T`, `schedule.T` | int | number of noising steps, here 1000 |
# | $t$, $s$ | `t`, `s` | int or (B,) | timesteps, 0 to T; s is always the earlier one, s < t |
# | $a_t$ | `schedule.signal` | (T+1,) | how much picture |
# | $b_t$ | `schedule.noise` | (T+1,) | how much noise |
# | $\beta_t$ | `schedule.beta` | (T+1,) | variance of the noise that one step adds (DDPM) |
# | $\alpha_t$ | `1 - schedule.beta` | (T+1,) | what one step leaves of the picture, squared |
# | $\bar\alpha_t$ | `schedule.alpha_bar` | (T+1,) | product of the alphas up to t; in DDPM $a_t = \sqrt{\bar\alpha_t}$ and $b_t = \sqrt{1-\bar\alpha_t}$ |
# | $\hat x_0$, $\hat\varepsilon$ | `x0_hat`, `eps_hat` | (B, C, H, W) | a hat marks what the network predicts |
# | $\eta$ | `eta` | float | how much fresh noise a sampler adds: 1 is DDPM, 0 is DDIM |
#
# Letters for shapes: B pictures in a batch, C channels, H rows, W columns.

# %%
T, t = schedule.T, 500
x_t, eps = q_sample(schedule, x0, t, generator=make_generator(1))
a, b = schedule.signal[t], schedule.noise[t]
torch.testing.assert_close(x_t, (a * x0 + b * eps).float())
print(f"t = 0: a = {schedule.signal[0]:.3f}, b = {schedule.noise[0]:.3f}")
print(f"t = {t}: a = {a:.3f}, b = {b:.3f}")
print(f"t = {T}: a = {schedule.signal[T]:.3f}, b = {schedule.noise[T]:.3f}")
assert T == 1000 and len(schedule.signal) == len(schedule.noise) == T + 1
assert schedule.signal[0] == 1 and schedule.noise[0] == 0 and schedule.signal[T] < 0.001

# %% [markdown]
# ## The seven notebooks
#
# Take them in order; each stands on the one before. The first number is your time with all exercises, the second the computer's on two CPU cores.
#
# | notebook | you | computer | what you will see |
# |:--|--:|--:|:--|
# | 00 Start here | 10 min | 1 min | this one |
# | [01 Corrupt with a linear amount](01_corrupt_with_a_linear_amount.ipynb) | 40 min | 1 min | pictures drown in noise, and a variance that sags halfway |
# | [02 Build a U-Net](02_build_a_unet.ipynb) | 60 min | 2 min | every size and channel of three U-Nets, and why one step of denoising is not enough |
# | [03 Jump to any timestep](03_jump_to_any_timestep.ipynb) | 60 min | 1 min | a thousand small steps of noise replaced by one formula |
# | [04 Train to predict noise](04_train_to_predict_noise.ipynb) | 60 min | 5 min | your own model learns, its samples getting better as you watch |
# | [05 Sample images](05_sample_images.ipynb) | 55 min | 4 min | clothes that nobody made, in 1000 steps, in 50 and in 25, and a number for how good they are |
# | [06 Find the bug](06_find_the_bug.ipynb) | 80 min | 1 min | eleven broken programs, and the smallest test that would have caught each |

# %% [markdown]
# ## When something is stuck
#
# - **A `NameError`, or results that make no sense:** cells ran out of order. *Kernel* → *Restart Kernel and Run All Cells…* puts everything right, in every notebook.
# - **`ModuleNotFoundError` in the first cell:** the notebook runs on another Python. *Kernel* → *Change Kernel…*, or start JupyterLab with `make lab`. The message of the first cell says more.
# - **Text such as `Explorer(children=…)` where a slider should be:** run the cell again. If that does not help, save, reload the page in the browser, and run all cells. Sliders need a running kernel: on GitHub there are none.
# - **`[*]` beside a cell for a long time:** it is running or waits for one that is. *Kernel* → *Interrupt Kernel* stops it.
# - **All is slow:** another notebook may be at work. *Running Terminals and Kernels*, on the left, shows and stops them.
# - **What does this function do?** A name with a question mark in a new cell, such as `q_sample?`, shows its equation, shapes and source paper; two question marks show the code.
#
# The library's errors say which argument is wrong, what was expected and what came. Two to see on purpose:

# %%
for wrong_x0, wrong_t in ((test.images[:8], 500), (x0, 1001)):
    try:
        q_sample(schedule, wrong_x0, wrong_t)
    except (TypeError, ValueError) as error:
        print(f"{type(error).__name__}: {error}\n")

# %% [markdown]
# ## In three lines
#
# - A diffusion model is trained to undo noise; from pure noise it makes pictures that were never there.
# - Everything follows from $x_t = a_t x_0 + b_t \varepsilon$ and two tables.
# - Shift + Enter runs a cell, a check names mistakes, and *Restart Kernel and Run All Cells…* mends confusion.
#
# ## Honest limits
#
# The pictures have 28×28 pixels and the network fewer than a million weights, so that everything runs on a laptop. Ideas and code are the real ones; the pictures are not what a data center makes.
#
# ## On your own
#
# 1. Change the seed in `make_generator(0, device)` and sample again. Then take 5 steps instead of 25.
# 2. Give `corruption_explorer` pictures of one class, `test.of_class(7)[:16]`. At which amount can you no longer tell what they are?
#
# ## References
#
# - Ho, Jain and Abbeel 2020, *Denoising Diffusion Probabilistic Models*, arXiv:2006.11239. The paper whose algorithm you will build in notebooks 03 to 05; its section 2 fits on a page.
# - Ronneberger, Fischer and Brox 2015, *U-Net*, arXiv:1505.04597. The network of notebook 02, made for cell pictures; figure 1 is famous.
# - Xiao, Rasul and Vollgraf 2017, *Fashion-MNIST*, arXiv:1708.07747. Where the pictures come from, and why not digits again.
