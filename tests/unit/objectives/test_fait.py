"""FAIT: what is marked, how much it weighs, its special cases."""

import math
import random
from itertools import accumulate

import pytest
import torch

from tunewright.data.answers import Answers
from tunewright.data.spelling import Spelled
from tunewright.objectives import FAIT, SFT
from tunewright.objectives.supervised.fait import MASKS, differences, edited, touched
from tunewright.testing.objectives import assert_equals_literal
from tunewright.testing.runs import layouts, tiny_policy
from tunewright.testing.tables import random_table


def sensitive(one, other, pieces=None):
    """What is marked of both texts, by lines and by tokens; a token is a character, or one of `pieces`."""
    found = []
    for spans in differences(one, other):
        both = []
        for text, own, tokens in zip((one, other), spans, pieces or (one, other), strict=True):
            ends = list(accumulate(map(len, tokens)))
            spelled = Spelled(text, [(end - len(token), end) for token, end in zip(tokens, ends, strict=True)])
            both.append("".join(t for t, m in zip(tokens, touched(spelled, own), strict=True) if m))
        found.append(tuple(both))
    return tuple(found)


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        ("a+b", "a+b", ("", "")),
        ("a+b", "a-b", ("+", "-")),
        ("x>=y", "x>y", ("=", "y")),
        ("x>y", "x>=y", ("y", "=")),
        ("ab", "abc", ("b", "c")),
        ("abc", "ab", ("c", "b")),
        ("ab", "aab", ("a", "a")),
        ("kitten", "sitting", ("ken", "sig")),
        ("p\nq\na+b\nr", "p\nq\na-b\nr", ("+", "-")),
        ("p\nab\nr", "p\nabc\nr", ("\n", "c")),  # the gap is at the line's end
        ("p\nab\nr", "p\nac\nnew\nr", ("b", "cnew\n")),  # a pair, and a line without a partner
        ("p\nq\nr", "p\nr", ("q\n", "r")),  # a line deleted: what follows the gap is marked
        ("p\nr", "p\nq\nr", ("r", "q\n")),
    ],
)
def test_what_is_marked(one, other, wanted):
    assert sensitive(one, other)[1] == wanted


def test_by_lines_all_of_a_changed_line_is_marked():
    one, other = "def f(x):\n  y = x + 1\n  return y", "def f(x):\n  y = x - 1\n  return y"
    assert sensitive(one, other) == (("  y = x + 1\n", "  y = x - 1\n"), ("+", "-"))
    assert sensitive("a", "a") == (("", ""), ("", ""))
    assert sensitive("p\nr", "p\nq\nr")[0] == ("r", "q\n")


def test_a_token_is_marked_if_any_of_its_characters_is():
    pieces = ["x", " >=", " y"], ["x", " >", " y"]
    assert sensitive("x >= y", "x > y", pieces)[1] == (" >=", " y")
    pieces = ["a ", "+ b"], ["a ", "- b"]
    assert sensitive("a + b", "a - b", pieces)[1] == ("+ b", "- b")


def test_alignments_are_minimal_and_the_token_mask_lies_in_the_line_mask():
    rng = random.Random(0)
    for _ in range(200):
        one, other = ("".join(rng.choices("ab\n", k=rng.randrange(1, 12))) for _ in range(2))
        left, right = edited(one, other)
        assert len(left) == len(right) == distance(one, other)
        lines, tokens = (
            [touched(spelled_by_character(t), spans) for t, spans in zip((one, other), both, strict=True)]
            for both in differences(one, other)
        )
        for side in (0, 1):
            assert any(tokens[side]) == any(lines[side]) == (one != other)


def spelled_by_character(text):
    return Spelled(text, [(at, at + 1) for at in range(len(text))])


def distance(one, other):
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            last, row[j] = row[j], min(last + (a != b), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def formula_of(method):
    def formula(better, worse):
        means, own = {}, None
        for one in (better, worse):
            log = one.logits[:-1].log_softmax(-1)[torch.arange(len(one.ids) - 1), one.ids[1:]]
            own = log if own is None else own
            for mask in method.masks:
                inside = (one.columns[mask][1:] > 0) & (one.weights[1:] != 0)
                means.setdefault(mask, []).append(log[inside].mean().item() if inside.any() else 0.0)
        factors = []
        for mask, (a, b) in means.items():
            gain = min(method.w_max, 1 + method.scale / (1 + math.exp(a - b)))
            factors.append(torch.where(better.columns[mask][1:] > 0, gain, 1.0).double())
        factors = sum(factors) / len(factors)
        weights = better.weights[1:]
        heavy = weights * factors if method.normalise == "weights" else weights
        return -(weights * factors * own).sum(), float(heavy.sum())

    return formula


@pytest.mark.parametrize(
    "method",
    [
        FAIT(),
        FAIT(granularity="line"),
        FAIT(granularity="token"),
        FAIT(normalise="weights"),
        FAIT(scale=4.0, w_max=1.5),
    ],
)
def test_equals_its_formula_with_the_weights_as_constants(method):
    assert_equals_literal(method, formula_of(method))


def test_without_scale_it_is_likelihood_of_the_right_answers():
    def formula(better, worse):
        return -better.logp, better.weight

    assert_equals_literal(FAIT(scale=0.0), formula)


def random_pairs(equal):
    """Pairs of one length; the same answer twice where `equal`."""
    table = random_table([9] * 6, answers=Answers("pairs"))
    if equal:
        for column in (table.ids, table.weights):
            column.reshape(3, 2, 9)[:, 1] = column.reshape(3, 2, 9)[:, 0]
    return FAIT().arrange(table, 0)


def test_a_right_answer_beside_itself_is_plain_likelihood():
    policy = tiny_policy()
    for equal in (True, False):
        [batch] = layouts(random_pairs(equal))["1 x all"]
        right = batch.only(batch.columns["chosen"] == 1)
        plain, found = SFT().loss(policy, right), FAIT().loss(policy, batch)
        assert torch.allclose(plain.total, found.total) is equal
        assert torch.equal(plain.weight, found.weight)


@pytest.mark.parametrize("lead", [-30.0, -1.0, 0.0, 1.0, 30.0])
@pytest.mark.parametrize("granularity", ["token", "line"])
def test_the_weight_by_how_much_the_model_prefers_the_wrong_tokens(lead, granularity):
    """Fixed log-probabilities: -1 for the right answer's tokens, -1 + lead for the near miss."""

    class Fixed:
        def logprobs(self, batch):
            rising = torch.full((len(batch.kept[0]),), -1.0)
            return rising if batch.columns["chosen"][0] == 1 else rising + lead

    [batch] = layouts(random_pairs(False))["1 x all"]
    right = batch.only(batch.columns["chosen"] == 1)
    marked = (right.token_columns[MASKS[granularity]] * right.weights).sum()
    loss = FAIT(granularity=granularity).loss(Fixed(), batch)
    gain = 1 + (loss.total - loss.weight) / marked
    assert gain.item() == pytest.approx(1 + 2 / (1 + math.exp(-lead)), rel=1e-4)
