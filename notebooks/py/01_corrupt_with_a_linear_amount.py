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
# # Corrupt with a linear amount
#
# **You will do:** mix real pictures with noise, from none of it to nothing else, and measure what the mixing does to them.
#
# **You will learn:** in which order and range pictures are kept; how one batch carries a different amount of noise for each picture; why a
# linear mixture loses variance on the way, and which weights would keep it; why a picture survives far more noise than any of its pixels.
#
# **You need:** about 40 minutes, exercises included (the computer needs less than one of them); tensors and broadcasting in PyTorch.
#
# ![The variance of the mixture against the amount of noise: measured dots lie on a curve that starts at 0.5, sags to one third at amount one third, and climbs to 1. A dashed straight line from 0.5 to 1 shows what square-root weights would give.](../figures/01_variance.png)
#
# In a hurry? Run the next three code cells and drag the slider.

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
import torch

from course_lib import viz, widgets
from course_lib.checks import check, progress, solution  # noqa: F401 - solution is for you to call
from course_lib.data import CLASS_NAMES, load_fashion_mnist, to_float, to_uint8
from course_lib.forward import corrupt
from course_lib.runtime import make_generator

pictures = load_fashion_mnist("train", source="packaged")
print(pictures)

# %% [markdown]
# ## Drown some pictures
#
# ![A grid of clothes half hidden by noise, under a slider for the amount.](../figures/01_slider.png)
#
# Drag **amount of noise** slowly from 0 to 1. Note the amount at which you could no longer say what a piece is: the last section puts a number beside yours.
#
# *Below is a slider. Where it does not run (on GitHub, in print), the picture above shows what it is about; `make lab` opens the live one.*

# %%
widgets.corruption_explorer(pictures[:24], columns=8)

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# The noise does not dance: each pixel has its own random number, drawn once, and the slider only sets its weight. Details go
# first (prints, straps), outlines last. At 0.5, where noise has half of the weight, nearly every piece can still be named.
# The variance written under the slider first falls and then rises. That is the riddle of this notebook.
#
# </details>

# %% [markdown]
# ## Look at the pictures
#
# ![One picture of each of the ten classes of Fashion-MNIST, with its name.](../figures/01_pictures.png)
#
# Fashion-MNIST is 28×28 pixels, grey, ten kinds of clothes. On disk a pixel is a byte, 0 for black to 255 for white. The course turns it
# into a `float32` from −1 to 1:
#
# $$x = \frac{\text{byte}}{127.5} - 1$$
#
# Zero is then mid-grey, the middle of the range is also the middle of the noise, and both have about one size. A batch is always `(B, C, H, W)`: pictures, channels, rows, columns.

# %%
first_of_each = torch.stack([(pictures.labels == label).nonzero()[0, 0] for label in range(10)])
ten = pictures[first_of_each]
viz.show_grid(ten, titles=CLASS_NAMES, columns=5)

# %%
images = pictures.images[:1000]
x = to_float(images)
for name, tensor in {"images": images, "x": x}.items():
    print(f"{name:6}  {tensor.dtype}  {tuple(tensor.shape)}  from {tensor.min():g} to {tensor.max():g}")

black, mean, variance = (x == -1).float().mean(), x.mean(), x.var()
print(f"black: {black:.0%} of all pixels, mean {mean:.2f}, variance {variance:.2f}")
assert abs(black - 0.5) < 0.01 and abs(mean + 0.43) < 0.005 and abs(variance - 0.50) < 0.005

# %%
viz.plot_histogram({"1,000 pictures": x}, normal=False)

# %% [markdown]
# About half of all pixels are the black background, exactly −1; the rest is spread over the greys. The mean is −0.43, the variance 0.50. Remember the 0.50.
#
# The range is a promise, and `corrupt` holds you to it: in numbers up to 255, noise of size 1 would not even show.

# %%
for bad in (images, images.float()):
    try:
        corrupt(bad, 0.5)
    except (TypeError, ValueError) as error:
        print(f"{type(error).__name__}: {error}\n")

