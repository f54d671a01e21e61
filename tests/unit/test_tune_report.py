"""A tuning run can be read afterwards: its card, its curves; and its choices are checked before it begins."""

from dataclasses import fields
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import pytest

from cli.commands import tuning as command
from embedder.tuning.examples import Example
from engine.errors import InvalidArgument
from engine.evaluation import Metrics
from engine.tuning.judging import Change, JudgedSet
from engine.tuning.material import Material
from engine.tuning.options import MINUTES, Objective, Trained, TuneOptions
from engine.tuning.report import card, losses, plot, sparkline
from engine.tuning.training import CurvePoint

CURVE = [
    CurvePoint(i, 120, "corpus", 2.0 / i, {"dense": 0.3 + i / 400, "sparse": 0.2} if i % 60 == 0 else {})
    for i in range(1, 121)
]
MATERIAL = Material((("corpus", (Example("q", "p"),) * 7),), (Example("h", "p"),), ())
JUDGED = JudgedSet(("p",), ("h",), (frozenset({0}),))


def written(changes=()):
    return card(
        collection="c",
        base="builtin",
        options=TuneOptions(lr=0.01).described(),
        material=MATERIAL,
        judged=JUDGED,
        curve=CURVE,
        tokens=1234,
        dropped=5,
        changes=changes,
    )


def test_the_card_says_what_was_learned_how_and_what_came_of_it():
    change = Change("hybrid", Metrics(0.5, 0.9, 0.4), Metrics(0.625, 0.95, 0.5), 0.01, 0.2, 0.99)
    text = written([change, Change("sparse", None, Metrics(0.4, 0.8, 0.3), None, None, None)])
    for part in ("corpus: 7 examples", "120 steps over 1,234 tokens; 5 more", "- lr: 0.01", "dense 0.450 → 0.600"):
        assert part in text
    assert "| hybrid | 0.5000 | 0.6250 | +0.1250 (+0.0100 to +0.2000) | 0.9000 | 0.9500 |" in text
    assert "| sparse |  | 0.4000 | new |  | 0.8000 |" in text
    assert "Before and after" not in written()


def test_the_plot_is_an_image_with_a_line_for_the_loss_and_each_leg_inside_its_frame():
    root = ElementTree.fromstring(plot(CURVE))
    lines = [element for element in root if element.tag.endswith("polyline")]
    assert len(lines) == 3
    frame = next(element for element in root if element.tag.endswith("rect")).attrib
    left, top = float(frame["x"]), float(frame["y"])
    for line in lines:
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert left <= x <= left + float(frame["width"])
            assert top <= y <= top + float(frame["height"])


def test_a_curve_of_one_flat_point_can_be_drawn():
    flat = [CurvePoint(1, 1, "corpus", 0.0, {})]
    ElementTree.fromstring(plot(flat))
    assert sparkline(losses(flat)) == "▁"
    assert sparkline([]) == ""


def test_losses_are_means_of_consecutive_steps():
    assert losses(CURVE)[0] == pytest.approx((2.0 + 1.0 + 2.0 / 3) / 3)
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"


@pytest.mark.parametrize(
    "choice",
    [{"trained": "all"}, {"objective": "magic"}, {"minutes": 0}, {"steps": 0}, {"lr": -1.0}, {"held_out": 1.0}],
)
def test_a_choice_that_cannot_be_used_is_refused_by_its_name(choice):
    with pytest.raises(InvalidArgument, match=next(iter(choice))):
        TuneOptions(**choice)


def test_distillation_without_scores_is_refused():
    with pytest.raises(InvalidArgument, match="needs pairs with a teacher's scores"):
        TuneOptions(objective="distillation")
    assert TuneOptions(objective="distillation", pairs=Path("scored.jsonl")).config(dim=4, steps=1).weights.distil_kl


def test_the_command_offers_what_the_options_take_with_the_same_defaults():
    assert get_args(Trained) == command.TRAINED
    assert get_args(Objective) == command.OBJECTIVES
    assert command.MINUTES == MINUTES
    options = {field.name: field.default for field in fields(TuneOptions)}
    offered = command.tune_command.make_context("tune", []).params
    assert options.keys() - offered.keys() == {"max_examples"}
    assert offered.pop("matryoshka") is None
    assert {name: options[name] for name in options.keys() & offered.keys()} == {
        name: value for name, value in offered.items() if name != "output"
    }


@pytest.mark.parametrize(
    ("choice", "device", "lora"),
    [
        ({}, "cpu", False),
        ({}, "cuda:0", True),
        ({"bidirectional": True}, "cpu", True),
        ({"mntp_steps": 5}, "cpu", True),
        ({"trained": "lora"}, "cpu", True),
        ({"trained": "heads", "bidirectional": True}, "cuda:0", False),
        ({"trained": "layers"}, "cuda:0", False),
    ],
)
def test_what_is_trained_depends_on_the_machine_unless_it_is_chosen(choice, device, lora):
    config = TuneOptions(**choice).config(dim=8, steps=10, device=device)
    heads = not lora and choice.get("trained") != "layers"
    assert (config.lora is not None, config.dense_dim, config.train_layers > 0) == (
        lora,
        8 if heads else None,
        not lora and not heads,
    )
    assert (
        config.lr == {"lora": 3e-4, "heads": 1e-4, "layers": 5e-5}["lora" if lora else "heads" if heads else "layers"]
    )
