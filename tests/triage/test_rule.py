"""The rule from evidence to log-odds, by hand and by an independent computation."""

import numpy as np
import pytest
import torch

from pytorch_ood_viyog.triage.learning import ORDER, SHAPES, Table, learn
from pytorch_ood_viyog.triage.rule import Rule, Shape, expanded, standardised


def random_rule(names=("a", "b", "c"), seed=0):
    generator = torch.Generator().manual_seed(seed)
    count = len(names)
    terms = 2 * count + count * (count + 1) // 2

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return Rule(names, draw(count), draw(count).abs() + 0.1, draw(4, terms), draw(4))


def test_standardised_by_hand():
    found = standardised(torch.tensor([[3.0]]).double(), torch.tensor([1.0]), torch.tensor([2.0]))
    assert float(found) == pytest.approx(np.arcsinh(1.0))


def test_expanded_by_hand():
    u = torch.tensor([[2.0, -3.0]])
    assert expanded(u).tolist() == [[2, -3, 2, 3, 1, -1.5, 2.25]]


def test_log_odds_by_numpy():
    rule = random_rule()
    e = {n: torch.linspace(-2, 3, 7).double() + i for i, n in enumerate(rule.names)}
    found = rule(e)
    for row in range(7):
        u = [
            np.arcsinh((float(e[n][row]) - float(rule.centre[k])) / float(rule.spread[k]))
            for k, n in enumerate(rule.names)
        ]
        phi = [*u, *np.abs(u)] + [u[i] * u[j] / 4 for i in range(3) for j in range(i, 3)]
        expected = rule.weights.numpy() @ np.array(phi) + rule.bias.numpy()
        np.testing.assert_allclose(found[row].numpy(), expected, rtol=1e-12)


def test_contributions_and_bias_add_up():
    rule = random_rule()
    e = {n: torch.randn(9, generator=torch.Generator().manual_seed(4)).double() for n in "abc"}
    torch.testing.assert_close(rule.contributions(e).sum(dim=1) + rule.bias, rule(e))


def test_what_is_usual_says_nothing():
    rule = random_rule()
    usual = {name: rule.centre[k : k + 1] for k, name in enumerate(rule.names)}
    assert float(rule.contributions(usual).abs().max()) == 0


def test_the_order_of_names_does_not_matter():
    rule = random_rule()
    e = {n: torch.randn(5, generator=torch.Generator().manual_seed(1)).double() for n in "abc"}
    assert torch.equal(rule(e), rule({n: e[n] for n in "cab"}))


def test_shape_by_hand():
    shape = Shape(
        torch.tensor([1.0, 0.0]).double(),
        torch.tensor([2.0, 1.0]).double(),
        torch.eye(2).double(),
        torch.tensor([0.0, 5.0]).double(),
    )
    found = shape(torch.tensor([[3.0, 0.0]]))
    assert found.tolist() == [[pytest.approx(np.arcsinh(1.0)), 5.0]]


def table(count=120, seed=0, noise=1.0):
    """Four kinds that lie apart in two numbers and in features."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    verdict = torch.arange(4).repeat_interleave(count)
    source = torch.arange(count).repeat(4)
    ood, adv = (verdict == 1).double(), (verdict == 2).double()
    noisy = (verdict == 3).double()
    first = {"energy": 4 * ood + draw(4 * count) * noise, "flat": torch.zeros(4 * count).double()}
    look = {"distance": 4 * adv + draw(4 * count) * noise}
    shape = draw(4 * count, 6) * noise
    shape[:, 0] += 4 * noisy + 2 * adv
    return Table(verdict, verdict, source, first, look, shape)


def test_learnt_rules_tell_the_kinds_apart():
    learnt = learn(table(), ask_share=0.2)
    new = table(seed=1)
    numbers = dict(new.first) | dict(zip(SHAPES, learnt.shape(new.shape).unbind(1), strict=True))
    z = learnt.first(numbers)
    assert float((z.argmax(dim=1) == new.verdict).double().mean()) > 0.75
    full = learnt.full(numbers | dict(new.look))
    assert float((full.argmax(dim=1) == new.verdict).double().mean()) > 0.9
    # of new ID images about as many are asked about as may be
    asked = learnt.asked(z[new.verdict == 0], "open")
    assert float(asked.double().mean()) == pytest.approx(0.2, abs=0.12)
    assert not bool(learnt.asked(z, "never").any())
    assert bool(learnt.asked(z, "always").all())


def test_the_posterior_comes_true():
    learnt, new = learn(table(noise=2.0), 0.2), table(400, seed=2, noise=2.0)
    numbers = dict(new.first) | dict(zip(SHAPES, learnt.shape(new.shape).unbind(1), strict=True))
    p = learnt.full(numbers | dict(new.look)).softmax(dim=1)
    sure, hit = p.amax(dim=1), (p.argmax(dim=1) == new.verdict).double()
    assert float(sure.mean()) == pytest.approx(float(hit.mean()), abs=0.06)


def test_learning_does_not_depend_on_the_order_of_rows():
    rows = table()
    order = torch.randperm(len(rows.verdict), generator=torch.Generator().manual_seed(3))
    mixed = Table(
        rows.verdict[order],
        rows.family[order],
        rows.source[order],
        {name: v[order] for name, v in rows.first.items()},
        {name: v[order] for name, v in rows.look.items()},
        rows.shape[order],
    )
    one, other = learn(rows, 0.1), learn(mixed, 0.1)
    torch.testing.assert_close(one.first.weights, other.first.weights, rtol=1e-2, atol=1e-3)
    assert one.first.names == other.first.names


def test_without_a_second_look_there_is_one_rule():
    rows = table()
    learnt = learn(Table(rows.verdict, rows.family, rows.source, rows.first, {}, rows.shape), 0.1)
    assert learnt.full is None
    assert len(ORDER) == len(learnt.first.bias)