# %% [markdown]
# ### Exercise 1 — Pictures from files  (difficulty 2 of 3, 5 minutes)
#
# Fashion-MNIST is kept as `(B, C, H, W)`. Color pictures seldom are: in files and on screens, the red, green and blue byte of a pixel stand side by side, so a batch of them
# is `(B, H, W, C)`. Write the function that turns it into a batch of this course, axes and values.


# %%
def my_batch(files):
    """files (B, H, W, C), uint8, H and W may differ, C is 1 or 3; returns (B, C, H, W), float32 in [-1, 1]."""
    return ...  # your code


# %%
check("files_to_batch", my_batch)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `permute` names the old axes in their new order. The old ones are 0 (B), 1 (H), 2 (W), 3 (C). Which of them becomes the second, which the third?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The values are the formula above, with `.float()` first, because arithmetic on bytes wraps around.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("files_to_batch")` in a new cell. `course_lib.data.load_folder` does this with the files of a folder.
#
# </details>

# %% [markdown]
# Wrong axes raise no error as long as the shape fits. Here are six pictures in orange, taken apart in four ways of which one is right:

# %%
files = (images[:6].permute(0, 2, 3, 1) * torch.tensor([1.0, 0.6, 0.2])).to(torch.uint8)  # (6, 28, 28, 3), orange
ways = {
    "right": files.permute(0, 3, 1, 2),
    "H and W swapped": files.permute(0, 3, 2, 1),
    "channels reversed": files.permute(0, 3, 1, 2).flip(1),
    "reshape": files.reshape(6, 3, 28, 28),
}
assert len({tuple(batch.shape) for batch in ways.values()}) == 1
viz.show_rows({name: to_float(batch) for name, batch in ways.items()})

# %% [markdown]
# In the last row every byte has kept its place in memory, and only the axes were cut anew: the first third of a picture's bytes now counts as its red, whatever color
# they were.

# %% [markdown]
# ## Mix picture and noise
#
# ![Five pictures, each in a row of eleven versions from amount 0, the picture, to amount 1, noise alone.](../figures/01_rows.png)
#
# The whole corruption is one line. A picture $x$ and noise $n$ of the same shape are mixed with weights that add up to 1:
#
# $$x_u = (1-u)\,x + u\,n, \qquad 0 \le u \le 1$$
#
# | symbol | code | shape |
# |---|---|---|
# | $x$, the pictures | `x` | `(B, C, H, W)` |
# | $n$, the noise | `noise` | `(B, C, H, W)` |
# | $u$, the amount | `amount` | `(B,)`, one for each picture |
#
# In the letters of notebook 00, $x$ is $x_0$, and $x_u$ is $x_t$ with $a_t = 1-u$ and $b_t = u$. The noise is called $n$ here because it need not be normal; normal noise is $\varepsilon$.
#
# ### Exercise 2 — Corrupt a batch  (difficulty 1 of 3, 5 minutes)
#
# Write the line as a function. Each picture has its own amount, so think about what `amount * noise` would do with shapes `(B,)` and `(B, C, H, W)`.


# %%
def my_corrupt(x, amount, noise):
    """x (B, C, H, W), amount (B,), noise like x; returns the mixture, like x, not clipped; x stays as it is."""
    return ...  # your code


# %%
check("corrupt", my_corrupt)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# PyTorch lines shapes up from the right, so `(B,)` meets the *columns* W. The amount must become `(B, 1, 1, 1)`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `amount.view(-1, 1, 1, 1)` has that shape; −1 stands for "as many as there are".
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("corrupt")` in a new cell. The library's function is `course_lib.forward.corrupt`.
#
# </details>

# %% [markdown]
# Written out, and compared with the library's, which also takes one number for the whole batch, draws the noise if you give none, and
# returns the noise that it used:


# %%
def mix(x, amount, noise):
    u = amount.view(-1, 1, 1, 1)  # (B,) -> (B, 1, 1, 1): one number for each picture
    return (1 - u) * x + u * noise


