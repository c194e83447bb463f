"""What a comparison can see before it is run: the least difference it detects, and how often it finds a given one."""

from __future__ import annotations

import math

from scipy import optimize, stats


def power(delta: float, sigma: float, seeds: int, level: float = 0.05) -> float:
    """How often two arms of `seeds` runs each are told apart when their means differ by `delta`.

    For a known standard deviation `sigma` of a run: Phi(z - c) + Phi(-z - c), z = delta / (sigma sqrt(2 / seeds)),
    c = 1.96 at level 0.05.
    """
    c, z = stats.norm.ppf(1 - level / 2), abs(delta) / (sigma * math.sqrt(2 / seeds))
    return float(stats.norm.cdf(z - c) + stats.norm.cdf(-z - c))


def detectable(sigma: float, seeds: int, power: float = 0.5, level: float = 0.05) -> float:
    """The difference of two means of `seeds` runs that is found with probability `power`.

    (1.96 + z_power) sqrt(2 / seeds) sigma at level 0.05. At a power of 0.5 this is the smallest difference that is
    called real; 0.8 is the usual plan.
    """
    reach = stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power)
    return float(reach * math.sqrt(2 / seeds) * sigma)


def power_by_t(delta: float, sd: float, seeds: int, level: float = 0.05) -> float:
    """How often `paired_t` over `seeds` differences of standard deviation `sd` finds a mean difference of `delta`.

    The chance that a noncentral t with seeds - 1 degrees of freedom and shift delta sqrt(seeds) / sd passes the
    critical value on either side.
    """
    c, shift = stats.t.ppf(1 - level / 2, seeds - 1), abs(delta) * math.sqrt(seeds) / sd
    # The far side, mirrored: scipy's distribution function there is NaN for some shifts.
    return float(stats.nct.sf(c, seeds - 1, shift) + stats.nct.sf(c, seeds - 1, -shift))


def detectable_by_t(sd: float, seeds: int, power: float = 0.8, level: float = 0.05) -> float:
    """The mean difference that `paired_t` over `seeds` differences of standard deviation `sd` finds with `power`."""
    if sd == 0:
        return 0.0
    short = lambda shift: power_by_t(shift, 1.0, seeds, level) - power
    top = 1.0
    while short(top) < 0:
        top *= 2
    return float(optimize.brentq(short, 0.0, top)) * sd


def detectable_share(examples: int, seeds: int, power: float = 0.8, share: float = 0.5) -> float:
    """The difference of a share (accuracy, exact match) that `paired_t` over `seeds` finds with `power`, before any run.

    Reckons that a seed's score moves as if each of the `examples` were drawn with the probability `share`, so that the
    difference of two has the standard deviation sqrt(2 share (1 - share) / examples). Recipes whose seeds agree on
    most examples let one see less; those whose seeds differ as wholes need more.
    """
    return detectable_by_t(math.sqrt(2 * share * (1 - share) / examples), seeds, power)
