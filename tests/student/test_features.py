from __future__ import annotations

import dataclasses
import pickle
import shutil

import pytest

from medslm import models
from medslm.errors import DataError, IntegrityError
from medslm.files import read_json
from medslm.models import load_causal_lm
from medslm.student.cached import CachedStates, open_states, prompt_key, states_identity
from medslm.student.cached_scoring import CachedScorer
from medslm.student.cells import cell_data, train_cells
from medslm.student.features import build
from medslm.student.frozen import FrozenLayers
from medslm.student.lora import add_lora
from medslm.student.prompting import encode
from medslm.student.scoring import Scorer, with_adapter
from tests.factories import example
from tests.student.bodies import FAMILIES, tiny_loaded
from tests.student.test_tuning import FOLD, STUDENT, dev, examples, tune

FIRST = 2


@pytest.fixture(scope="module")
def loaded(tiny_llama):
    return load_causal_lm(str(tiny_llama), revision=None, dtype="float32")


def ids(loaded, chosen):
    return [encode(loaded.tokenizer, e.context, e.question, max_tokens=256).ids for e in chosen]


def variants(loaded):
    """What `none` and `combined` train on: the same studies, without and with more questions each."""
    real = examples()
    more = [
        example(e.pmid, context=e.context, question=f"Is day {n} shorter for {e.pmid}?")
        for e in real
        for n in range(2)
    ]
    return {"none": ids(loaded, real), "combined": ids(loaded, [*real, *more])}


@pytest.fixture
def passes(loaded):
    """Count the tokens that go through the model's embeddings."""
    seen = []
    handle = loaded.model.get_input_embeddings().register_forward_hook(
        lambda _module, given, _out: seen.append(given[0].numel())
    )
    yield seen
    handle.remove()


def make(out, loaded, wanted, first=FIRST, **more):
    return build(out, wanted, loaded, first, batch_size=4, **more)


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_states_from_the_file_are_those_computed_in_memory(loaded, tmp_path):
    import torch

    prompts = variants(loaded)["combined"]
    make(tmp_path, loaded, {"combined": prompts})
    mapped = CachedStates(tmp_path / "combined.json").of(prompts)
    computed = FrozenLayers(loaded.model.base_model, FIRST).hidden(prompts, 4)
    other = FrozenLayers(loaded.model.base_model, FIRST - 1).hidden(prompts, 4)

    assert len(mapped) == len(prompts) == 60
    for here, there, wrong in zip(mapped, computed, other, strict=True):
        assert torch.equal(here, there)
        assert not torch.allclose(here, wrong, atol=1e-2)


def test_a_second_run_computes_nothing_and_writes_the_same(loaded, tmp_path, passes):
    wanted = variants(loaded)
    assert make(tmp_path, loaded, wanted) == (60, 0)
    before = files(tmp_path)
    assert passes
    passes.clear()

    assert make(tmp_path, loaded, wanted) == (0, 60)

    assert passes == []
    assert files(tmp_path) == before


def test_a_new_variant_computes_its_own_prompts_and_leaves_the_other_readers_alone(
    loaded, tmp_path
):
    wanted = variants(loaded)
    make(tmp_path, loaded, {"none": wanted["none"]})
    before = files(tmp_path)

    built = make(tmp_path, loaded, wanted)

    assert built == (40, 20)
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before
    [part] = tmp_path.rglob("part-0001.bin")
    tokens = sum(len(prompt) for prompt in wanted["combined"][20:])
    # of 40 prompts more only what each does not share with one of the 20: 32 numbers of 4 bytes a token
    assert part.stat().st_size < 0.8 * tokens * 32 * 4
    fresh = tmp_path / "fresh"
    make(fresh, loaded, wanted)
    import torch

    grown = CachedStates(tmp_path / "combined.json").of(wanted["combined"])
    at_once = CachedStates(fresh / "combined.json").of(wanted["combined"])
    for here, there in zip(grown, at_once, strict=True):
        assert torch.allclose(here, there, atol=1e-5)


