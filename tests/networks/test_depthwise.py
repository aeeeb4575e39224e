import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vaenas.networks import ops
from vaenas.networks.ops import DepthwiseConv2d


@given(
    channels=st.integers(1, 5), kernel=st.sampled_from([1, 3, 5, 7]), stride=st.sampled_from([1, 2]),
    dilation=st.sampled_from([1, 2]), height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_same_as_conv2d(channels, kernel, stride, dilation, height, width, seed):
    torch.manual_seed(seed)
    ours = DepthwiseConv2d(channels, kernel, stride, dilation * (kernel // 2), dilation)
    theirs = nn.Conv2d(channels, channels, kernel, stride, dilation * (kernel // 2), dilation, channels, bias=False)
    theirs.load_state_dict(ours.state_dict())
    results = []
    for convolution in (ours, theirs):
        x = torch.randn(3, channels, height, width, generator=torch.Generator().manual_seed(seed), requires_grad=True)
        y = convolution(x)
        y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(seed)))
        results.append((y.detach(), x.grad, convolution.weight.grad))
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-5)


def test_only_where_the_kernel_is_larger_than_the_map(monkeypatch):
    called = []
    monkeypatch.setattr(ops._SmallMap, "apply", lambda x, *_: called.append(x.shape[-1]) or x)
    convolution = DepthwiseConv2d(2, 5, padding=2)
    for size in (3, 4, 5, 8):
        convolution(torch.zeros(1, 2, size, size))
    convolution.eval()(torch.zeros(1, 2, 4, 4))
    with torch.no_grad():
        convolution.train()(torch.zeros(1, 2, 4, 4))
    assert called == [3, 4]
