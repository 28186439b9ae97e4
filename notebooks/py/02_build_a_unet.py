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
# # Build a U-Net
#
# **You will do:** work out what size comes out of every layer of a U-Net, trace three famous shapes of it, write its blocks, break one, and train
# the smallest to take noise away.
#
# **You will learn:** the arithmetic of convolution, pooling and transposed convolution; why a skip doubles the channels; how to count parameters
# by hand; which pictures suit a network that halves four times; why a network that cleans half-noisy pictures well makes nothing but fog from pure noise.
#
# **You need:** about 60 minutes, exercises included (the computer needs about two of them); notebook 01 for `corrupt`; convolutions in PyTorch, roughly.
#
# ![Five rows of pictures. Half-noisy clothes come out of one step of the network as clothes. Pure noise comes out as nearly the same grey blob every time, and the last row, the mean of all training pictures, is that blob.](../figures/02_one_step.png)

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
import torch.nn.functional as F
from IPython.display import display
from torch import nn

from course_lib import viz, widgets
from course_lib.checks import check, progress, solution  # noqa: F401 - solution is for you to call
from course_lib.data import batches, load_fashion_mnist
from course_lib.forward import corrupt
from course_lib.runtime import make_generator
from course_lib.schedule import linear_amount
from course_lib.shapes import conv_out, conv_transpose_out, count_parameters, format_trace, pool_out, trace
from course_lib.unet import BottleneckUNet, ClassicUNet, DoubleConvUNet

# %% [markdown]
# ## Size a layer
#
# ![A 3×3 kernel on a padded 7×7 input, at its first two places, and the two cells of the output that they make.](../figures/02_kernel.png)
#
# A **convolution** lays a $k \times k$ kernel on the picture and turns what lies below into one number; then it moves on by $s$ pixels.
# How often does it fit? The padded side has $n + 2p$ pixels, the first placement takes $k$ of them, and every further one needs $s$ more:
#
# $$n_\text{out} = \left\lfloor \frac{n + 2p - k}{s} \right\rfloor + 1$$
#
# | symbol | code | meaning |
# |---|---|---|
# | $n$ | `size` | height or width of the input; each axis counts for itself |
# | $k$ | `kernel` | side of the kernel |
# | $s$ | `stride` | pixels from one placement to the next |
# | $p$ | `padding` | pixels added on *each* side |
#
# **Pooling** moves in the same way, usually with $s = k$: a 2×2 max-pool keeps the largest of each four pixels and halves the size.
#
# ### Exercise 1 — The size after a convolution  (difficulty 1 of 3, 3 minutes)
#
# Write the formula as a function of four ints that returns an int. $\lfloor\;\rfloor$ rounds down: a placement that does not fit whole is left out.


# %%
def my_conv_out(size, kernel, stride, padding):
    """Four ints in, the output size out, an int."""
    return ...  # your code


# %%
check("conv_out", my_conv_out)

# %% [markdown]
# <details><summary>Hint</summary>
#
# `//` divides ints and rounds down. Mind where the `+ 1` stands: outside of the brackets.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("conv_out")` in a new cell. The library's function also knows dilation (below) and refuses kernels that do not fit.
#
# </details>

# %% [markdown]
# ### The way back
#
# ![A transposed convolution: each of two input cells paints a 3×3 patch on the output, the patches two pixels apart; a rim is cut off.](../figures/02_transposed.png)
#
# A **transposed convolution** turns the picture around: each input pixel *paints* a $k \times k$ patch on the output, weighted by its value. Patches begin $s$
# pixels apart and add up where they overlap. At the end $p$ rows are cut off each side, and $o$ (`output_padding`) are added back on one side.
#
# ### Exercise 2 — The size after a transposed convolution  (difficulty 2 of 3, 5 minutes)
#
# Derive the size from that description: how far do $n$ patches reach, what is cut, what is added?


# %%
def my_conv_transpose_out(size, kernel, stride, padding, output_padding):
    """Five ints in, the output size out, an int."""
    return ...  # your code


