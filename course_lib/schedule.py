"""Noise schedules: how much picture and how much noise there is at each timestep.

Everything in the course is one sentence:

    x_t = a_t * x_0 + b_t * eps,        eps ~ N(0, I)

A schedule is the two tables a ("signal") and b ("noise") and nothing else. The signal-to-noise ratio, the step from
one timestep to the next, the posterior, every target and every sampler follow from them.

Tables have T + 1 entries, t = 0..T, with a_0 = 1 and b_0 = 0, so t = 0 is the picture itself and x_1..x_T are
numbered as in the papers. (diffusers counts from 0 to T - 1: add 1 to its t to get ours.) We build the tables in
float64 and hand them out in the dtype and on the device of the tensor that they multiply.

DDPM is Ho et al. 2020 (arXiv:2006.11239), improved DDPM is Nichol & Dhariwal 2021 (arXiv:2102.09672).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .validate import validate_choice, validate_finite, validate_index, validate_number


@dataclass(frozen=True, eq=False)
class Schedule:
    """The two tables of x_t = a_t x_0 + b_t eps.

    Args:
        signal: a, shape (T+1,), float64; 1 at first, positive before T.
        noise: b, shape (T+1,), float64; 0 at first, positive from then on. The signal-to-noise ratio never grows.
        name: a label for plots and messages.
    """

    signal: Tensor
    noise: Tensor
    name: str = "custom"
    _cache: dict = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for label, table in (("signal", self.signal), ("noise", self.noise)):
            if not isinstance(table, Tensor) or table.dtype != torch.float64:
                got = table.dtype if isinstance(table, Tensor) else type(table).__name__
                raise TypeError(f"{label} must be a float64 tensor, got {got}; use table.double()")
            if table.ndim != 1 or len(table) < 2 or table.device.type != "cpu":
                raise ValueError(
                    f"{label} must have shape (T+1,) with T >= 1 on the CPU, got {tuple(table.shape)} on {table.device}"
                )
            validate_finite(table, label)
        a, b = self.signal, self.noise
        if len(a) != len(b):
            raise ValueError(f"signal and noise must have the same length, got {len(a)} and {len(b)}")
        if a[0] != 1 or b[0] != 0:
            raise ValueError(
                f"t = 0 must be the picture itself (signal 1, noise 0), got {a[0]:g} and {b[0]:g}; "
                "prepend that entry to a table made for t = 1..T"
            )
        if (a < 0).any() or (b[1:] <= 0).any():
            raise ValueError("signal must be >= 0 everywhere and noise > 0 from t = 1 on")
        if (a[:-1] == 0).any():
            raise ValueError(
                f"signal must be > 0 before t = T, got 0 at t = {int((a == 0).nonzero()[0])} of {len(a) - 1}, where "
                "nothing of the picture is left; use fewer steps or less noise per step"
            )
        if (a[1:] * b[:-1] > a[:-1] * b[1:]).any():  # a_t / b_t > a_s / b_s, without dividing by b_0 = 0
            raise ValueError("the signal-to-noise ratio must never grow with t; is the table in reverse order?")

    @property
    def T(self) -> int:
        """Number of noising steps; timesteps run from 0 (the picture) to T."""
        return len(self.signal) - 1

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio a²/b², shape (T+1,), float64; infinite at t = 0."""
        return self.signal.square() / self.noise.square()

    @property
    def log_snr_half(self) -> Tensor:
        """λ = log(a/b), shape (T+1,), float64: higher-order solvers step along it (DPM-Solver, eq. 3.1)."""
        return self.signal.log() - self.noise.log()

    @property
    def is_variance_preserving(self) -> bool:
        """True where a² + b² = 1 at every t, as in DDPM."""
        return bool(torch.allclose(self.signal.square() + self.noise.square(), torch.ones_like(self.signal)))

    @property
    def alpha_bar(self) -> Tensor:
        """ᾱ_t = a_t², shape (T+1,), float64 (DDPM, eq. 4); only for a variance-preserving schedule."""
        self._need_variance_preserving("alpha_bar")
        return self.signal.square()

    @property
    def beta(self) -> Tensor:
        """β_t = 1 − ᾱ_t/ᾱ_(t−1), shape (T+1,), float64, β_0 = 0 (DDPM, eq. 2); only if variance preserving."""
        self._need_variance_preserving("beta")
        before = torch.cat([self.signal[:1], self.signal[:-1]])
        return 1 - (self.signal / before).square()

    def _need_variance_preserving(self, what: str) -> None:
        if not self.is_variance_preserving:
            raise ValueError(f"{what} is defined where signal² + noise² = 1; {self.name!r} is not such a schedule")

    def validate_t(self, t: int | Tensor, name: str = "t", *, low: int = 0, like: Tensor | None = None) -> None:
        """Refuse timesteps that are not integers in low..T, one for all or one per picture of `like`."""
        batch, device = (None, None) if like is None else (len(like), like.device)
        validate_index(t, name, batch=batch, device=device)
        first, last = (t, t) if isinstance(t, int) else (int(t.min()), int(t.max()))
        if first < low or last > self.T:
            got = f"{first}" if first == last else f"{first}..{last}"
            hint = "; t = 0 is the picture itself, noise begins at t = 1" if low == 1 and first == 0 else ""
            raise ValueError(f"{name} must lie in {low}..{self.T}, got {got}{hint}")

    def at(self, t: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Look up a_t and b_t, ready to multiply a batch of pictures: each is (1, 1, 1, 1) or (B, 1, 1, 1).

        Args:
            t: an int, or int64 (B,) on the device of `like`, in 0..T. Nothing looks at its values here, so that a
                training never waits for a GPU; `validate_t` does.
            like: the pictures to multiply, (B, C, H, W); the numbers get their dtype and device.
        """
        key = (like.device, like.dtype)
        if key not in self._cache:
            with torch.inference_mode(False):  # the tables are kept, and a training may use them later
                self._cache[key] = tuple(table.to(like.dtype).to(like.device) for table in (self.signal, self.noise))
        a, b = self._cache[key]
        shape = (-1,) + (1,) * (like.ndim - 1)
        return a[t].view(shape), b[t].view(shape)

    def step_kernel(self, s: int | Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
        """The numbers of one noising step, x_t = scale · x_s + std · z: scale = a_t/a_s, std² = b_t² − scale² b_s².

        For s = t − 1 on a DDPM schedule these are √(1−β_t) and √β_t (DDPM, eq. 2).

        Args:
            s: earlier timestep, 0..T−1, an int or (B,).
            t: later timestep, s < t <= T, an int or (B,).

        Returns:
            scale and std, float64 on the CPU, shape () or (B,).
        """
        a_s, b_s, a_t, b_t = self._pair(s, t)
        scale = a_t / a_s
        return scale, (b_t.square() - scale.square() * b_s.square()).clamp(min=0).sqrt()

    def posterior_variance(self, s: int | Tensor, t: int | Tensor) -> Tensor:
        """Variance of q(x_s | x_t, x_0), b_s² (1 − a_t² b_s² / (a_s² b_t²)).

        For s = t − 1 on a DDPM schedule this is β̃_t (DDPM, eq. 7). It is exactly 0 for s = 0. `step_kernel` says what
        s and t may be, and in which form the answer comes.
        """
        a_s, b_s, a_t, b_t = self._pair(s, t)
        return b_s.square() * (1 - (a_t * b_s / (a_s * b_t)).square())

    def _pair(self, s: int | Tensor, t: int | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        self.validate_t(s, "s")
        self.validate_t(t, "t", like=s if isinstance(s, Tensor) and isinstance(t, Tensor) else None)
        s, t = torch.as_tensor(s, device="cpu"), torch.as_tensor(t, device="cpu")
        if not (s < t).all():
            raise ValueError(f"s must be earlier than t, got s = {s.tolist()} and t = {t.tolist()}")
        return self.signal[s], self.noise[s], self.signal[t], self.noise[t]


def validate_schedule(schedule: Schedule, name: str = "schedule") -> None:
    """Refuse a schedule's name, a checkpoint, None: anything but a `Schedule`."""
    if not isinstance(schedule, Schedule):
        hint = f"; use make_schedule({schedule!r})" if schedule in SCHEDULES else ""
        raise TypeError(f"{name} must be a course_lib.schedule.Schedule, got {type(schedule).__name__}{hint}")


def linear_betas(T: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """β_1..β_T, float64 (T,), rising in a straight line (DDPM, section 4).

    Args:
        T: number of steps. The ends do not change with T, so with a small T much of the picture is left in x_T.
        start: β_1, in (0, 1).
        end: β_T, in (0, 1).
    """
    _validate_betas(T, start=start, end=end)
    return torch.linspace(start, end, T, dtype=torch.float64)


def quadratic_betas(T: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """β whose square root rises in a straight line ("quad" in DDPM's code); otherwise as `linear_betas`."""
    _validate_betas(T, start=start, end=end)
    return torch.linspace(math.sqrt(start), math.sqrt(end), T, dtype=torch.float64).square()


def sigmoid_betas(T: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """β rising along a logistic curve from −6 to 6 (GeoDiff, arXiv:2203.02923, code).

    A logistic curve never arrives, so it misses both ends by 0.25 % of end − start; otherwise as `linear_betas`.
    """
    _validate_betas(T, start=start, end=end)
    return start + (end - start) * torch.linspace(-6, 6, T, dtype=torch.float64).sigmoid()


def cosine_betas(T: int = 1000, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """β_1..β_T, float64 (T,), for which ᾱ falls along a squared cosine (improved DDPM, eq. 17).

    ᾱ(u) = f(u)/f(0), f(u) = cos²((u + offset)/(1 + offset) · π/2), u = t/T; β_t = 1 − ᾱ_t/ᾱ_(t−1), at most `largest`.

    Args:
        T: number of steps.
        offset: >= 0; without it, β_1 would be too small to change a pixel.
        largest: upper bound for β near t = T, in (0, 1).
    """
    _validate_betas(T, largest=largest)
    validate_number("offset", offset, 0)
    u = torch.arange(T + 1, dtype=torch.float64) / T
    f = torch.cos((u + offset) / (1 + offset) * math.pi / 2).square()
    return (1 - f[1:] / f[:-1]).clamp(max=largest)


def _validate_betas(T: int, **betas: float) -> None:
    validate_number("T", T, 1, integer=True)
    for name, value in betas.items():
        validate_number(name, value, 0, 1)
        if value in (0, 1):
            raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}")


def from_betas(betas: Tensor, name: str = "custom") -> Schedule:
    """The schedule of β_1..β_T, (T,), each in (0, 1]: ᾱ_t = ∏ (1 − β_i), a = √ᾱ, b = √(1 − ᾱ) (DDPM, eq. 4)."""
    if not isinstance(betas, Tensor) or not betas.is_floating_point():
        raise TypeError("betas must be a floating-point tensor of shape (T,)")
    if betas.ndim != 1 or len(betas) == 0 or not ((betas > 0) & (betas <= 1)).all():
        raise ValueError(f"betas must have shape (T,) with values in (0, 1], got shape {tuple(betas.shape)}")
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas.cpu().double()).cumprod(0)])
    return Schedule(alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), name)


