"""model.generation_config: what calls start from; and configs of other programs."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from localgen import GenerationConfig
from tests.fakes import END_OF_TURN, EOS, fake_model, hashed_letter


class Foreign:
    """A config like transformers': options that are not set are None."""

    def __init__(self, **options: Any) -> None:
        self.options = {"max_new_tokens": None, "do_sample": None, "num_beams": None, **options}

    def to_dict(self) -> dict[str, Any]:
        return dict(self.options)


def n_new(model: Any, **options: Any) -> int:
    return int(model.generate([[65]], **options).shape[1]) - 1


def test_attributes_can_be_set() -> None:
    """Regression: assigned and ignored. Options by name win, and so does a config of the call."""
    model = fake_model()
    model.generation_config.max_new_tokens = 3
    assert n_new(model) == 3
    assert len(model.complete("a").token_ids) == 3
    assert n_new(model, max_new_tokens=5) == 5
    assert n_new(model, generation_config=GenerationConfig(max_new_tokens=4)) == 4
    model.generation_config.update(max_new_tokens=None, max_length=3)
    assert n_new(model) == 2


@pytest.mark.parametrize("kind", [GenerationConfig, Foreign])
def test_the_whole_config_can_be_set(kind: Any) -> None:
    """To localgen's config, or to transformers'."""
    model = fake_model()
    model.generation_config = kind(max_new_tokens=3, transformers_version="5.24.0")
    assert n_new(model) == 3
    model.generation_config = Foreign()
    assert n_new(model) == 256


def test_what_it_holds_at_first() -> None:
    """The file's special tokens, and defaults; options that only transformers has at their no-op
    value."""
    config = fake_model().generation_config
    assert config.eos_token_id == (EOS, END_OF_TURN)
    assert config.pad_token_id == EOS
    assert (config.top_k, config.num_beams, config.bos_token_id) == (50, 1, None)
    with pytest.raises(AttributeError, match="unknown option 'temprature'; did you mean"):
        _ = config.temprature


def test_it_is_checked() -> None:
    """A bad value is refused where it is set, and nothing changes."""
    config = fake_model().generation_config
    with pytest.raises(ValueError, match="max_new_tokens must be at least 1, got 0"):
        config.max_new_tokens = 0
    with pytest.raises(TypeError, match="did you mean 'temperature'"):
        config.temprature = 1.0
    with pytest.raises(TypeError, match="option 'num_beam_groups'"):
        config.num_beam_groups = 4
    config.num_beam_groups = 1
    config.top_p = None
    assert config == fake_model().generation_config
    with pytest.raises(TypeError, match="must be a GenerationConfig"):
        fake_model().generation_config = {"max_new_tokens": 3}


@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))]
)
def test_a_copy_is_a_config_of_a_call(make: Any) -> None:
    """Programs copy it, change the copy and pass it on."""
    model = fake_model()
    config = make(model.generation_config)
    config.max_new_tokens = 2
    assert n_new(model, generation_config=config) == 2
    assert n_new(model) == 256
    assert config.to_dict()["max_new_tokens"] == 2


def test_a_config_of_transformers() -> None:
    """Regression: "must be a GenerationConfig, got GenerationConfig". By name, as the second
    argument, or a list of them; what it leaves unset is the model's."""
    model = fake_model()
    config = Foreign(max_new_tokens=3, bos_token_id=1)
    assert n_new(model, generation_config=config) == 3
    assert model.generate([[65]], config).shape == (1, 4)
    assert model.generate([[65]], GenerationConfig(max_new_tokens=2)).shape == (1, 3)
    assert n_new(model, generation_config=config, max_new_tokens=1) == 1
    model.generation_config.max_length = 6
    assert n_new(model, generation_config=Foreign()) == 5
    model.generation_config.max_length = None
    configs: Any = [config, Foreign(max_new_tokens=1)]
    each = model.complete(["a", "b"], generation_config=configs)
    assert [len(done.token_ids) for done in each] == [3, 1]
    with pytest.raises(TypeError, match="option 'num_beam_groups'"):
        n_new(model, generation_config=Foreign(num_beam_groups=4))


def test_the_file_s_sampling_options() -> None:
    """They fill what the program left as it is, in the text API only."""
    model = fake_model(hashed_letter)
    model.backend.sampling_defaults = {"temperature": 50.0, "top_k": 0}
    greedy = model.complete("abc", do_sample=False, max_new_tokens=8).token_ids
    assert model.complete("abc", seed=1, max_new_tokens=8).token_ids != greedy
    model.generation_config.temperature = 0.01
    assert model.complete("abc", seed=1, max_new_tokens=8).token_ids == greedy
    model.generation_config.update(temperature=None, do_sample=False)
    assert model.complete("abc", max_new_tokens=8).token_ids == greedy