# %%
check("conv_transpose_out", my_conv_transpose_out)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The first patch covers `kernel` pixels. Each of the other `size - 1` reaches `stride` further.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Or solve the formula of the convolution for $n$, as if nothing were rounded. What rounding had lost is `output_padding`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("conv_transpose_out")` in a new cell. It is the third row of the table below, with dilation 1.
#
# </details>

# %% [markdown]
# With **dilation** $d$ the kernel's cells lie $d$ pixels apart, so that it spans $d(k-1)+1$ pixels instead of $k$. All three formulas in full:
#
# | layer | output size | code |
# |---|---|---|
# | convolution | $\left\lfloor \dfrac{n + 2p - d(k-1) - 1}{s} \right\rfloor + 1$ | `conv_out(size, kernel, stride, padding, dilation)` |
# | pooling | the same, with $s = k$ unless said otherwise | `pool_out(size, kernel, stride, padding, dilation)` |
# | transposed convolution | $(n-1)\,s - 2p + d(k-1) + o + 1$ | `conv_transpose_out(size, kernel, stride, padding, output_padding, dilation)` |
#
# Do they tell the truth? Six layers, four sizes, against what PyTorch really returns:

# %%
layers = {
    "conv 3×3": (nn.Conv2d(1, 1, 3), lambda n: conv_out(n, 3)),
    "conv 3×3, padding 1": (nn.Conv2d(1, 1, 3, 1, 1), lambda n: conv_out(n, 3, 1, 1)),
    "conv 3×3, stride 2, padding 1": (nn.Conv2d(1, 1, 3, 2, 1), lambda n: conv_out(n, 3, 2, 1)),
    "max-pool 2×2": (nn.MaxPool2d(2), lambda n: pool_out(n, 2)),
    "transposed 2×2, stride 2": (nn.ConvTranspose2d(1, 1, 2, 2), lambda n: conv_transpose_out(n, 2, 2)),
    "transposed 3×3, stride 2, padding 1, output padding 1": (
        nn.ConvTranspose2d(1, 1, 3, 2, 1, 1),
        lambda n: conv_transpose_out(n, 3, 2, 1, 1),
    ),
}
sizes = (572, 28, 16, 7)
print(f"{'size in':54}", *(f"{n:6}" for n in sizes))
for name, (layer, formula) in layers.items():
    predicted = [formula(n) for n in sizes]
    assert predicted == [layer(torch.zeros(1, 1, n, n)).shape[-1] for n in sizes]
    print(f"{name:54}", *(f"{n:6}" for n in predicted))

# %% [markdown]
# Now play. **Find:** (1) at `stride` 1, the padding with which a 3×3, then a 5×5 convolution keeps every size; (2) two sizes which `stride` 2 sends to the same output;
# (3) for *transposed conv* with kernel 3, stride 2, padding 1: how to come back to each of those two.
#
# *Below is a slider. Where it does not run (on GitHub, in print), the picture above shows what it is about; `make lab` opens the live one.*

# %%
widgets.shape_explorer("conv", size=7, kernel=3, stride=2, padding=1)

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# 1. With stride 1, padding $(k-1)/2$ keeps the size: 1 for a 3×3 kernel, 2 for a 5×5.
# 2. Sizes 7 and 8 both become 4 (kernel 3, stride 2, padding 1). Rounding down has forgotten which it was.
# 3. So the way back needs to be told: 4 returns to 7 with output padding 0, and to 8 with output padding 1. That is all that output padding is for.
#
# A 2×2 pool on an odd size never looks at the last row and column. Keep that in mind.
#
# </details>

# %%
assert all(conv_out(n, 3, padding=1) == n == conv_out(n, 5, padding=2) for n in range(1, 100))
assert conv_out(7, 3, stride=2, padding=1) == conv_out(8, 3, stride=2, padding=1) == 4
assert [conv_transpose_out(4, 3, 2, 1, o) for o in (0, 1)] == [7, 8]
try:
    conv_transpose_out(4, kernel=3, stride=2, padding=1, output_padding=2)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Go down, come up, carry skips
#
# To clean a picture, a network must know *what* it shows (a boot) and *where* every edge runs. The two pull in opposite directions:
#
# - **Down.** Two 3×3 convolutions, then halve the size. A 3×3 kernel on a halved map covers a piece of the picture twice as wide and twice as high. Maps shrink, channels grow.
# - **Bottleneck.** The smallest maps: much *what*, hardly any *where*.
# - **Up.** A transposed convolution doubles the size and halves the channels.
# - **Skip.** The map from the way down, which still has every edge, is handed straight across and laid beside the one from below.
#
# ![Two blocks of feature maps, the skip and the upsampled map, with C channels each, are stacked into one block with 2C channels, which a double convolution brings back to C.](../figures/02_concatenate.png)
#
# "Beside" means along the channel axis: `torch.cat([skip, up], dim=1)`. Height and width must agree, channels add up:
#
# $$(B, C, H, W) \;\text{ and }\; (B, C, H, W) \;\longrightarrow\; (B, 2C, H, W)$$
#
# Why not simply add the two maps? Because a convolution after `cat` can do that, and more. It has one set of weights for the skip and one for the map from below:

# %%
generator = make_generator(0)
skip, up = torch.randn(2, 2, 8, 14, 14, generator=generator)  # two maps, (B, C, H, W) each
both = torch.cat([skip, up], dim=1)
layer = nn.Conv2d(16, 8, 3, padding=1, bias=False)
for_skip, for_up = layer.weight.split(8, dim=1)  # (8, 16, 3, 3) -> twice (8, 8, 3, 3)

print(f"{tuple(skip.shape)} and {tuple(up.shape)} -> {tuple(both.shape)} -> {tuple(layer(both).shape)}")
apart = F.conv2d(skip, for_skip, padding=1) + F.conv2d(up, for_up, padding=1)
torch.testing.assert_close(layer(both), apart, atol=1e-5, rtol=1e-5)

# %% [markdown]
# Adding is the special case in which both sets of weights are equal. Concatenation lets training decide how much to trust the sharp map and how much the wise one.
#
# ### Exercise 3 — Channels of every merge  (difficulty 1 of 3, 3 minutes)
#
# A U-Net has `features` channels on its levels, top first: 64, 128, 256 and 512, say. From a bottleneck with 1024 a transposed convolution leads up
# to 512, the next one to 256, and so on: on each level it makes as many channels as the skip has that waits there. Skip and upsampled map are concatenated,
# and a double convolution brings them back to the channels of the level. How many channels *enter* each of these double convolutions, on the way from the deepest level up?


# %%
def my_merge_channels(features):
    """A list or tuple of ints in any order of size, top level first, left as it is; returns a list, deepest merge first."""
    return ...  # your code


# %%
check("merge_channels", my_merge_channels)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Do one level by hand. The top skip has 64 channels; what meets it had 128 before its transposed convolution, and has 64 after it.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `reversed(features)` goes from the deepest level to the top. The list is as long as `features`: one merge for each skip.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("merge_channels")` in a new cell; or read it off the drawing of the padded U-Net in the next section, at the striped bars on the right.
#
# </details>