def test_what_nobody_needs_any_more_goes(loaded, tmp_path):
    wanted = variants(loaded)
    make(tmp_path, loaded, {"none": wanted["none"]})
    make(tmp_path, loaded, wanted)
    assert len(list(tmp_path.rglob("*.bin"))) == 2

    assert make(tmp_path, loaded, {"none": wanted["none"]}) == (0, 20)

    assert [p.name for p in tmp_path.rglob("*.bin")] == ["part-0000.bin"]
    assert sorted(p.name for p in tmp_path.glob("*.json")) == ["none.json"]
    assert make(tmp_path, loaded, wanted) == (40, 20)  # control: those are gone indeed


def test_another_layer_or_base_starts_anew_and_without_frozen_layers_indexes_are_empty(
    loaded, tmp_path
):
    wanted = {"none": variants(loaded)["none"]}
    make(tmp_path, loaded, wanted)
    [old] = [p for p in tmp_path.iterdir() if p.is_dir()]

    assert make(tmp_path, loaded, wanted, first=1) == (20, 0)
    assert not old.exists()
    assert read_json(tmp_path / "none.json")["first"] == 1
    assert make(tmp_path, loaded, wanted, first=0) == (0, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["none.json"]
    assert open_states(tmp_path / "none.json", loaded) is None


def test_a_killed_run_goes_on_after_the_last_whole_part(loaded, tmp_path):
    wanted = variants(loaded)
    make(tmp_path, loaded, wanted, part_bytes=20_000)
    whole = files(tmp_path)
    indexes = sorted(tmp_path.rglob("part-*.json"))
    assert len(indexes) > 2
    lost = len(read_json(indexes[-1])["prompts"])
    indexes[-1].unlink()  # the rows were written, their index was not

    assert make(tmp_path, loaded, wanted, part_bytes=20_000) == (lost, 60 - lost)
    assert set(files(tmp_path)) == set(whole)


def flip(file):
    body = bytearray(file.read_bytes())
    body[-3] ^= 1
    file.write_bytes(body)


def cut(file):
    file.write_bytes(file.read_bytes()[:-8])


@pytest.mark.parametrize(
    ("damage", "message"),
    [(flip, "recorded sha256"), (cut, "expected"), (lambda file: file.unlink(), "is missing")],
)
def test_a_damaged_part_is_refused_when_read_and_made_again_by_the_stage(
    loaded, tmp_path, caplog, damage, message
):
    wanted = {"none": variants(loaded)["none"]}
    make(tmp_path, loaded, wanted)
    whole = files(tmp_path)
    [part] = tmp_path.rglob("*.bin")
    damage(part)

    with pytest.raises(IntegrityError, match=rf"part-0000.bin.*{message}.*dvc repro features"):
        CachedStates(tmp_path / "none.json")
    make(tmp_path, loaded, wanted)

    assert "part-0000.bin" in caplog.text
    assert files(tmp_path) == whole
    assert len(CachedStates(tmp_path / "none.json").of(wanted["none"])) == 20


def test_an_index_that_its_parts_do_not_match_is_refused(loaded, tmp_path):
    wanted = {"none": variants(loaded)["none"]}
    make(tmp_path, loaded, wanted)
    index = tmp_path / "none.json"
    first = read_json(index)["prompts"][prompt_key(wanted["none"][0])]
    index.write_text(index.read_text().replace(first, "0" * 64))

    with pytest.raises(IntegrityError, match="lacks states that"):
        CachedStates(index)


def test_a_prompt_without_states_is_an_error_that_counts(loaded, tmp_path):
    wanted = variants(loaded)
    make(tmp_path, loaded, {"none": wanted["none"]})
    states = CachedStates(tmp_path / "none.json")

    with pytest.raises(DataError, match="lacks 40 of 60 prompts; run `dvc repro features`"):
        states.of(wanted["combined"])


def test_states_of_another_base_are_not_used_and_one_line_says_so(loaded, tmp_path, caplog):
    make(tmp_path, loaded, {"none": variants(loaded)["none"]})

    assert open_states(tmp_path / "none.json", loaded) is not None
    assert caplog.text == ""
    assert open_states(tmp_path / "none.json", tiny_loaded("llama")) is None
    assert "not used" in caplog.text


def packed(loaded):
    """Return the base as tune.quantize gives it: other numbers behind the same files and dtype."""
    import copy

    import torch

    model = copy.deepcopy(loaded.model)
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.dim() > 1):
            size = weight.abs().amax() / 7
            weight.copy_((weight / size).round() * size)
    return dataclasses.replace(loaded, model=model, quantize="nf4")