def linear_amount(T: int = 1000) -> Schedule:
    """Mix by a linear amount: a = 1 − u, b = u, u = t/T.

    Notebook 01 corrupts pictures like this, and it is the straight path of flow matching (Lipman et al. 2023,
    arXiv:2210.02747, with time reversed). The variance sags in the middle: a² + b² = 1/2 at u = 1/2.
    """
    validate_number("T", T, 1, integer=True)
    u = torch.arange(T + 1, dtype=torch.float64) / T
    return Schedule(1 - u, u, "linear amount")


_BETAS = {"linear": linear_betas, "quadratic": quadratic_betas, "sigmoid": sigmoid_betas, "cosine": cosine_betas}

#: The names that `make_schedule` knows.
SCHEDULES = (*_BETAS, "linear amount")


def make_schedule(name: str, T: int = 1000) -> Schedule:
    """A schedule by its name, with the constants of its paper.

    Args:
        name: one of `SCHEDULES`: "linear", "quadratic", "sigmoid", "cosine", "linear amount".
        T: number of noising steps, >= 1.

    >>> round(float(make_schedule("linear", 150).signal[-1]), 2)
    0.47
    """
    validate_choice("name", name, SCHEDULES)
    return linear_amount(T) if name == "linear amount" else from_betas(_BETAS[name](T), name)


