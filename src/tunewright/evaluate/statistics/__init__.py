"""Statistics in one place: intervals by resampling, tests, power, seed noise, and times to a result."""

from tunewright.evaluate.statistics.noise import SeedNoise as SeedNoise
from tunewright.evaluate.statistics.noise import seed_noise as seed_noise
from tunewright.evaluate.statistics.power import detectable as detectable
from tunewright.evaluate.statistics.power import detectable_by_t as detectable_by_t
from tunewright.evaluate.statistics.power import detectable_share as detectable_share
from tunewright.evaluate.statistics.power import power as power
from tunewright.evaluate.statistics.power import power_by_t as power_by_t
from tunewright.evaluate.statistics.resampling import FEWEST as FEWEST
from tunewright.evaluate.statistics.resampling import RESAMPLES as RESAMPLES
from tunewright.evaluate.statistics.resampling import Interval as Interval
from tunewright.evaluate.statistics.resampling import bootstrap as bootstrap
from tunewright.evaluate.statistics.resampling import hierarchical as hierarchical
from tunewright.evaluate.statistics.resampling import mean as mean
from tunewright.evaluate.statistics.resampling import paired_difference as paired_difference
from tunewright.evaluate.statistics.resampling import resampled_sums as resampled_sums
from tunewright.evaluate.statistics.significance import Tested as Tested
from tunewright.evaluate.statistics.significance import benjamini_hochberg as benjamini_hochberg
from tunewright.evaluate.statistics.significance import effect_size as effect_size
from tunewright.evaluate.statistics.significance import holm as holm
from tunewright.evaluate.statistics.significance import mean_over_seeds as mean_over_seeds
from tunewright.evaluate.statistics.significance import paired_t as paired_t
from tunewright.evaluate.statistics.significance import sign_flip as sign_flip
from tunewright.evaluate.statistics.times import time_score as time_score