amount = torch.rand(len(x), generator=make_generator(0))
mixed, noise = corrupt(x, amount, generator=make_generator(1))
torch.testing.assert_close(mix(x, amount, noise), mixed)
torch.testing.assert_close(mix(x, torch.full((len(x),), 0.3), noise), corrupt(x, 0.3, noise)[0])
viz.show_grid(mixed[:16], titles=[f"{u:.2f}" for u in amount[:16]])

# %% [markdown]
# Sixteen pictures, sixteen amounts, one line. Every training batch of this course looks like this, because the network must learn all amounts at once.
#
# What if you forget the `view`? With 16 pictures PyTorch refuses, and you are lucky. With 28 it says nothing, since the pictures have 28 columns:

# %%
x28, noise28, u28 = x[:28], noise[:28], torch.linspace(0, 1, 28)
try:
    u28[:16] * noise28[:16]
except RuntimeError as error:
    print("16 pictures:", error)

wrong = (1 - u28) * x28 + u28 * noise28
some = [2, 8, 14, 20, 26]
rows = {"amount (28, 1, 1, 1)": mix(x28, u28, noise28)[some], "amount (28,)": wrong[some]}
viz.show_rows(rows, titles=[f"{u:.2f}" for u in u28[some]])

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# In the lower row the amount runs from left to right inside every picture, and is the same for all pictures. No error, no warning, and a training run would go on with the wrong pictures.
# `corrupt` does the reshaping for you, and refuses amounts of any other length.
#
# </details>

# %% [markdown]
# Now from 0 to 1 in eleven steps, with the same noise along a row:

# %%
viz.filmstrip(ten[:5], generator=make_generator(2))

# %% [markdown]
# ## Compare two kinds of noise
#
# **Uniform** noise takes every value of [−1, 1] equally often: its variance is ⅓. **Gaussian** noise, $n \sim \mathcal N(0, 1)$, has variance 1 and no bounds.
#
# ### Exercise 3 — Draw the noise  (difficulty 1 of 3, 4 minutes)
#
# A draw that nobody can repeat cannot be tested. In this course every draw of noise therefore names its source, a `torch.Generator`: same seed, same noise.
#
# Draw Gaussian noise for a batch of pictures, a number for every pixel of every picture, in one call and from the generator that is given.


# %%
def my_noise(x, generator):
    """x (B, C, H, W), a torch.Generator; returns Gaussian noise with the shape, dtype and device of x."""
    return ...  # your code


# %%
check("draw_noise", my_noise)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `torch.randn` draws from the normal distribution, `torch.rand` from the uniform one.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# It takes a shape, and the arguments `dtype`, `device` and `generator`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("draw_noise")` in a new cell. `corrupt` draws in this way when no noise is given to it.
#
# </details>

# %% [markdown]
# ### Exercise 4 — Which noise hides more?  (difficulty 1 of 3, 1 minute)
#
# Decide before you look. All pictures get the amount 0.6. What hides them more?
#
# - **a** uniform noise: all values are equally likely, so it is the wilder one
# - **b** Gaussian noise: its numbers are larger
# - **c** neither: the amount is the same

# %%
my_stronger_noise = ...  # "a", "b" or "c"

# %%
check("stronger_noise", my_stronger_noise)

