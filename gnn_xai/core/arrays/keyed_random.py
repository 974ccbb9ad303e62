"""Random numbers keyed by what they belong to, the same whatever else is in the batch.

A counter-based generator (the splitmix64 finaliser) hashes (seed, instance, element) into 64 bits. The same element
of the same instance gets the same number in any batch, in any order and on any device; PyTorch's global generators
are not used.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift_right(z: Int64[Tensor, " *shape"], bits: int) -> Int64[Tensor, " *shape"]:
    """Logical right shift; `>>` on int64 would copy the sign bit."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def mix(z: Int64[Tensor, " *shape"]) -> Int64[Tensor, " *shape"]:
    """The splitmix64 finaliser, element by element."""
    z = z + _GOLDEN
    z.bitwise_xor_(_shift_right(z, 30)).mul_(_MIX_1)
    z.bitwise_xor_(_shift_right(z, 27)).mul_(_MIX_2)
    return z.bitwise_xor_(_shift_right(z, 31))


def keyed_bits(seed: int, *keys: Int64[Tensor, " ..."]) -> Int64[Tensor, " ..."]:
    """64 random bits for every element of the broadcast `keys`."""
    first, *others = keys
    state = mix(first ^ _mixed_seed(seed))
    for key in others:
        state = mix(state ^ key)
    return state


@lru_cache(maxsize=1024)
def _mixed_seed(seed: int) -> int:
    start = (seed + 2**63) % 2**64 - 2**63
    return int(mix(torch.full((), start, dtype=torch.int64, device="cpu")))


def keyed_uniform(seed: int, *keys: Int64[Tensor, " ..."]) -> Float64[Tensor, " ..."]:
    """Uniform numbers in the open interval (0, 1), one for every element of the broadcast `keys`."""
    return (_shift_right(keyed_bits(seed, *keys), 11).double() + 0.5) * 2.0**-53


def keyed_normal(seed: int, *keys: Int64[Tensor, " ..."]) -> Float64[Tensor, " ..."]:
    """Standard normal numbers, one for every element of the broadcast `keys`."""
    return torch.special.ndtri(keyed_uniform(seed, *keys))
