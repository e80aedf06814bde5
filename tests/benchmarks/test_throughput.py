"""Operation counts against closed forms, and how a profile is attributed."""

from types import SimpleNamespace

import torch
from torch import nn

from benchmarks.throughput import flops, shares


def test_conv_flops_match_closed_form():
    convolution, x = nn.Conv2d(3, 8, 5, stride=2, padding=2), torch.zeros(2, 3, 12, 12)
    forward = 2 * 2 * 8 * 6 * 6 * 3 * 5 * 5  # two operations per image, output value and weight
    assert flops(convolution, x) == 2 * forward  # the images need no gradient, the weights do
    assert flops(convolution, x.requires_grad_()) == 3 * forward


def test_profile_time_is_attributed_by_calling_operator():
    def event(name, seconds, parent=None):
        return SimpleNamespace(name=name, self_cpu_time_total=seconds, cpu_parent=parent)

    backward = event("aten::convolution_backward", 1.0)
    step = event("Optimizer.step#Muon.step", 1.0)
    events = [
        backward,
        event("aten::empty", 3.0, backward),
        event("aten::mkldnn_convolution", 2.0),
        event("aten::mm", 1.0),
        step,
        event("aten::mm", 1.0, step),
        event("aten::add", 1.0),
    ]
    assert shares(events, on_cpu=True) == {
        "convolution backward": 0.4,
        "convolution forward": 0.2,
        "linear layers": 0.1,
        "other optimiser time": 0.1,
        "Muon's matrix products": 0.1,
        "other": 0.1,
    }