# %% [markdown]
# <details><summary>Hint</summary>
#
# At amount 0.6 both are multiplied by 0.6. What is the variance of 0.6 · n in the one case and in the other?
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("stronger_noise")` in a new cell, or go on: the next pictures show it.
#
# </details>

# %% [markdown]
# ![The same picture with Gaussian and with uniform noise, and the histograms of both.](../figures/01_noise_kinds.png)

# %%
amounts = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
copies, levels = x[:1].expand(6, -1, -1, -1), torch.tensor(amounts)
kinds = {kind: corrupt(copies, levels, kind, generator=make_generator(3))[0] for kind in ("gaussian", "uniform")}
viz.show_rows(kinds, titles=[f"{u:g}" for u in amounts])

# %%
drawn = {kind: corrupt(x, 1.0, kind, generator=make_generator(4))[0] for kind in ("gaussian", "uniform")}
for kind, n in drawn.items():
    outside, shown = (n.abs() > 1).float().mean(), to_float(to_uint8(n))
    print(f"{kind:9} variance {n.var():.3f}, {outside:5.1%} outside [-1, 1], variance on the screen {shown.var():.3f}")

gaussian, uniform = drawn["gaussian"], drawn["uniform"]
assert abs(gaussian.var() - 1) < 0.01 and abs(uniform.var() - 1 / 3) < 0.005
assert abs((gaussian.abs() > 1).float().mean() - 0.317) < 0.005
assert abs(to_float(to_uint8(gaussian)).var() - 0.52) < 0.005
viz.plot_histogram(drawn, bins=200)

# %% [markdown]
# A screen knows nothing beyond black and white. 31.7 % of the Gaussian numbers lie outside, and showing them clips them: the variance that you *see* is 0.52, not 1.
# A network gets the numbers, never the screen's version of them.
#
# Compare for yourself, at the same amount. Without the tick at **clip**, the gray scale reaches from −3 to 3, and nearly nothing is cut:
#
# *Below is a slider. Where it does not run (on GitHub, in print), the picture above shows what it is about; `make lab` opens the live one.*

# %%
widgets.corruption_explorer(ten, noise="uniform", amount=0.6, columns=10)

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# At the same amount, uniform noise hides less: its standard deviation is √⅓ ≈ 0.58 of the Gaussian's. What hides a picture is the noise's variance,
# hardly the shape of its histogram (a task at the end lets you test that).
# Diffusion takes Gaussian noise for another reason: the sum of two Gaussian draws is Gaussian again, while two uniform draws add up to a triangle.
# Notebook 03 needs that, to replace a thousand small steps by one.
#
# </details>

# %% [markdown]
# ## Measure the variance
#
# What size are the numbers that a network would get at amount $u$? Two rules are enough: scaling by $c$ multiplies a variance by $c^2$, and variances of
# *independent* things add up. The noise knows nothing of the picture, so they are independent.
#
# ### Exercise 5 — The variance of a mixture  (difficulty 1 of 3, 4 minutes)
#
# Give the variance of $x_u = (1-u)\,x + u\,n$ from the amount and the two variances.


# %%
def my_variance(amount, picture_variance, noise_variance):
    """Numbers in, a number out: the variance of (1 - amount) * picture + amount * noise."""
    return ...  # your code


# %%
check("mixture_variance", my_variance)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Two terms, one for the picture and one for the noise. In each, the weight comes squared.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("mixture_variance")` in a new cell. The same equation stands below, and `viz.plot_variance` draws it.
#
# </details>

# %% [markdown]
# ### Exercise 6 — Half and half  (difficulty 1 of 3, 2 minutes)
#
# Picture and noise both have variance 1. What is the variance of their mixture at amount 0.5?

# %%
my_least_variance = ...  # a number

