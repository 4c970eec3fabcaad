import json
from dataclasses import replace

import pytest

from videopainter.dstt.config import PRESETS, DSTTConfig, preset


def test_the_full_network_is_the_published_one():
    full = preset("full")
    assert full.size == (360, 640) and full.grid() == (30, 54)
    assert full.memory_shape() == (1, 8, 2, 1620, full.hidden)
    assert (full.patch, full.stride) == (7, 3)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_json_gives_the_same_configuration_back(name):
    config = preset(name)
    assert DSTTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "change, words",
    [
        ({"channels": 18}, "18"),
        ({"hidden": 15}, "15"),
        ({"patch": 6}, "6"),
        ({"stride": 9}, "9"),
        ({"slots": -1}, "-1"),
        ({"blocks": 0}, "blocks"),
        ({"size": (32,)}, "32"),
        ({"heads": True}, "True"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_numbers_that_no_network_can_have(change, words):
    with pytest.raises(ValueError, match=words):
        replace(preset("tiny"), **change)


def test_unknown_names():
    with pytest.raises(ValueError, match="huge"):
        preset("huge")
    with pytest.raises(ValueError, match="depth"):
        DSTTConfig.from_dict({"depth": 3})