# %% [markdown]
# Here is a whole U-Net with two levels, written out:


# %%
def double_conv(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.Conv2d(o, o, 3, padding=1), nn.ReLU())


class TinyUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([double_conv(1, 8), double_conv(8, 16)])
        self.bottleneck = double_conv(16, 32)
        self.up = nn.ModuleList([nn.ConvTranspose2d(32, 16, 2, stride=2), nn.ConvTranspose2d(16, 8, 2, stride=2)])
        self.merge = nn.ModuleList([double_conv(2 * 16, 16), double_conv(2 * 8, 8)])
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        skips = []
        for block in self.down:
            skips.append(block(x))  # keep the map for later ...
            x = F.max_pool2d(skips[-1], 2)  # ... and halve it
        x = self.bottleneck(x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], dim=1))  # last in, first out: the sizes match
        return self.out(x)


# %% [markdown]
# `DoubleConvUNet` of the library is this with any number of levels and with clear errors. Same weights, same answer:

# %%
tiny, x = TinyUNet(), torch.randn(4, 1, 28, 28, generator=generator)
library = DoubleConvUNet(in_channels=1, out_channels=1, features=(8, 16), bottleneck=32, batch_norm=False)
library.load_state_dict(tiny.state_dict())
torch.testing.assert_close(tiny(x), library(x))
print(f"{tuple(x.shape)} -> {tuple(tiny(x).shape)}, {count_parameters(tiny):,} parameters")

# %% [markdown]
# ### Exercise 4 — Count the parameters  (difficulty 2 of 3, 4 minutes)
#
# A convolution from $i$ to $o$ channels has one $k \times k$ kernel for every *pair* of input and output channel, and one bias for every output channel:
#
# $$\text{parameters} = k^2 \cdot i \cdot o + o$$
#
# How many has a double convolution: 3×3 from `in_channels` to `out_channels`, then 3×3 from `out_channels` to `out_channels`, both with biases?


# %%
def my_parameters(in_channels, out_channels):
    """Two ints in, the number of weights and biases out, an int."""
    return ...  # your code