# %%
check("least_variance", my_least_variance)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Both weights are 0.5. Put the numbers into your function, or into the two rules above.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("least_variance")` in a new cell. The check works it out with `corrupt` itself.
#
# </details>

# %% [markdown]
# The prediction:
#
# $$\operatorname{Var}(x_u) = (1-u)^2 \operatorname{Var}(x) + u^2 \operatorname{Var}(n)$$
#
# The measurement: 1,000 pictures, ten draws of noise at each of eleven amounts, and the standard error of their mean.


# %%
def measured_variance(x, u, draws=10):
    """Mean over several draws of the noise, and its standard error."""
    found = torch.stack([corrupt(x, u, generator=generator)[0].var() for _ in range(draws)])
    return found.mean(), found.std() / draws**0.5


generator = make_generator(5)
u = torch.linspace(0, 1, 11)
measured, errors = torch.tensor([measured_variance(x, float(step)) for step in u]).T
predicted = (1 - u) ** 2 * x.var() + u**2 * 1
print(f"largest difference between measured and predicted: {(measured - predicted).abs().max():.4f}")
assert torch.allclose(measured, predicted, atol=0.003)
viz.plot_variance(u, measured, errors, picture_variance=x.var().item())

# %%
fine = torch.linspace(0, 1, 10_001)
curve = (1 - fine) ** 2 * x.var() + fine**2
print(f"pictures {x.var():.2f}, noise 1, least {curve.min():.3f} at amount {fine[curve.argmin()]:.3f}")
assert abs(curve.min() - 1 / 3) < 0.002 and abs(fine[curve.argmin()] - 1 / 3) < 0.002

# %% [markdown]
# **Explain it in your own words:** why does the variance sag below both of its ends?
#
# <details><summary>Model answer</summary>
#
# From 0.50 it sinks to ⅓ at amount ⅓, then climbs to 1. The weights $1-u$ and $u$ add up to 1, but variances count their *squares*, and
# $(1-u)^2 + u^2$ is less than 1 everywhere between the ends: ½ in the middle. Independent things partly cancel when they are averaged;
# the mean of two throws of dice is calmer than one throw, too. It even falls below the lower end: a small amount $u$ takes about
# $2u\operatorname{Var}(x)$ from the picture's part, and the noise brings only $u^2\operatorname{Var}(n)$, which is less as long as $u$ is small.
#
# </details>
#
# ### Weights that keep it
#
# To lose nothing, let the *squares* add up to 1. Take the roots:
#
# $$x_u = \sqrt{1-u}\;x + \sqrt{u}\;n, \qquad \operatorname{Var}(x_u) = (1-u)\operatorname{Var}(x) + u\operatorname{Var}(n)$$
#
# A straight line between the ends; and where pictures are standardized to variance 1, it is flat. A second cure is to take the linear mixture and divide it by
# $\sqrt{(1-u)^2 + u^2}$:

# %%
z = (x - x.mean()) / x.std()  # standardized: mean 0, variance 1
u = torch.tensor([0, 0.25, 0.5, 0.75, 1]).view(-1, 1, 1, 1, 1)
linear = (1 - u) * z + u * noise
rooted = (1 - u).sqrt() * z + u.sqrt() * noise
rescaled = linear / ((1 - u) ** 2 + u**2).sqrt()

print("amount  ", *(f"{value:5.2f}" for value in u.flatten()))
for name, mixture in {"linear": linear, "rooted": rooted, "rescaled": rescaled}.items():
    print(f"{name:8}", *(f"{value:5.2f}" for value in mixture.flatten(1).var(1)))
assert abs(linear[2].var() - 0.5) < 0.01
for mixture in (rooted, rescaled):
    assert torch.allclose(mixture.flatten(1).var(1), torch.ones(5), atol=0.01)

# %%
columns = [f"{value:g}" for value in u.flatten()]
rows = {"linear": linear[:, 0], "rescaled": rescaled[:, 0], "rooted": rooted[:, 0]}
viz.show_rows(rows, titles=columns, span=2.5)

# %% [markdown]
# **What did you see?** And what does it mean to a network that must handle all amounts?
#
# <details><summary>Answer</summary>
#
# *Linear* and *rescaled* are the same pictures at another contrast: a factor hides nothing and reveals nothing. But a network feels it. Its input would
# swell and shrink with the amount (here by √2 in standard deviation), so the same weights meet large numbers at one amount and small ones at the next.
# With kept variance the input always has the same size, and only its content changes.
# *Rooted* has the same size too, but is noisier than *rescaled* below amount ½ and less noisy above it: it walks the same road at another pace.
#
# </details>

# %% [markdown]
# Both roads lie ahead of you:
#
# - Notebook 03 takes the roots, and calls $1-u$ there $\bar\alpha_t$: the weights $\sqrt{\bar\alpha_t}$ and $\sqrt{1-\bar\alpha_t}$ make a **variance-preserving** process.
# - **Flow matching** keeps the linear amount, because picture and noise are then joined by a straight line. Its direction, $n - x$, is the same
#   all the way: a simple thing to ask of a network (the library calls it `velocity`). The sag is accepted, or mended by rescaling the input.

# %% [markdown]
# ## Weigh signal against noise
#
# If contrast does not matter, what does? The ratio of the two variances in the mixture, the **signal-to-noise ratio**:
#
# $$\operatorname{SNR}(u) = \frac{(1-u)^2 \operatorname{Var}(x)}{u^2 \operatorname{Var}(n)}$$
#
# Any factor cancels in it.
#
# ### Exercise 7 — Equally strong  (difficulty 2 of 3, 4 minutes)
#
# At which amount are picture and noise equally strong, that is, SNR = 1? Our pictures have variance 0.5, Gaussian noise has variance 1. Two digits are enough.

# %%
my_equal_shares = ...  # a number

# %%
check("equal_shares", my_equal_shares)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Set both variances equal: $(1-u)^2 \cdot 0.5 = u^2$. All of it is positive, so you may take the root of both sides.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $1-u = \sqrt2\,u$. Bring $u$ to one side.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("equal_shares")` in a new cell. The check searches the library's table of SNRs for it.
#
# </details>

