"""Train the classifier behind course_lib.metrics on all of Fashion-MNIST, and ship it: `make features`."""

from __future__ import annotations

import hashlib
import json
import time

import safetensors.torch
import torch
import torch.nn.functional as F

from course_lib.data import batches, load_fashion_mnist, to_float
from course_lib.metrics import FEATURES, FeatureNet
from course_lib.runtime import pick_autocast, pick_device

EPOCHS, BATCH_SIZE, LR, SEED = 14, 128, 0.1, 0
#: Weight of how much `disturb` changes the features.
STABILITY = 2.0


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror half of the pictures (B, 1, 28, 28) and move all of them by up to 2 pixels."""
    flip = torch.rand(len(x), generator=generator) < 0.5
    x = torch.where(flip[:, None, None, None].to(x.device), x.flip(3), x)
    padded = F.pad(x, (2, 2, 2, 2), value=-1.0)
    windows = padded.unfold(2, 28, 1).unfold(3, 28, 1)  # (B, 1, 5, 5, 28, 28)
    dy, dx = torch.randint(0, 5, (2, len(x)), generator=generator).to(x.device)
    return windows[torch.arange(len(x), device=x.device), :, dy, dx]


def disturb(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Change pictures (B, 1, 28, 28) by what nobody sees: up to 8 of 255 levels brighter or darker, and some grain."""
    level = 2 / 255
    shift, grain = torch.rand(2, len(x), 1, 1, 1, generator=generator).to(x.device)
    noise = torch.randn(x.shape, generator=generator).to(x.device)
    return (x + 8 * level * (2 * shift - 1) + 8 * level * grain * noise).clamp(-1, 1)


if __name__ == "__main__":
    device = pick_device()
    train, test = (load_fashion_mnist(split, source="full").to(device) for split in ("train", "test"))
    assert train.labels is not None and test.labels is not None
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model = FeatureNet().to(device).to(memory_format=torch.channels_last)
    autocast = pick_autocast(model, to_float(train.images[:BATCH_SIZE]))
    steps = EPOCHS * len(train) // BATCH_SIZE
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, nesterov=True, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps, pct_start=0.2)
    order = batches(len(train), BATCH_SIZE, generator)
    half = BATCH_SIZE // 2  # this many of each batch come a second time, disturbed

    start = time.perf_counter()
    for step in range(1, steps + 1):
        index = next(order).to(device)
        clean = augment(to_float(train.images[index]), generator)
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            features, scores = model(torch.cat([clean, disturb(clean[:half], generator)]))
            loss = F.cross_entropy(scores, torch.cat([train.labels[index], train.labels[index[:half]]]))
            loss = loss + STABILITY * F.mse_loss(features[-half:], features[:half])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 400 == 0 or step == steps:
            minutes = (time.perf_counter() - start) / 60
            print(f"{step:,}/{steps:,} updates, loss {loss.item():.3f}, {minutes:.1f} minutes", flush=True)

    model.eval()
    with torch.inference_mode():
        scores = torch.cat([model(to_float(images))[1] for images in test.images.split(1000)])
    accuracy = (scores.argmax(1) == test.labels).float().mean().item()
    print(f"{accuracy:.2%} of the test pictures right")
    if accuracy < 0.93:
        raise SystemExit("below 93 % it is not good enough to measure with: nothing was written")
    card = {
        "test_accuracy": round(accuracy, 4),
        "updates": steps,
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "data_sha256": train.sha256,
    }
    tensors = {k: v.contiguous().cpu() for k, v in model.state_dict().items()}
    weights = safetensors.torch.save(tensors, metadata={"card": json.dumps(card)})
    FEATURES.write_bytes(weights)
    print(f"{len(weights):,} bytes in {FEATURES}; in course_lib/metrics/features.py write")
    print(f'FEATURES_SHA256 = "{hashlib.sha256(weights).hexdigest()}"')
