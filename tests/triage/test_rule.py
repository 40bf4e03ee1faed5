"""The rule against its formula, and thresholds by hand and by simulation."""

import math

import numpy as np
import pytest
import torch

from pytorch_ood_viyog.triage.rule.learning import learn
from pytorch_ood_viyog.triage.rule.rule import SHAPES, Rule, Shape, expanded
from pytorch_ood_viyog.triage.rule.table import Table


def drawn_rule(count=3):
    g = torch.Generator().manual_seed(0)
    names = tuple("abcdef"[:count])
    terms = 2 * count + count * (count + 1) // 2
    values = [
        torch.randn(*shape, generator=g, dtype=torch.float64)
        for shape in ((count,), (count,), (4, terms), (4,))
    ]
    return Rule(names, values[0], values[1].abs() + 0.1, values[2], values[3])


def numbers_of(rule, count=7):
    g = torch.Generator().manual_seed(1)
    drawn = 3 * torch.randn(len(rule.names), count, generator=g, dtype=torch.float64)
    return dict(zip(rule.names, drawn, strict=True))


def test_the_rule_is_its_formula():
    rule, numbers = drawn_rule(), numbers_of(drawn_rule())
    columns = zip(rule.names, rule.centre, rule.spread, strict=True)
    u = [np.arcsinh((numbers[n].numpy() - float(m)) / float(q)) for n, m, q in columns]
    pairs = [u[i] * u[j] for i in range(3) for j in range(i, 3)]
    phi = np.stack([*u, *map(abs, u), *pairs])
    expected = rule.weights.numpy() @ phi + rule.bias.numpy()[:, None]
    np.testing.assert_allclose(rule(numbers).numpy().T, expected, rtol=1e-9)


def test_contributions_and_bias_sum_to_the_log_odds():
    rule, numbers = drawn_rule(), numbers_of(drawn_rule())
    added = rule.contributions(numbers)
    assert added.shape == (7, 3, 4)
    torch.testing.assert_close(added.sum(dim=1) + rule.bias, rule(numbers))
    usual = dict(zip(rule.names, rule.centre[:, None], strict=True))
    torch.testing.assert_close(rule.contributions(usual), torch.zeros(1, 3, 4).double())


def test_a_pair_is_shared_by_both():
    weights = torch.zeros(4, 7, dtype=torch.float64)
    weights[2, 5] = 2.0  # u_0 u_1
    one = torch.ones(2, dtype=torch.float64)
    rule = Rule(("a", "b"), 0 * one, one, weights, torch.zeros(4, dtype=torch.float64))
    e = {
        "a": torch.tensor([math.sinh(1.0)]).double(),
        "b": torch.tensor([math.sinh(3.0)]).double(),
    }
    assert rule(e)[0].tolist() == pytest.approx([0, 0, 6, 0])
    assert rule.contributions(e)[0, :, 2].tolist() == pytest.approx([3, 3])
    assert expanded(torch.zeros(1, 2)).tolist() == [[0.0] * 7]


def test_shape_is_its_formula():
    features = torch.randn(5, 4)
    mean, scale = torch.randn(4).double(), torch.rand(4).double() + 0.1
    weights, bias = torch.randn(4, 4).double(), torch.randn(4).double()
    expected = np.arcsinh((features.numpy() - mean.numpy()) / scale.numpy())
    expected = expected @ weights.numpy().T + bias.numpy()
    np.testing.assert_allclose(Shape(mean, scale, weights, bias)(features).numpy(), expected)


def table(count=150, look=True, seed=0):
    """Four classes that one number each tells, and a look that tells ADV."""
    g = torch.Generator().manual_seed(seed)
    place = torch.arange(4).repeat(count)
    source = torch.arange(count).repeat_interleave(4)

    def number(verdict, by):
        return torch.randn(4 * count, generator=g, dtype=torch.float64) + by * (place == verdict)

    first = {"gate": number(1, 4), "residue": number(2, 2), "noise": number(3, 4)}
    looks = {"moved": number(2, 6)} if look else {}
    shape = torch.stack([number(2, 1), number(3, 1)], dim=1)
    return Table(place, place, source, first, looks, shape)


def test_what_is_learnt_tells_the_classes_apart():
    found, new = learn(table()), table(seed=1)
    readings = dict(zip(SHAPES, found.shape(new.shape).unbind(dim=1), strict=True))
    numbers = {**new.first, **readings}
    z = found.first(numbers)
    first = float((z.argmax(dim=1) == new.verdict).double().mean())
    full = float(
        (found.full({**numbers, **new.look}).argmax(dim=1) == new.verdict).double().mean()
    )
    assert 0.75 < first < full
    assert not found.asked(z, "open").any()
    asked = found.asking(z[new.verdict == 0], 0.05).asked(z, "open")
    assert int(asked[new.verdict == 0].sum()) == round(0.05 * 150)
    assert float(asked[new.verdict == 2].double().mean()) > 0.5
    assert found.asked(z, "always").all()
    assert not found.asked(z, "never").any()


def test_learning_is_seeded_and_does_without_a_look():
    one, two = (learn(table(look=False)) for _ in range(2))
    assert one.full is None
    assert torch.equal(one.first.weights, two.first.weights)
    assert torch.equal(one.shape.weights, two.shape.weights)


def test_constant_evidence_does_no_harm():
    made = table()
    made.first["constant"] = torch.zeros(len(made.verdict), dtype=torch.float64)
    found = learn(made)
    assert found.full.weights.isfinite().all()
