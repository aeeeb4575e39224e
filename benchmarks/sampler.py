"""Drawing 10,000 architectures from the VAE against the bare LSTM matrix products of the same shapes.

python benchmarks/sampler.py            (seconds on 2 cores)
"""

import torch
from ratio import ratio

from vaenas.samplers.vae import CHUNK, RECOMMENDED, VAESampler
from vaenas.spaces.shufflenet import shufflenet_space

N = 10_000


def main() -> None:
    space = shufflenet_space()
    rng = torch.Generator().manual_seed(0)
    sampler = VAESampler(space, rng)
    settings = RECOMMENDED
    inputs, hidden = settings.latent + settings.embedding, settings.hidden
    x = torch.randn(CHUNK * space.slots, inputs)
    h = torch.randn(CHUNK, hidden)
    w_x, w_h, w_out = torch.randn(inputs, 4 * hidden), torch.randn(hidden, 4 * hidden), torch.randn(hidden, 4)
    outputs = torch.randn(CHUNK * space.slots, hidden)

    def products() -> None:
        for _ in range(N // CHUNK):
            x @ w_x
            for _ in range(space.slots):
                h @ w_h
            outputs @ w_out

    with torch.no_grad():
        ratio("sampler", lambda: sampler.sample(N, rng), products, "the LSTM's matrix products, bare", runs=15)


if __name__ == "__main__":
    main()