# %% [markdown]
# At $u = 0.41$ noise is as strong as the pictures, and yet you could name pieces far beyond. Your eye averages over neighbors:
# the noise cancels, the picture hardly. Do the same with the 5×5 pixels around each:


# %%
def snr(u, picture_variance, noise_variance=1.0):
    return (1 - u) ** 2 * picture_variance / (u**2 * noise_variance)


blur = torch.nn.AvgPool2d(5, stride=1, padding=2, count_include_pad=False)  # each pixel: mean of the 5×5 around it
noise_left, picture_left = blur(noise).var().item(), blur(x).var().item()
pixel, blurred = snr(0.7, x.var().item()), snr(0.7, picture_left, noise_left)
print(f"SNR at amount 0.41: {snr(0.41, x.var()):.2f}")
print(f"blurring leaves {noise_left:.3f} of the noise's variance and {picture_left / x.var():.2f} of the picture's")
print(f"SNR at amount 0.7: {pixel:.2f} before, {blurred:.2f} after, {blurred / pixel:.0f} times as much")
assert abs(snr(0.41, x.var()) - 1) < 0.05 and abs(noise_left - 0.045) < 0.003
assert abs(picture_left / x.var() - 0.7) < 0.03 and abs(blurred / pixel - 15) < 0.5 and pixel < 0.1 < 1 < blurred

# %%
hidden, _ = corrupt(x[:8], 0.7, noise[:8])
viz.show_rows({"amount 0.7": hidden, "blurred": 2.5 * blur(hidden), "picture": x[:8]})

# %% [markdown]
# Less than a twentieth of the noise is left, but seven tenths of the picture. At amount 0.7, where noise drowns every single pixel, shapes come back, 15 times clearer.
# (The contrast of the blurred row is raised for the eye. That is a factor, so its SNR is untouched.)
# A U-Net averages as well: its deep levels look at small, calm versions of a noisy picture. Notebook 02 builds one.
#
# ### Where does a picture disappear?
#
# A machine can tell. Take the average picture of each of the ten classes, fade it by 1 − u as the mixture fades the picture, and name a corrupted picture after the
# average that is then nearest to it. (So it is told the amount; at u = 1 all ten averages are the same.)

# %%
test = load_fashion_mnist("test", source="packaged")
averages = torch.stack([pictures.of_class(label)[:].mean(0) for label in range(10)])  # (10, 1, 28, 28)


def recognized(u):
    mixed, _ = corrupt(test[:], u, generator=make_generator(6))
    distance = torch.cdist(mixed.flatten(1), (1 - u) * averages.flatten(1))  # (2000, 10)
    return (distance.argmin(1) == test.labels).float().mean().item()


steps = [i / 20 for i in range(21)]
rate = [recognized(u) for u in steps]
print({u: round(rate[round(20 * u)], 2) for u in (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)})
assert rate[8] > 0.97 * rate[0] and rate[14] > 0.9 * rate[0] and rate[18] < 0.45 and abs(rate[20] - 0.1) < 0.03
curves = {"nearest class average": (steps, rate), "guessing": ([0, 1], [0.1, 0.1])}
viz.plot_curves(
    curves, xlabel="amount of noise u", ylabel="share of right names", title="2,000 test pictures", mark=0.41
)

