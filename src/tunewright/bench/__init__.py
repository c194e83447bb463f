"""Training speed, memory and start-up measured here: ours, a loop written by hand, and TRL with PEFT, side by side.

TRL runs twice: as it comes, which computes activations twice to save memory, and with activations kept, as ours are.
Every side is a process of its own on the same weights and the same sequences. The processes take turns, a few steps at
a time, so that whatever else the machine does falls on all of them alike; ratios are medians over the turns.
"""

from tunewright.bench.jobs import SIZES as SIZES
from tunewright.bench.measuring import compare as compare