def test_states_of_the_base_in_four_bits_are_computed_anew(loaded, tmp_path):
    import torch

    prompts = variants(loaded)["none"]
    make(tmp_path, loaded, {"none": prompts})
    four_bits, on_gpu = packed(loaded), dataclasses.replace(loaded, device="cuda")
    whole = CachedStates(tmp_path / "none.json").of(prompts)[0]

    same = dataclasses.replace(loaded)
    assert states_identity(same, FIRST) == states_identity(loaded, FIRST)
    assert make(tmp_path, same, {"none": prompts}) == (0, 20)
    identities = {states_identity(one, FIRST) for one in (loaded, four_bits, on_gpu)}
    assert len(identities) == 3
    assert open_states(tmp_path / "none.json", four_bits) is None
    assert make(tmp_path, four_bits, {"none": prompts}) == (20, 0)
    states = CachedStates(tmp_path / "none.json").of(prompts)[0]
    computed = FrozenLayers(four_bits.model.base_model, FIRST).hidden(prompts, 4)[0]
    assert torch.equal(states, computed)
    assert not torch.allclose(states, whole, atol=1e-2)


def test_a_loaded_base_says_whether_it_is_in_four_bits_and_what_computes(
    loaded, tiny_llama, monkeypatch
):
    import torch

    monkeypatch.setattr(models, "_quantization", lambda *_: {})  # packing itself needs a GPU
    four_bits = load_causal_lm(str(tiny_llama), revision=None, dtype="float32", quantize="nf4")

    assert loaded.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert (loaded.quantize, four_bits.quantize) == (None, "nf4")
    assert states_identity(loaded, FIRST) != states_identity(four_bits, FIRST)


def test_states_can_be_sent_to_another_process(loaded, tmp_path):
    import torch

    prompts = variants(loaded)["none"]
    make(tmp_path, loaded, {"none": prompts})
    states = CachedStates(tmp_path / "none.json")

    sent = pickle.loads(pickle.dumps(states))

    assert len(pickle.dumps(states)) < 1000
    assert torch.equal(sent.of(prompts)[3], states.of(prompts)[3])


def run(loaded, work, states=None, **changes):
    [cell] = train_cells(
        loaded,
        {"0": FOLD},
        examples(),
        dev(),
        student=STUDENT,
        tune=tune(**changes),
        work=work,
        features=None if states is None else states.index,
    )
    return cell


def adapter(cell):
    from safetensors.torch import load_file

    return load_file(cell.folder / "adapter_model.safetensors")


def difference(one, other):
    """Return the largest distance between two adapters, as a share of the weights' size."""
    return max(float((one[n] - other[n]).norm() / one[n].norm().clamp_min(1e-6)) for n in one)


def everything(loaded):
    data = cell_data(loaded, FOLD, examples(), dev(), 256)
    return [e.ids for e in [*data.train, *data.dev]]