# %%
check("double_conv_parameters", my_parameters)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Two terms of the form $9\,i\,o + o$. What goes into the second convolution is what came out of the first. Try 1 → 8: it should give 664.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("double_conv_parameters")` in a new cell. By hand it is done below, for a whole network.
#
# </details>

# %% [markdown]
# ## Trace three U-Nets
#
# ### 2015: larger in than out
#
# ![The U-Net of 2015 as a U: from 1×572×572 down to 1024×28×28 and up to 2×388×388; dashed arrows carry the skips.](../figures/02_unet_2015.png)
#
# The first U-Net (Ronneberger et al. 2015) labelled the cells in microscope pictures. Its convolutions have no padding, so each 3×3 one takes two pixels off height and width.
# `trace` runs a network once and lists what came out of each layer (ReLU left out here). This one takes some seconds and about 1 GB of memory:

# %%
classic = ClassicUNet()
rows = trace(classic, torch.zeros(1, 1, 572, 572))
print(format_trace([row for row in rows if row.kind != "ReLU"]))
assert rows[-1].out_shape == (1, 2, 388, 388) and count_parameters(classic) == 31_030_658

# %%
viz.plot_unet(rows)

# %% [markdown]
# Follow one side: 572 → 570 → 568, halved to 284, and so on down to 28×28 with 1024 channels, then up to 388. A skip of 64×64 meets a map of 56×56, so its middle
# is cut out: "crop and concatenate". The weights are not where the large maps are: one convolution in the bottleneck holds 30 % of all parameters.
#
# And 572 is no whim. Most sizes meet an odd number on the way:

# %%
deepest = min(rows, key=lambda row: row.out_shape[-1])
largest = max(rows, key=lambda row: row.parameters)
print(f"deepest map {deepest.out_shape}; {largest.name} has {largest.parameters / 31_030_658:.0%} of the parameters")
assert deepest.out_shape[2:] == (28, 28) and abs(largest.parameters / 31_030_658 - 0.30) < 0.005
try:
    classic.output_size(570)
except ValueError as error:
    print(error)
del classic, rows  # 31 million numbers that we no longer need

# %% [markdown]
# ### Padded: as large out as in
#
# With padding 1 a 3×3 convolution keeps the size. Nothing is cropped, and the output lies pixel on pixel over the input, as a network that removes noise needs it.
# Most later U-Nets are of this kind:

# %%
padded = DoubleConvUNet(in_channels=1, out_channels=1)
rows = trace(padded, torch.zeros(1, 1, 32, 32))
print(f"{rows[0].in_shape} -> {rows[-1].out_shape}, {count_parameters(padded):,} parameters")
assert rows[-1].out_shape == (1, 1, 32, 32) and count_parameters(padded) == 31_036_481
del padded
viz.plot_unet(rows)

# %% [markdown]
# The striped halves are the skips. On every level of the right arm the channels double at `cat` and are halved again by the double convolution.
# (This network has **BatchNorm** between convolution and ReLU: it shifts and scales each channel to a standard size, with two parameters per channel.
# The convolution before it then needs no bias.)
#
# ### 16×16: small enough to count
#
# ![The small U-Net: 1×16×16 down to 64×4×4, through a vector of 32 numbers, and up to 1×16×16.](../figures/02_unet_16.png)
#
# `BottleneckUNet` halves twice and then squeezes the deepest map, 64 · 4 · 4 = 1024 numbers, through a vector of 32. All that changes the size of a map in it
# is made of two blocks, and you write both:
#
# | block | from | to | what happens |
# |---|---|---|---|
# | down | $(B, C_\text{in}, H, W)$ | $(B, C_\text{out}, H/2, W/2)$ | twice: 3×3 convolution, BatchNorm, ReLU; at the end a 2×2 max-pool |
# | up | $x$ and skip, $(B, C_\text{in}, H, W)$ each | $(B, C_\text{out}, 2H, 2W)$ | concatenate; 3×3 transposed convolution, BatchNorm, ReLU; 3×3 convolution, BatchNorm, ReLU |
#
# Only the pool and the transposed convolution change the size. In `TinyUNet` the map from below was doubled first and concatenated then; here the skip
# comes from behind the pool, so the two have the same size *before* they are doubled together.
#
# ### Exercise 5 — A down block  (difficulty 2 of 3, 6 minutes)
#
# A block is a class like `TinyUNet` above: `__init__` makes the layers, `forward` calls them. A BatchNorm for maps with C channels is `nn.BatchNorm2d(C)`.
# Let the convolutions have their biases, as they do unless told otherwise.
#
# Name the layers and group them as you like. The check puts the same weights into your block and the library's, in the order in which each calls its layers,
# and compares what comes out, in training mode, where BatchNorm uses the mean and variance of the batch, and in evaluation, where it uses those that it has kept.


# %%
class MyDownBlock(nn.Module):
    """x (B, in_channels, H, W) to (B, out_channels, H/2, W/2)."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        ...  # your layers

    def forward(self, x):
        return ...  # your code


# %%
check("down_block", MyDownBlock)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Which padding lets a 3×3 convolution keep the size? You found it with the slider. What goes into the second convolution is what came out of the first.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Seven layers in a row: `self.layers = nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU(), …)`.
# Then `forward` is one line.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("down_block")` in a new cell.
#
# </details>
#
# ### Exercise 6 — An up block  (difficulty 3 of 3, 8 minutes)
#
# The way back. `in_channels` is what `x` and the skip have *each*. Concatenate `x` first, then the skip. The transposed convolution has a 3×3 kernel and padding 1;
# which stride and which output padding make the size exactly double? The formula of exercise 2 tells.


