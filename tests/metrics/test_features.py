"""The feature network: shipped whole, right about clothes, and asked about pictures as they would be stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sklearn.metrics import accuracy_score

from course_lib.data import Pictures, load_fashion_mnist, to_float, to_uint8
from course_lib.metrics import (
    FEATURES,
    FeatureNet,
    embed,
    features,
    frechet_distance,
    kernel_distance,
    load_feature_net,
    precision_recall,
)
from helpers_metrics import blur, gen, held_out_pictures, train_pictures


def test_the_network_is_right_about_93_of_100_test_pictures() -> None:
    pictures = load_fashion_mnist("test")
    right = accuracy_score(pictures.labels, embed(pictures).probabilities.argmax(1))
    assert right >= 0.93, f"{right:.2%} of {pictures}"


def test_the_network_is_ready_and_its_features_have_mean_0_and_variance_1() -> None:
    net = load_feature_net()
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    assert load_feature_net() is net
    features = embed(train_pictures()).features
    assert features.mean(0).abs().max() < 0.3
    assert features.var(0).mean().item() == pytest.approx(1, abs=0.2)


def test_an_altered_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, whole = tmp_path / "features28.safetensors", FEATURES.read_bytes()
    monkeypatch.setattr(features, "FEATURES", path)
    with pytest.raises(FileNotFoundError, match=r"there is no .*features28.safetensors; install the course again"):
        load_feature_net.__wrapped__()
    flipped = whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]
    for content in (whole[:-1], flipped):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="was cut short or altered"):
            load_feature_net.__wrapped__()


def test_an_embedding_is_what_the_network_says_of_stored_pictures() -> None:
    net, x = load_feature_net(), held_out_pictures()[:7]
    e = embed(x)
    assert e.features.dtype == e.probabilities.dtype == torch.float64 and len(e) == 7
    features, scores = net(x)
    torch.testing.assert_close(e.features, features.double(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(e.probabilities, scores.double().softmax(1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(embed(x, batch_size=3).features, e.features, atol=1e-4, rtol=1e-4)
    assert torch.equal(e[2:4].features, e.features[2:4]) and len(e[torch.tensor([6, 0])]) == 2

    rough = x * 1.3 + 0.001
    stored = to_uint8(rough)
    assert not torch.equal(to_float(stored), rough)
    for again in (embed(rough), embed(Pictures(stored)), embed(rough, net=net)):
        assert torch.equal(again.features, embed(to_float(stored)).features)

    few = Pictures(stored[:3])  # what the course's own network says of them is kept
    assert embed(few) is embed(few)
    assert not torch.allclose(embed(few, net=FeatureNet().eval()).features, embed(few).features)


def test_distances_tell_real_from_blurred_from_noise() -> None:
    train, test = train_pictures(), held_out_pictures()
    real, known = embed(test).features[1000:], embed(train).features
    pictures = blur(test[:1000]), torch.randn(1000, 1, 28, 28, generator=gen())
    bad = [embed(x).features for x in pictures]
    for distance, few, many in ((frechet_distance, 20, 4), (kernel_distance, 20, 8)):
        best, blurred, noise = (distance(f, known) for f in (real, *bad))
        assert few * max(best, 0) < blurred and many * blurred < noise, (best, blurred, noise)
    assert precision_recall(real, known[:1000])[1] > 0.85
    assert all(precision_recall(f, known[:1000])[1] < 0.2 for f in bad)


def test_the_distance_leaves_aside_what_nobody_sees() -> None:
    train, test = train_pictures(), held_out_pictures()
    known = embed(train).features  # benchmarks/README.md gives these bounds
    levels = test.images[:1000].float()
    grain = torch.randn(levels.shape, generator=gen())
    unseen, seen = (levels + 4, levels - 4, levels + 4 * grain), (levels + 32, levels + 32 * grain)
    floor, *distances = (
        frechet_distance(embed(Pictures(x.round().clamp(0, 255).to(torch.uint8))).features, known)
        for x in (levels, *unseen, *seen)
    )
    assert max(distances[:3]) < 1.3 * floor and min(distances[3:]) > 5 * floor, (floor, distances)


@pytest.mark.cuda
def test_a_gpu_says_the_same() -> None:
    x = held_out_pictures()[:100]
    ours = embed(x, net=load_feature_net("cuda"), batch_size=100)
    assert ours.features.device.type == "cpu"
    torch.testing.assert_close(ours.features, embed(x).features, atol=2e-2, rtol=2e-2)
