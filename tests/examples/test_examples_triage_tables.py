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
