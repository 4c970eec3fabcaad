"""The table of engines: what can be had, why, and what is said when it cannot."""

import dataclasses

import pytest

from videopainter import engine as module
from videopainter.engine import ENGINES, Engine, EngineError, choose_engine, load_engine


def test_the_six_names_of_the_design_best_first_for_films():
    assert list(ENGINES) == ["videopainter", "hybrid", "propainter", "e2fgvi", "propagation", "dstt"]


def test_auto_takes_the_best_that_can_run_and_says_why():
    info, why = choose_engine("auto")
    assert info.name == "propagation"
    assert "CPU" in why and "videopainter" in why and "\n" not in why


def test_auto_prefers_a_better_engine_once_it_can_run(monkeypatch):
    better = dataclasses.replace(ENGINES["propainter"], location="somewhere:Engine", missing=lambda: None)
    monkeypatch.setitem(module.ENGINES, "propainter", better)
    monkeypatch.setattr(module, "has_gpu", lambda: True)
    assert choose_engine("auto")[0].name == "propainter"
    broken = dataclasses.replace(better, missing=lambda: "no GPU here")
    monkeypatch.setitem(module.ENGINES, "propainter", broken)
    info, why = choose_engine("auto")
    assert info.name == "propagation" and "propainter: no GPU here" in why


def test_an_engine_that_is_not_there_names_those_that_are():
    spec = dataclasses.replace(ENGINES["e2fgvi"], missing=lambda **options: "its weights are on the moon")
    with pytest.raises(EngineError, match="'e2fgvi'.*on the moon; there is 'propagation', 'dstt'"):
        load_engine(spec)
    with pytest.raises(EngineError, match="'e2fgvi' cannot be used: its weights are on the moon."):
        spec.load()


@pytest.mark.parametrize("name", ENGINES)
def test_the_reason_does_not_stumble_over_an_engines_own_options(name):
    info = ENGINES[name]
    can_run, reason = info.available(**dict.fromkeys(info.option_names))
    assert can_run == (name in ("propagation", "dstt")) and reason


def test_unknown_name():
    with pytest.raises(EngineError, match="'magic'.*propagation"):
        choose_engine("magic")


def test_propagation_is_an_engine():
    engine = ENGINES["propagation"].load(num_inference_steps=3)  # an option it has no use for
    assert isinstance(engine, Engine) and engine.spec is ENGINES["propagation"]