def zero_terminal_snr(schedule: Schedule) -> Schedule:
    """Shift and stretch a so that a_T = 0 and x_T is noise alone (Lin et al. 2023, arXiv:2305.08891, algorithm 1).

    a_1 keeps its value. At t = T a prediction of eps says nothing about the picture: train for x0, v or velocity.

    Args:
        schedule: a variance-preserving schedule with T >= 2.
    """
    validate_schedule(schedule)
    schedule._need_variance_preserving("zero_terminal_snr")
    if schedule.T < 2:
        raise ValueError("zero_terminal_snr needs T >= 2: it keeps the first step and moves the last")
    a = schedule.signal.clone()
    a[1:] = (a[1:] - a[-1]) * a[1] / (a[1] - a[-1])
    return Schedule(a, (1 - a.square()).sqrt(), f"{schedule.name}, zero terminal SNR")


#: The names that `sampling_times` knows.
SPACINGS = ("trailing", "leading", "linspace")


def sampling_times(T: int, steps: int, spacing: str = "trailing", start: int | None = None) -> list[int]:
    """The timesteps that a sampler visits, from noise down to 0.

    These are the timesteps of diffusers' `DDIMScheduler`, plus 1. Only its "trailing" list sometimes holds one more
    (for 61 steps of 1,000, for example): a rounding error leaves room for our t = 0, where nothing is left to remove.

    Args:
        T: number of noising steps of the schedule.
        steps: number of reverse steps, 1..start; the list has one more entry.
        spacing: "trailing" starts at T (Lin et al. 2023, table 2); "leading" takes its last step from t = 1 and may
            start far below T (DDIM's code); "linspace" visits both 1 and T if it has more than one step.
        start: begin here instead of at T, as if this were T; see `start_time`.

    >>> sampling_times(1000, 4)
    [1000, 750, 500, 250, 0]
    >>> sampling_times(1000, 4, start=992)
    [992, 744, 496, 248, 0]
    """
    validate_number("T", T, 1, integer=True)
    first = T if start is None else start
    validate_number("start", first, 1, T, integer=True)
    validate_number("steps", steps, 1, first, integer=True)
    validate_choice("spacing", spacing, SPACINGS)
    if spacing == "trailing":
        stride = first - (first - first / steps)  # as np.arange computes it, so that halves are rounded as in diffusers
        times = [round(first - i * stride) for i in range(steps)]
    elif spacing == "leading":
        times = [1 + (first // steps) * i for i in reversed(range(steps))]
    else:
        stride = (first - 1) / max(steps - 1, 1)
        times = [1 + round(i * stride) for i in reversed(range(steps))]
    return [*times, 0]


#: What a network can be trained to predict; see `forward.make_target`.
TARGETS = ("eps", "x0", "v", "velocity")


def start_time(schedule: Schedule, target: str = "eps", largest: float = 80.0) -> int:
    """The timestep where sampling without clipping should begin: the last with b/a <= 80 for eps, T for the rest.

    A network that predicts eps gives x0_hat = (x_t − b eps_hat)/a, so b/a multiplies its errors: on the cosine
    schedule by 20,000 at T = 1000, by 71 at t = 991. The other targets do not divide by a, and clipping x0_hat to
    [-1, 1] bounds the damage, so in both cases you can begin at T.

    Args:
        schedule: the tables a and b.
        target: what the network predicts, one of `TARGETS`.
        largest: upper bound for b/a, > 0; 80 is the largest noise of EDM (Karras et al. 2022, arXiv:2206.00364).

    >>> start_time(make_schedule("cosine")), start_time(make_schedule("cosine"), "v")
    (991, 1000)
    """
    validate_schedule(schedule)
    validate_choice("target", target, TARGETS)
    validate_number("largest", largest, 1e-12)
    if target != "eps":
        return schedule.T
    return max(1, int((schedule.noise <= largest * schedule.signal).nonzero()[-1]))
