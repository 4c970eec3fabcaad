"""The set of golden data itself: a wrong folder must not pass as 'nothing to do'."""

import golden


def test_the_set_holds_cases():
    found = [path for name in golden.SYSTEMS for path in golden.cases(golden.root() / name)]
    assert found or golden.cases(golden.root()), f"no golden cases in {golden.root()}"


def test_every_tensor_file_is_described():
    for path in golden.root().rglob("*.safetensors"):
        assert path.with_suffix(".json").is_file(), f"{path.name} has no JSON file beside it"