# %%
class MyUpBlock(nn.Module):
    """x and skip (B, in_channels, H, W) each to (B, out_channels, 2H, 2W)."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        ...  # your layers

    def forward(self, x, skip):
        return ...  # your code


# %%
check("up_block", MyUpBlock)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# How many channels has the concatenation? So many must the transposed convolution take, and `out_channels` it makes.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With stride 2 the formula gives $(n - 1) \cdot 2 - 2 + 3 + o = 2n - 1 + o$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `forward` begins with `torch.cat([x, skip], dim=1)`. The layers behind it are as in the down block, but the first is
# `nn.ConvTranspose2d(…, …, 3, stride=2, padding=1, output_padding=…)`, and there is no pool.
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("up_block")` in a new cell.
#
# </details>

# %% [markdown]
# ### The whole of it
#
# Two down blocks; dense layers, with a convolution behind them; two up blocks. One convolution comes before all that, and two after:

# %%
rows = trace(BottleneckUNet(), torch.zeros(1, 1, 16, 16))
ends = ["stem.2", "down.0.6", "down.1.6", "flatten.1", "unflatten.3", "up.0.body.5", "up.1.body.5", "out.3"]
shapes = ["×".join(map(str, row.out_shape[1:])) for row in rows if row.name in ends]
print(" → ".join(shapes))
assert shapes == ["16×16×16", "32×8×8", "64×4×4", "1024", "64×4×4", "32×8×8", "16×16×16", "1×16×16"]
viz.plot_unet(rows)

# %% [markdown]
# Every parameter, by hand. Kernels of a transposed convolution are counted like those of a convolution; a dense layer is a convolution with $k = 1$:


# %%
def conv(i, o):
    return 9 * i * o + o


def dense(i, o):
    return i * o + o


def norm(channels):
    return 2 * channels


stem = conv(1, 16) + norm(16)
down = conv(16, 32) + conv(32, 32) + 2 * norm(32) + conv(32, 64) + conv(64, 64) + 2 * norm(64)
bottleneck = dense(1024, 32) + dense(32, 32) + dense(32, 1024) + conv(64, 64) + norm(64)
up = conv(2 * 64, 32) + conv(32, 32) + 2 * norm(32) + conv(2 * 32, 16) + conv(16, 16) + 2 * norm(16)
out = conv(16, 16) + norm(16) + conv(16, 1)
total = stem + down + bottleneck + up + out
print(f"{stem:,} + {down:,} + {bottleneck:,} + {up:,} + {out:,} = {total:,}")
assert total == count_parameters(BottleneckUNet()) == 234_977

# %% [markdown]
# **Explain it in your own words:** `DoubleConvUNet` leaves out the bias of each convolution before a BatchNorm; `BottleneckUNet` keeps it. What would change in training if
# it were left out here, too, and how many of the 234,977 parameters would that save?
#
# <details><summary>Model answer</summary>
#
# In training BatchNorm subtracts from each channel its mean over batch and pixels. A bias adds the same number to the whole channel, so it is in that mean and is
# subtracted again: nothing would change. BatchNorm has a shift of its own, which comes after the subtraction and does the bias's work.
# One bias for each channel of each BatchNorm is in vain, 16 + (32 + 32 + 64 + 64) + 64 + (32 + 32 + 16 + 16) + 16 = 384 of them, 0.2 % of all. The last convolution, from 16
# channels to 1, has no BatchNorm behind it and needs its bias.
#
# </details>

# %% [markdown]
# ## Send 28 through four poolings
#
# Our pictures are 28×28. The padded U-Net halves four times with 2×2 max-pools and doubles four times with 2×2 transposed convolutions of stride 2. Its other
# convolutions keep every size.
#
# ### Exercise 7 — Predict, then run  (difficulty 1 of 3, 2 minutes)
#
# Somebody wrote such a network with PyTorch's layers alone, and hands it a batch of 28×28 pictures. What happens?
#
# - **a** It gives 28×28, as large as its input.
# - **b** It gives 16×16, since the deepest map is 1×1 and doubles four times.
# - **c** It stops with an error at the first `torch.cat` on the way up.
# - **d** It stops with an error at the pool that is handed 7×7, which cannot be halved.

# %%
my_guess_for_28 = ...  # "a", "b", "c" or "d"

# %%
check("four_poolings", my_guess_for_28)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Write the five sizes of the way down in a row, with $\lfloor n/2 \rfloor$ from one to the next.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Now up. The deepest map doubles; which size has the skip that it must lie beside?
#
# </details>
#
# <details><summary>Solution</summary>
#
# Run `solution("four_poolings")` in a new cell, or go on: the next code cell does it.
#
# </details>

# %% [markdown]
# Run it. What is left of such a network without the convolutions that keep the size:

# %%
pool, double = nn.MaxPool2d(2), nn.ConvTranspose2d(1, 1, 2, stride=2)
maps = [torch.zeros(1, 1, 28, 28)]
for _ in range(4):
    maps.append(pool(maps[-1]))
print("down:", " → ".join(str(one.shape[-1]) for one in maps))
x = maps.pop()
try:
    while maps:
        x = torch.cat([maps.pop(), double(x[:, :1])], dim=1)  # one channel will do: only sizes matter
except RuntimeError as error:
    print(f"up, with {len(maps)} skips left: {error}")
assert len(maps) == 3

# %% [markdown]
# ![28 halved four times gives 14, 7, 3 and 1; on the way up 1 doubles to 2, which is not 3, and 3 to 6, which is not 7, both marked in red.](../figures/02_halvings.png)
#
# Would the other skips fit? On paper:

# %%
sizes = [28]
for _ in range(4):
    sizes.append(pool_out(sizes[-1], kernel=2))
for size in sizes[1:]:
    doubled = conv_transpose_out(size, kernel=2, stride=2)
    skip_size = sizes[sizes.index(size) - 1]
    print(f"up: {size:2} → {doubled:2}, the skip has {skip_size:2}", "" if doubled == skip_size else "  does not fit")
assert sizes == [28, 14, 7, 3, 1] and conv_transpose_out(3, kernel=2, stride=2) == 6

# %% [markdown]
# 3 → 1 → 2 ≠ 3, and 7 → 3 → 6 ≠ 7: halving rounds down, doubling does not round up. Deep inside somebody's network you meet this as the error above. The library
# says it at the door:

# %%
small = {"in_channels": 1, "features": (8, 16, 32, 64), "bottleneck": 128}  # narrow: here only sizes matter
picture = torch.zeros(1, 1, 28, 28)
try:
    DoubleConvUNet(**small)(picture)
except ValueError as error:
    print(error)

# %% [markdown]
# Which sizes get through?
#
# *Below is a slider. Where it does not run (on GitHub, in print), the picture above shows what it is about; `make lab` opens the live one.*

# %%
widgets.unet_explorer(size=28, halvings=4)

# %% [markdown]
# **What did you see?** Which sizes work with four halvings, and how often can 28 be halved?
#
# <details><summary>Answer</summary>
#
# Only with multiples of 16 = 2⁴ does every skip fit. 28 = 4 · 7 can be halved twice: 28 → 14 → 7. Where it is red, the map that comes up is one pixel smaller
# than its skip, because the pool dropped a row and a column of the skip's map.
#
# </details>
#
# Three cures:
#
# 1. **Fewer halvings.** The `UNet` that this course trains from notebook 04 on stops at 7×7.
# 2. **Another size.** A black border makes 32×32 of 28×28: `load_fashion_mnist(size=32)`.
# 3. **A patch.** Stretch the map that comes up to the size of its skip; `resize_to_skip=True`. It runs, but look at what it does to a row of six pixels:

# %%
patched = DoubleConvUNet(**small, resize_to_skip=True).eval()
with torch.no_grad():
    print(tuple(picture.shape), "->", tuple(patched(picture).shape))
six = torch.arange(6.0).view(1, 1, 6)
seven = F.interpolate(six, size=7)
print("six pixels", six.flatten().int().tolist(), "stretched to seven", seven.flatten().int().tolist())
assert patched(picture).shape == picture.shape and seven.flatten().tolist() == [0, 0, 1, 2, 3, 4, 5]
del patched

# %% [markdown]
# The first pixel is doubled and all others shift by one: what comes from below no longer lies over its skip. The network can learn around that, but has better things to do.

# %% [markdown]
# ## Train one to take noise away
#
# The small U-Net gets a picture with a random amount $u$ of noise and must answer with the clean picture, in one step. What it minimizes:
#
# $$L = \mathbb E_{x, n, u}\Big[\operatorname{mean}\big((f(x_u) - x)^2\big)\Big], \qquad x_u = (1-u)\,x + u\,n$$
#
# ($\mathbb E$ is the average over all pictures, noises and amounts, the inner mean over pixels. $\mathbb E[\,\cdot \mid x_u]$, below, is the average over those only that lead to
# this $x_u$.)
#
# | symbol | code | shape |
# |---|---|---|
# | $x$, pictures | `x` | `(64, 1, 16, 16)` |
# | $u$, amounts, uniform on [0, 1] | `amount` | `(64,)` |
# | $n$, Gaussian noise | drawn by `corrupt` | like `x` |
# | $f(x_u)$, the network's guess at $x$ | `x_hat` | like `x` |
#
# We ask for the picture, not for the noise, because a picture can be looked at. Nobody tells the network $u$: it has to see for itself how noisy its input is.

# %%
pictures = load_fashion_mnist("train", size=16, source="packaged")
test = load_fashion_mnist("test", size=16, source="packaged")[::4]  # 500 pictures that it will not train on
print(pictures)
x0 = pictures[:]  # (10000, 1, 16, 16), floats in [-1, 1]
mean_picture = x0.mean(0, keepdim=True)
mean_loss = (x0 - mean_picture).square().mean().item()
print(f"loss of a network that always answers with the mean of all pictures: {mean_loss:.2f}")
assert abs(mean_loss - 0.27) < 0.005

# %% [markdown]
# The whole training: one minute on the CPU, and 150 updates at least, should your machine be slow. The step size falls to zero on the way, which calms the end.

# %%
SECONDS = 60
torch.manual_seed(0)  # the network's first weights
generator = make_generator(0)  # everything else
model = BottleneckUNet()
optimizer = torch.optim.Adam(model.parameters())
plot = widgets.LossPlot(reference={"always the mean picture": mean_loss}, every=3)
display(plot)
start = time.perf_counter()
for index in batches(len(x0), 64, generator):
    done = min((time.perf_counter() - start) / SECONDS, len(plot.losses) / 150)
    if done >= 1:
        break
    optimizer.param_groups[0]["lr"] = 3e-3 * (1 - done)
    x = x0[index]
    amount = torch.rand(len(x), generator=generator)
    x_u, _ = corrupt(x, amount, generator=generator)
    x_hat = model(x_u)
    loss = (x_hat - x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    plot.add(loss)
plot.finish()
print(f"{len(plot.losses):,} updates of 64 pictures")

# %% [markdown]
# Does it work? Pictures that it has not seen, mixed half and half with noise. `eval()` matters: in training, BatchNorm takes its statistics from the batch, so an answer would depend on the neighbors.

# %%
model.eval()


@torch.no_grad()
def clean(noisy):
    return model(noisy)


half, _ = corrupt(test, 0.5, generator=make_generator(1))
before, after = ((guess - test).square().mean() for guess in (half, clean(half)))
print(f"mean squared error: {before:.2f} before, {after:.3f} after: {1 - after / before:.0%} of it is gone")
assert after < before / 4
viz.show_rows({"picture": test[:10], "half noise": half[:10], "one step": clean(half)[:10]})

# %% [markdown]
# It finds clothes where, at 16×16, your eye finds little more than gravel: at least three quarters of the squared error are gone, in one step. Small things (prints, stripes) are gone, too.
#
# ![Five rows of pictures. Half-noisy clothes come out of one step of the network as clothes. Pure noise comes out as nearly the same grey blob every time, and the last row, the mean of all training pictures, is that blob.](../figures/02_one_step.png)
#
# Below, $t$ is the amount in percent: `linear_amount(100)` is notebook 01's mixture as a table with 100 steps.
# (The second number above the pictures is the error of the noise that follows from the answer.)
#
# *Below is a slider. Where it does not run (on GitHub, in print), the picture above shows what it is about; `make lab` opens the live one.*

# %%
widgets.x0_hat_explorer(model, linear_amount(100), test[:8], target="x0", t=50)

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# At small $t$ the answer is nearly the picture. From about 50 on it keeps the outline and loses the details, near 80 different clothes begin to look alike,
# and at 100 all eight have become nearly the same grey blob.
#
# </details>

# %% [markdown]
# ## Hand it pure noise
#
# If it can clean any amount, why not amount 1? Pure noise in, a new piece of clothing out, in one step. A generator, it seems:

# %%
noise = torch.randn(200, 1, 16, 16, generator=make_generator(2))
answers = clean(noise)
rows = {
    "pure noise": noise[:10],
    "one step": answers[:10],
    "mean of all\npictures": mean_picture.expand(10, -1, -1, -1),
}
viz.show_rows(rows)

# %% [markdown]
# Fog. Two hundred different noises, two hundred times nearly the same grey blur. In numbers:

# %%
variety = x0.var(dim=0).mean()  # variance over the pictures, mean over the pixels
variety_of_answers = answers.var(dim=0).mean()
distance = (answers - mean_picture).square().mean()
print(f"variance from one picture to the next: {variety:.3f} real, {variety_of_answers:.3f} answered")
print(f"mean squared distance to the mean picture: {mean_loss:.3f} real, {distance:.3f} answered")
assert variety_of_answers < variety / 4 and distance < mean_loss / 4

# %% [markdown]
# The variance of the answers is less than a quarter of that of real pictures, and so is their mean squared distance from the mean of all training pictures: they lie less
# than half as far from it. And the network is *right*:
#
# ### Why fog is the best answer
#
# Fix the noisy input $x_u$. Many pictures $x$ could have led to it. Whatever the network answers, call it $c$, its expected loss splits in two:
#
# $$\mathbb E\big[\lVert c - x\rVert^2 \,\big|\, x_u\big] \;=\; \big\lVert c - \mathbb E[x \mid x_u]\big\rVert^2 \;+\; \mathbb E\big[\lVert x - \mathbb E[x \mid x_u]\rVert^2 \,\big|\, x_u\big]$$
#
# (Write $c - x = (c - \mathbb E[x \mid x_u]) + (\mathbb E[x \mid x_u] - x)$; the mixed term averages to zero.) The second part does not depend on $c$. The first is zero for
#
# $$c = \mathbb E[x \mid x_u],$$
#
# the **conditional mean**: the average of all pictures that could hide behind $x_u$. Little noise leaves one candidate, and the average is sharp. At $u = 1$ the input
# *is* noise and says nothing, all pictures are candidates, and the best answer is the mean of everything. A real picture would be a worse one:

# %%
shuffled = x0[torch.randperm(len(x0), generator=make_generator(3))]
cost_of_mean = (x0 - mean_picture).square().mean()
cost_of_real = (x0 - shuffled).square().mean()
ratio = cost_of_real / cost_of_mean
print(
    f"loss of the mean: {cost_of_mean:.3f}; of a real picture drawn at random: {cost_of_real:.3f}, {ratio:.2f} times as much"
)
assert abs(ratio - 2) < 0.05

# %% [markdown]
# A guess as sharp as life costs *twice* the fog: it pays for its own variance and for that of the truth. Squared error punishes courage.
# The same law bends the whole curve:

# %%
amounts = torch.linspace(0, 1, 11)
noisy = [corrupt(test, float(u), generator=make_generator(4))[0] for u in amounts]
errors = torch.tensor([(clean(x_u) - test).square().mean() for x_u in noisy])
assert errors[0] < 0.1 * mean_loss < errors[5] < 0.4 * mean_loss < 0.97 * mean_loss < errors[10]
curves = {
    "one step of the network": (amounts, errors),
    "always the mean picture": (amounts, [mean_loss] * 11),
    "the noisy picture itself": (amounts[:6], [(x_u - test).square().mean() for x_u in noisy[:6]]),
}
viz.plot_curves(curves, xlabel="amount of noise u", ylabel="mean squared error")

# %% [markdown]
# **What did you see?**
#
# <details><summary>Answer</summary>
#
# The error climbs from near zero, where one candidate is left, to that of the mean picture, where all are. It ends close to the dashed line: without a trace of the
# picture no network can do better. (The line is of the training pictures, the curve of 500 test pictures, so they may differ a little.) On the far left it may be wiser to leave the picture alone: the squeeze costs more than so little noise.
#
# </details>
#
# **Explain it in your own words:** a friend wants sharp clothes out of pure noise in one step, and plans to train a network ten times as large for ten times as long, with the same loss.
# What do you say?
#
# <details><summary>Model answer</summary>
#
# The better the network and the longer it trains, the nearer its answer comes to the conditional mean, since that is what has the least squared error. For pure noise this is the mean of all
# pictures. More training makes the fog *purer*: the answers to different noises become more alike, not sharper. Another answer needs another question: another loss, or many
# small steps, as below.
#
# </details>
#
# ### Take a small step instead
#
# One step is not enough, but the answer points somewhere: towards all the pictures it could be. So go only a little of the way, and *ask again*. With $k$ steps left, go $1/k$ of the way:
#
# $$x \;\leftarrow\; x + \frac{1}{k}\,\big(f(x) - x\big)$$


# %%
def walk(x, steps):
    for k in range(steps, 0, -1):
        x = x + (clean(x) - x) / k
    return x


twenty = walk(noise, steps=20)
print(f"variance from one picture to the next: {twenty.var(dim=0).mean():.3f}, with one step {variety_of_answers:.3f}")
assert twenty.var(dim=0).mean() > 2 * variety_of_answers
x_hat, u, s = clean(noise), 6 / 20, 5 / 20  # as if 6 of 20 steps were left: what is said of 1/k below
torch.testing.assert_close((1 - s) * x_hat + s * (noise - (1 - u) * x_hat) / u, noise + (x_hat - noise) / 6)
rows = {f"{steps} step{'s' if steps > 1 else ''}": walk(noise[:10], steps) for steps in (1, 2, 5)}
viz.show_rows({**rows, "20 steps": twenty[:10]})

# %% [markdown]
# The same network, the same noise, and things one could nearly wear. After a small step the input is no longer pure noise: by accident it resembles some
# pictures more than others, so fewer candidates are left, and the next answer is less grey. That is **diffusion**, in one line. And $1/k$ is no
# accident: where $k$ of $K$ steps are left, take $x$ for notebook 01's mixture at amount $k/K$, solve it for the noise, and mix anew at amount $(k-1)/K$: the same line comes
# out. What the rest of this course adds:
#
# - other ways from picture to noise, *schedules*, and what they decide (notebook 03);
# - a network that is *told the time*, instead of guessing how noisy its input is (notebook 04);
# - steps with and without fresh noise, steps that look back, and a number for how near the results come to real pictures (notebook 05).

# %% [markdown]
# The exercises of this notebook, by the last run of each check:

# %%
progress()

# %% [markdown]
# ## In three lines
#
# - Sizes follow from three formulas; halving rounds down, so a U-Net with $h$ halvings wants multiples of $2^h$.
# - Down for *what*, up for *where*; a skip is concatenated, so the channels double, and the next convolution weighs both.
# - Trained on squared error, one step gives the mean of all pictures that are possible: sharp with little noise, fog with nothing but noise.
#
# ## Honest limits
#
# - One minute, 16×16 pixels, 10,000 pictures: how sharp your rows are depends on how many updates your machine made.
# - The dense bottleneck nails this network to 16×16. The `UNet` of notebook 04 has none.
# - "Fog is best" is a statement about *squared error*, and our network only comes near the conditional mean; see how its answers to noise still differ a little.
# - The last experiment shows that small steps help. It does not show that the pictures come out with the right frequencies.
#
# ## On your own
#
# 1. Train on trousers alone, `x0 = pictures.of_class(1)[:]`. (Some assertions, in that cell and below it, are about all clothes; take out those that stop you.) Predict first: what does pure noise give now, and why is it less foggy?
# 2. Replace the squared by the absolute error, `(x_hat - x).abs().mean()`. The best answer is then a *median* for each pixel. What does pure noise give?
# 3. Take the skips out of `TinyUNet` (`torch.zeros_like` in their place) and train it and the original on half-noisy pictures. What is lost first?
# 4. Train the small network to answer with the noise $n$. At which amounts is that an easy question, and at which a hard one?
#
# ## References
#
# - O. Ronneberger, P. Fischer, T. Brox, *U-Net: Convolutional Networks for Biomedical Image Segmentation*, 2015, arXiv:1505.04597. Eight pages; figure 1 is the U that you traced.
# - V. Dumoulin, F. Visin, *A guide to convolution arithmetic for deep learning*, 2016, arXiv:1603.07285. All of the first section with a drawing for each case.
# - A. Odena, V. Dumoulin, C. Olah, *Deconvolution and Checkerboard Artifacts*, Distill, 2016, doi:10.23915/distill.00003. What overlapping patches of transposed convolutions do to pictures, and how to avoid it.
# - Z. Kadkhodaie, E. Simoncelli, *Solving Linear Inverse Problems Using the Prior Implicit in a Denoiser*, 2020, arXiv:2007.13640. Sampling in small steps with a network that is not told the amount of noise, done with care.
# - J. Ho, A. Jain, P. Abbeel, *Denoising Diffusion Probabilistic Models*, 2020, arXiv:2006.11239. Where the next three notebooks lead; in figure 6 fog turns into pictures.
