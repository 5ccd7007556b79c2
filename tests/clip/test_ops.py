"""Products with frozen weights: whichever library multiplies, a run is the same on any cores."""

import pytest
import torch

from clip.ops import frozen_linear


@pytest.fixture
def threads():
    """Sets the number of threads, and sets it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def differentiate(x, weight, bias):
    x = x.clone().requires_grad_()
    result = frozen_linear(x, weight, bias)
    return result.detach(), *torch.autograd.grad(result, x, torch.ones_like(result))


# the first six are where torch's default library was seen to round otherwise on 2 to 32 threads
@pytest.mark.parametrize("rows", [5, 9, 17, 27, 37, 49, 101, 255, 257, 385])
def test_products_round_the_same_on_any_number_of_threads(rows, threads):
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 64, generator=generator)
    weight, bias = torch.randn(192, 64, generator=generator), torch.randn(192, generator=generator)
    threads(1)
    want = differentiate(x, weight, bias)
    for count in (2, 3, 8, 16, 32):
        threads(count)
        for got, expected in zip(differentiate(x, weight, bias), want, strict=True):
            assert torch.equal(got, expected), f"{count} threads"


@pytest.mark.parametrize("rows", [3, 300])
def test_a_frozen_product_is_a_linear_layer(rows):
    generator = torch.Generator().manual_seed(rows)
    x, weight = (torch.randn(n, 64, generator=generator) for n in (rows, 192))
    bias = torch.randn(192, generator=generator)
    result, gradient = differentiate(x, weight, bias)
    want = x.double() @ weight.double().t() + bias.double()
    torch.testing.assert_close(result.double(), want, rtol=0, atol=1e-4)
    expected = weight.double().sum(0).expand(rows, -1)
    torch.testing.assert_close(gradient.double(), expected, rtol=0, atol=1e-4)
