"""Draw hero.gif, the moving picture at the top of the README.

    python figures/hero.py

A slider dissolves twelve real pictures; then the network takes the same noise away again, and other clothes appear.
The samples are the first twelve of seed 0, as in samples_64.png: none was picked out.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

from course_lib.checkpoint import load_shipped
from course_lib.data import load_fashion_mnist
from course_lib.forward import q_sample
from course_lib.guide import AutoGuidance
from course_lib.runtime import make_generator
from course_lib.sample import trajectory
from course_lib.schedule import sampling_times, start_time
from course_lib.viz import COLORS, grid

FILE = Path(__file__).resolve().parent / "hero.gif"
#: Bytes; a front page should open at once, also on a phone.
LIMIT = 2_000_000
ACROSS, COUNT, SCALE = 6, 12, 4
CARD, TRACK, INK = "#FFFFFF", "#C9C6BE", "#222222"
TOP, BOTTOM, MARGIN = 42, 50, 12
STEPS = 25

#: Pictures at a timestep, what is said above them, and for how many milliseconds they stay.
Frame = tuple[Tensor, int, str, int]


def ingredients() -> tuple[Tensor, Tensor]:
    """Real pictures, one of each class and two more, and as much noise; both (12, 1, 28, 28)."""
    pictures = load_fashion_mnist("test", source="packaged")
    x0 = torch.cat([pictures.of_class(i % 10)[i // 10 : i // 10 + 1] for i in range(COUNT)])
    return x0, torch.randn(64, 1, 28, 28, generator=make_generator(0))[:COUNT]


def dissolve(x0: Tensor, eps: Tensor) -> Iterator[Frame]:
    """The slider goes from picture to noise."""
    schedule = load_shipped().schedule
    for i in range(STEPS + 1):
        t = round(i / STEPS * schedule.T)
        still = 900 if t in (0, schedule.T) else 90
        yield q_sample(schedule, x0, t, eps)[0], t, "Drag the slider, and noise swallows the picture.", still


def appear(eps: Tensor) -> Iterator[Frame]:
    """The network takes the noise away, step by step."""
    made, weak = load_shipped(), load_shipped(weak=True)
    model = AutoGuidance(made.model, weak.model, made.schedule)
    times = sampling_times(made.schedule.T, STEPS, start=start_time(made.schedule, made.target))
    generator = make_generator(1)
    for step in trajectory(model, made.schedule, eps, times=times, order=2, clip=False, generator=generator):
        if step.s:
            yield step.x_s, step.s, "Then a network you have trained takes it away again …", 130
        else:
            yield step.x_s, step.s, "… and clothes appear that nobody ever made.", 3200


def picture(frame: Frame, T: int) -> Image.Image:
    """One frame: a sentence, the pictures, and the slider at its timestep."""
    x, t, words, _ = frame
    pixels = Image.fromarray(grid(x, ACROSS, pad=1).numpy())
    pixels = pixels.resize((pixels.width * SCALE, pixels.height * SCALE), Image.Resampling.NEAREST)
    image = Image.new("RGB", (pixels.width + 2 * MARGIN, TOP + pixels.height + BOTTOM), CARD)
    image.paste(pixels, (MARGIN, TOP))
    pen = ImageDraw.Draw(image)
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 17)
    pen.text((MARGIN + 2, TOP / 2), words, INK, font, anchor="lm")
    middle, left, right = image.height - BOTTOM / 2, MARGIN + 110, image.width - MARGIN - 90
    knob = left + t / T * (right - left)
    pen.text((MARGIN + 2, middle), "timestep", INK, font, anchor="lm")
    pen.text((image.width - MARGIN, middle), str(t), INK, font, anchor="rm")
    pen.rounded_rectangle((left, middle - 3, right, middle + 3), 3, TRACK)
    pen.rounded_rectangle((left, middle - 3, knob, middle + 3), 3, COLORS["blue"])
    pen.ellipse((knob - 10, middle - 10, knob + 10, middle + 10), "white", COLORS["blue"], 3)
    return image


def palette() -> Image.Image:
    """16 grays, and the blue of the slider with what lies between it and white: few colors make small files."""
    blue = torch.tensor(ImageColor.getrgb(COLORS["blue"])).float()
    grays = torch.linspace(0, 255, 16)[:, None].expand(-1, 3)
    blues = torch.lerp(blue, torch.full((3,), 255.0), torch.linspace(0, 0.75, 4)[:, None])
    image = Image.new("P", (1, 1))
    image.putpalette(torch.cat([grays, blues]).round().byte().flatten().tolist())
    return image


def hero() -> bytes:
    """The GIF; it loops for ever."""
    x0, eps = ingredients()
    frames = [*dissolve(x0, eps), *appear(eps)]
    images = [picture(frame, load_shipped().schedule.T) for frame in frames]
    images = [image.quantize(palette=palette(), dither=Image.Dither.NONE) for image in images]
    buffer = io.BytesIO()
    durations = [milliseconds for *_, milliseconds in frames]
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False)
    if buffer.tell() > LIMIT:
        raise ValueError(f"the GIF has {buffer.tell():,} bytes, more than {LIMIT:,}: draw fewer or smaller frames")
    return buffer.getvalue()


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FILE, help="file to write (default: figures/hero.gif)")
    options = parser.parse_args()
    content = hero()
    options.out.write_bytes(content)
    print(f"{options.out.name}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