# %% [markdown]
# **What did you see?** Where is your own number from the start?
#
# <details><summary>Answer</summary>
#
# At amount 0.41, the line, noise and picture are equally strong, and recognition has lost next to nothing. Up to 0.7 it keeps more than nine tenths of what it has without noise.
# Then it collapses, and at 1 it is guessing. Your own number probably lies in that fall, too. A denoiser's work is thus unevenly spread: below 0.4 there is little to
# decide, above 0.9 little to see, and in between it decides what the picture is.
#
# </details>

# %% [markdown]
# **Explain it in your own words:** somebody trains on pictures in [0, 1] and adds the same Gaussian noise. No error comes. What is different at every amount?
#
# <details><summary>Model answer</summary>
#
# Half the range is a quarter of the variance: 0.125 for 0.50. The noise is as strong as before, so the SNR is a quarter at every amount, and the pictures drown earlier.
# And no pixel lies below 0, the center of the noise: black, half of all pixels, is that center now, and as the noise grows the mixture tends to black instead of mid-grey.
# `corrupt` refuses bytes, but numbers in [0, 1] do lie in [−1, 1], and nothing can refuse them: look at the least and the largest number of your batch.
#
# </details>

# %% [markdown]
# The exercises of this notebook, by the last run of each check:

# %%
progress()

# %% [markdown]
# ## In three lines
#
# 1. `corrupt` is one line, (1 − u) · x + u · n, with pictures in [−1, 1] and one amount for each picture, shaped `(B, 1, 1, 1)`.
# 2. Its variance is (1 − u)² Var(x) + u² Var(n): it sags, because squares of linear weights add up to less than 1. Square-root weights keep it where both variances are equal, and never sag.
# 3. Contrast is not information. What decides is the signal-to-noise ratio, and averaging over pixels raises it.
#
# ## Honest limits
#
# - "The variance" is one number over all pixels and pictures. A corner pixel is nearly always black and hardly varies; a pixel in the middle varies much more.
# - The pictures are small and simple. Larger pictures have more neighbors to average over and survive more noise, so amounts do not carry over between sizes.
# - The nearest average is a weak recognizer, and no model of your eye. A trained network does better.
# - All noise here is independent from pixel to pixel. Blurred noise behaves otherwise (below).
#
# ## On your own
#
# - Blur the noise with `blur`, divide by its standard deviation, and hand it to `corrupt(x, amount, noise)`. The variance is 1 as before. At which amount do pictures vanish now, and why?
# - Does the collapse of recognition move with the size? `recognized` reads `test` and `averages`: in a new cell at the end, load `pictures` and `test` with `size=16`, compute `averages` anew, and print `recognized(u)` for the `steps`. Then predict what `size=32` gives, which is 28×28 with a black border, and try it: why does nothing change? (The cells above are about 28×28, and some of their assertions hold there alone.)
# - Give `recognized` uniform noise scaled to variance 1, and draw the curve again. Does the kind of noise matter at all?
# - Put your own photos into a folder and load them with `course_lib.data.load_folder(path, size=64)`. What is their variance, and where is the bottom of the sag?
#
# ## References
#
# - Xiao, Rasul, Vollgraf (2017), *Fashion-MNIST*, arXiv:1708.07747. Where the pictures come from, and why its authors wanted something harder than digits.
# - Ho, Jain, Abbeel (2020), *Denoising Diffusion Probabilistic Models*, arXiv:2006.11239. The variance-preserving process that notebook 03 takes apart.
# - Kingma, Salimans, Poole, Ho (2021), *Variational Diffusion Models*, arXiv:2107.00630. Shows that processes with the same signal-to-noise ratio are the same up to a factor.
# - Karras, Aittala, Aila, Laine (2022), *Elucidating the Design Space of Diffusion-Based Generative Models*, arXiv:2206.00364. Section 5 rescales a network's input to variance 1 at every amount: the cure for the sag.
# - Lipman, Chen, Ben-Hamu, Nickel, Le (2023), *Flow Matching for Generative Modeling*, arXiv:2210.02747. Where the linear amount comes back, as a straight path.