@pytest.mark.filterwarnings(
    "ignore:fan_in_fan_out"
)  # peft says so of GPT-2's layers and corrects it
@pytest.mark.parametrize("family", FAMILIES)
def test_training_and_predicting_on_cached_states_equal_exact_mode(family, tmp_path):
    """15 steps in fp32: losses within 1e-4, weights within 0.1 %, probabilities within 1e-4, same answers."""
    loaded = tiny_loaded(family)
    prompts = everything(loaded)
    make(tmp_path / "features", loaded, {"all": prompts})
    make(tmp_path / "below", loaded, {"all": prompts}, first=1)
    states = CachedStates(tmp_path / "features/all.json")

    exact = run(loaded, tmp_path / "exact", reuse_frozen=False)
    cached = run(loaded, tmp_path / "cached", states)
    other = run(
        loaded, tmp_path / "other", CachedStates(tmp_path / "below/all.json"), layers="top-3"
    )

    for one, two in zip(exact.history, cached.history, strict=True):
        assert two.train_loss == pytest.approx(one.train_loss, abs=1e-4)
        assert two.dev_loss == pytest.approx(one.dev_loss, abs=1e-4)
    assert difference(adapter(exact), adapter(cached)) < 1e-3
    assert other.history[-1].train_loss != pytest.approx(exact.history[-1].train_loss, abs=1e-4)

    tuned = with_adapter(loaded, cached.folder)
    sizes = {"max_tokens": 256, "batch_size": 4}
    whole = Scorer(tuned, **sizes).score(prompts)
    above = CachedScorer(tuned, states, **sizes).score(prompts)
    wrong = CachedScorer(tuned, CachedStates(tmp_path / "below/all.json"), **sizes)
    tuned.model.unload()
    for one, two in zip(whole, above, strict=True):
        assert list(two.values()) == pytest.approx(list(one.values()), abs=1e-4)
        assert max(one, key=one.get) == max(two, key=two.get)
    assert len({row["yes"] for row in whole}) > 5
    assert len(wrong.score(prompts)) == len(prompts)  # states of a lower layer do as well


def test_states_are_refused_where_an_adapter_is_below_them(loaded, tmp_path):
    make(tmp_path, loaded, {"all": everything(loaded)})
    states = CachedStates(tmp_path / "all.json")

    with pytest.raises(IntegrityError, match="not of the layers below the adapters"):
        run(loaded, tmp_path / "work", states, layers="top-3")
    model = add_lora(loaded, r=4, alpha=8, dropout=0.0, targets="all-linear", layers="top-3")
    low = tiny_loaded("llama").__class__(model, loaded.tokenizer, "", "", "float32")
    with pytest.raises(IntegrityError, match="layers with adapters"):
        CachedScorer(low, states, max_tokens=256, batch_size=4)
    model.unload()


def test_training_and_predicting_run_no_lower_layer(loaded, tmp_path):
    make(tmp_path, loaded, {"all": everything(loaded)})
    ran = []
    lower = loaded.model.model.layers[FIRST - 1]
    handle = lower.register_forward_hook(lambda *_: ran.append(1))

    run(loaded, tmp_path / "cached", CachedStates(tmp_path / "all.json"))
    assert ran == []
    run(loaded, tmp_path / "exact", reuse_frozen=False)
    handle.remove()

    assert len(ran) >= 15


def test_in_bfloat16_cached_and_exact_answers_agree_up_to_rounding(tmp_path):
    loaded = tiny_loaded("llama", dtype="bfloat16")
    prompts = everything(loaded)
    make(tmp_path, loaded, {"all": prompts})
    states = CachedStates(tmp_path / "all.json")
    sizes = {"max_tokens": 256, "batch_size": 4}

    whole = Scorer(loaded, **sizes).score(prompts)
    above = CachedScorer(loaded, states, **sizes).score(prompts)

    assert str(states.of(prompts)[0].dtype) == "torch.bfloat16"
    apart = [abs(one["yes"] - two["yes"]) for one, two in zip(whole, above, strict=True)]
    spread = [row["yes"] for row in whole]
    assert max(apart) < 0.2 * (max(spread) - min(spread))


def test_an_index_without_its_folder_is_refused(loaded, tmp_path):
    make(tmp_path, loaded, {"all": everything(loaded)})
    [folder] = [p for p in tmp_path.iterdir() if p.is_dir()]
    shutil.rmtree(folder)

    with pytest.raises(IntegrityError, match="lacks states"):
        CachedStates(tmp_path / "all.json")
