"""The rates that the triage benchmark prints, on scores drawn here."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "examples" / "benchmarks"))
from triage_tables import AT_8_AND_4, Rule, ScoresOfConfig, evaluate, evaluate_lda


def table(count, seed, gate, alarm, router):
    """Normal scores around the means given, of two gates, the alarm and the router."""
    generator = torch.Generator().manual_seed(seed)
    means = {"gate": gate, "twin": gate, "alarm": alarm, "router": router}
    return {
        name: mean + torch.randn(count, generator=generator).double()
        for name, mean in means.items()
    }


@pytest.fixture(scope="module")
def scores():
    attacks = (*AT_8_AND_4, "cw")
    return ScoresOfConfig(
        id=table(800, 0, 0.0, 0.0, 0.0),
        ood={"far": table(300, 1, 9.0, 9.0, 0.0), "noise": table(50, 2, 0.0, 9.0, 0.0)},
        adv={attack: table(200, 3, 0.0, 9.0, 9.0) for attack in attacks},
        attacked={attack: torch.arange(200) for attack in attacks},
        least_adv=4.5,
    )


def test_the_least_score_tells_ood_from_adv_whoever_raised_the_alarm(scores):
    rates = evaluate(scores, Rule(("gate", "twin"), "router", "alarm"), halvings=10)
    assert abs(rates["ID alarm"] - 0.05) < 0.015
    assert min(rates[name] for name in ("OOD", "noise", "ADV", "cw")) > 0.99
    assert rates["balanced"] == pytest.approx((1 - rates["ID alarm"] + 2) / 3, abs=0.01)
    assert rates["OOD>ADV"] == rates["ADV>OOD"] == 0


def test_without_it_the_alarm_decides(scores):
    rule = Rule(("gate",), "router", "alarm", by_least=False)
    rates = evaluate(scores, rule, halvings=2)
    assert rates["OOD"] == rates["noise"] == 0
    assert rates["OOD>ADV"] == rates["ADV"] == 1


def test_lda_keeps_to_the_false_alarms_asked_for(scores):
    near = table(300, 1, 1.0, 0.0, 0.0)
    overlapping = replace(scores, ood={"near": near, "noise": scores.ood["noise"]})
    names = ("gate", "twin", "alarm", "router")
    free = evaluate_lda(overlapping, names, 5)
    bounded = evaluate_lda(overlapping, names, 5, 0.05)
    assert free["ID alarm"] > 0.1
    assert abs(bounded["ID alarm"] - 0.05) < 0.02
    assert bounded["OOD"] < free["OOD"]
    assert bounded["ADV"] > 0.99


def test_with_intent_a_residue_needs_an_attacks_shape(scores):
    """Attacks have an intent of 9; noise has the residue, but an intent of 0."""

    def with_intent(tables, intent):
        shifted = {}
        for name, own in tables.items():
            generator = torch.Generator().manual_seed(7)
            values = torch.randn(len(own["router"]), generator=generator).double()
            shifted[name] = own | {"intent": intent + values}
        return shifted

    benign = with_intent({"white noise": table(800, 5, 0.0, 9.0, 9.0)}, 0.0)
    four = replace(
        scores,
        id=with_intent({"id": scores.id}, 0.0)["id"],
        ood=with_intent(scores.ood, 0.0),
        adv=with_intent(scores.adv, 9.0),
        benign=benign,
        changed=torch.randn(800, generator=torch.Generator().manual_seed(8)).double(),
    )
    rates = evaluate(four, Rule(("gate", "twin"), "router", "alarm", intent="intent"), halvings=5)
    assert rates["noisy>ADV"] == pytest.approx(0.05, abs=0.02)
    assert rates["NOISY"] == pytest.approx(0.95, abs=0.02)
    assert rates["ADV"] > 0.99
    assert rates["ADV>NOISY"] < 0.01
    without = evaluate(four, Rule(("gate", "twin"), "router", "alarm"), halvings=5)
    assert without["noisy>ADV"] > 0.99
    assert without["NOISY"] == 0
