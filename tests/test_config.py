"""Configs and recipes: typed, checked key by key, kind about mistakes."""

from pathlib import Path

import pytest
import yaml

from unmask.config import RunConfig, config_keys, read_config
from unmask.recipes import load_recipe, recipe_names


def test_a_config_comes_back_from_its_own_values() -> None:
    config = load_recipe("shakespeare-demo")
    assert read_config(config.to_dict()) == config
    assert read_config({}) == RunConfig()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": {"widht": 3}}, r"no setting 'model.widht' \(did you mean model.width\?\)"),
        ({"modle": {}}, r"did you mean model\?"),
        ({"zzz": 1}, "no setting 'zzz'"),
        ({"model": 3}, "must hold keys and values"),
        ({"model": {"width": "wide"}}, "model.width must be of type int, not wide"),
        ({"diffusion": {"schedule": "cosin"}}, r"must be one of linear.*did you mean cosine"),
        ({"train": {"steps": 0}}, "train.steps must be above 0"),
        ({"train": {"ema": 1.0}}, "train.ema must be in"),
    ],
)
def test_mistakes_are_one_sentence(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_config(values)
    assert "\n" not in str(caught.value)


def test_keys_name_every_setting() -> None:
    keys = config_keys()
    assert {"data.source", "model.width", "diffusion.schedule", "optim.lr", "train.steps"} <= set(keys)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_and_says_what_it_is_for(name: str) -> None:
    from unmask.recipes import recipe_text

    assert load_recipe(name)
    assert recipe_text(name).startswith("# ")


def test_data_are_prepared_again_when_their_settings_change(corpus_file: Path, tmp_path: Path) -> None:
    from unmask.config import DataConfig, build_data

    first = build_data(DataConfig(str(corpus_file), "char"), tmp_path / "data")
    stamp = (tmp_path / "data/meta.json").stat().st_mtime_ns
    again = build_data(DataConfig(str(corpus_file), "char"), tmp_path / "data", reuse=True)
    assert (tmp_path / "data/meta.json").stat().st_mtime_ns == stamp
    assert again.tokenizer.fingerprint() == first.tokenizer.fingerprint()
    other = build_data(DataConfig(str(corpus_file), "byte"), tmp_path / "data", reuse=True)
    assert other.tokenizer.vocab_size == 257
    corpus_file.write_text("grown " * 1000, "utf-8")
    assert build_data(DataConfig(str(corpus_file), "byte"), tmp_path / "data").train.utf8_bytes == 5400


def test_yaml_files_are_recipes(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"model": {"width": 64, "heads": 4}, "optim": {"lr": "1e-3"}}))
    assert load_recipe(str(file)).model.width == 64
    assert load_recipe(str(file)).optim.lr == 1e-3
    file.write_text("model: [")
    with pytest.raises(ValueError, match="is not YAML"):
        load_recipe(str(file))
    file.write_text("- 1")
    with pytest.raises(ValueError, match="must hold sections"):
        load_recipe(str(file))
    with pytest.raises(ValueError, match="there is no file"):
        load_recipe(str(tmp_path / "other.yaml"))
    with pytest.raises(ValueError, match="did you mean shakespeare-demo"):
        load_recipe("shakespear-demo")
