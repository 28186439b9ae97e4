"""Who takes part: the networks, and the recipes that were published for them or for networks like them.

Every network is called as model(x_t, t, y) with the course's t = 1..T. The other libraries count from 0, which only
`Shifted` needs to know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.data import Pictures
from course_lib.forward import q_sample
from course_lib.schedule import from_betas, make_schedule
from course_lib.unet import DoubleConvUNet, UNet
from trainings import OurTraining, OwnTraining, Training


class Shifted(nn.Module):
    """A network of another library, called the course's way: its timesteps 0..T−1 are our t − 1."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x_t: Tensor, t: Tensor, y: None = None) -> Tensor:
        """(B, C, H, W) and t (B,) in 1..T to (B, C, H, W)."""
        answer = self.net(x_t, t - 1)  # a tensor, or diffusers' object that holds one
        return answer if isinstance(answer, Tensor) else answer.sample


def build_diffusers() -> nn.Module:
    """`UNet2DModel` as in unit 1 of Hugging Face's diffusion class ("from scratch" notebook), for 28×28 pictures."""
    from diffusers import UNet2DModel

    net: Any = UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    return Shifted(net)


def build_lucidrains() -> nn.Module:
    """`Unet` of denoising-diffusion-pytorch with dim 32; three levels, since 28 cannot be halved three times."""
    from denoising_diffusion_pytorch import Unet

    return Shifted(Unet(dim=32, dim_mults=(1, 2, 4), channels=1))


def own_diffusers(model: nn.Module, pictures: Pictures, seed: int) -> OwnTraining:
    """Unit 2 of the class, where it makes digits: Adam at 1e-3, batches of 128, cosine schedule, no average."""
    from diffusers import DDPMScheduler

    scheduler: Any = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    return OwnTraining(
        model,
        pictures,
        seed,
        schedule=from_betas(scheduler.betas, "squaredcos_cap_v2"),
        target="eps",
        batch_size=128,
        loss=lambda x0, t, eps: F.mse_loss(model(scheduler.add_noise(x0, eps, t - 1), t), eps),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
    )


def own_lucidrains(model: nn.Module, pictures: Pictures, seed: int) -> OwnTraining:
    """The defaults of its GaussianDiffusion and Trainer; loss and average are its own code."""
    from denoising_diffusion_pytorch import GaussianDiffusion
    from ema_pytorch import EMA as ItsEMA

    assert isinstance(model, Shifted)
    diffusion = GaussianDiffusion(model.net, image_size=28).to(next(model.parameters()).device)
    return OwnTraining(
        model,
        pictures,
        seed,
        schedule=from_betas(diffusion.betas.double(), "sigmoid"),
        target="v",
        batch_size=16,
        loss=lambda x0, t, eps: diffusion.p_losses(x0, t - 1, noise=eps),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.99)),
        grad_clip=1.0,
        average=ItsEMA(model, beta=0.995, update_every=10, include_online_model=False),
    )


def own_double_conv(model: nn.Module, pictures: Pictures, seed: int) -> OwnTraining:
    """As ddpm.py of dome272/Diffusion-Models-pytorch: AdamW at 3e-4, batches of 16, linear schedule, no average."""
    schedule = make_schedule("linear")
    return OwnTraining(
        model,
        pictures,
        seed,
        schedule=schedule,
        target="eps",
        batch_size=16,
        loss=lambda x0, t, eps: F.mse_loss(model(q_sample(schedule, x0, t, eps)[0], t), eps),
        optimizer=torch.optim.AdamW(model.parameters(), lr=3e-4),
    )


@dataclass(frozen=True)
class Contestant:
    """A network and the training that was published for it or for networks like it."""

    label: str  # for tables
    build: Callable[[], nn.Module]
    own: Callable[[nn.Module, Pictures, int], Training] | None = None  # from a network, pictures and a seed


build_double_conv = partial(DoubleConvUNet, 1, 1, time_plane=1000, resize_to_skip=True)
CONTESTANTS = {
    "unet": Contestant("UNet of this course", UNet),
    "diffusers": Contestant("diffusers UNet2DModel", build_diffusers, own_diffusers),
    "lucidrains": Contestant("denoising-diffusion-pytorch", build_lucidrains, own_lucidrains),
    "double-conv": Contestant("DoubleConvUNet, time plane", build_double_conv, own_double_conv),
}


def start_training(
    contestant: Contestant, recipe: str, minutes: float, pictures: Pictures, seed: int, device: torch.device
) -> Training:
    """A training that has not begun, with its "own" recipe or "ours", which fits the learning rate to the minutes."""
    torch.manual_seed(seed)
    model = contestant.build().to(device)
    if recipe == "ours":
        return OurTraining(model, pictures, seed, minutes)
    assert contestant.own is not None, "the course's own recipe is 'ours'"
    return contestant.own(model, pictures, seed)
