"""Batch norm for layers whose number of channels depends on the architecture."""

from torch import Tensor, nn


class SlicedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of the first channels, as many as the input has."""

    def forward(self, input: Tensor) -> Tensor:
        """(b, c, h, w), c <= num_features"""
        if input.shape[1] == self.num_features:
            return super().forward(input)
        mean, var, count = self.running_mean, self.running_var, self.num_batches_tracked
        assert mean is not None
        assert var is not None
        assert count is not None
        share = self.momentum
        if self.training:
            count += 1
        if share is None:  # the plain mean over batches
            share = 1 / max(1.0, float(count))
        first = slice(input.shape[1])
        return nn.functional.batch_norm(
            input, mean[first], var[first], self.weight[first], self.bias[first], self.training, share, self.eps
        )
