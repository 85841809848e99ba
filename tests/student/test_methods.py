"""Every method on every architecture: what moves, what stays, what is saved and comes back."""

from __future__ import annotations

import shutil

import pytest

from medslm.data.records import ANSWERS
from medslm.errors import DataError, ParamsError
from medslm.files import read_json, sha256_of
from medslm.models import load_causal_lm
from medslm.student.cells import cell_data, train_cells
from medslm.student.lora import adapter_tensors, save_adapter
from medslm.student.methods import (
    adapted_in,
    first_adapted,
    load_beside,
    load_tuned,
    take_off,
    tunable,
    use,
)
from medslm.student.scoring import AnswerHead, Scorer, with_adapter
from medslm.student.settings import TuneParams
from medslm.student.tuning import Cell
from tests.student.architectures import LAYERS, make_tiny
from tests.student.test_tuning import FOLD, STUDENT, TUNE, dev, examples

METHODS = {
    "lora": {"method": "lora", "layers": "top-2"},
    "rslora": {"method": "lora", "rslora": True, "layers": "all"},
    "dora": {"method": "dora", "layers": "top-2"},
    "prefix": {"method": "prefix", "lr": 0.05},
    "prefix-text": {"method": "prefix", "lr": 0.05, "prefix_init": "text"},
    "full": {"method": "full", "layers": "all", "lr": 0.01},
    "full-top": {"method": "full", "layers": "top-2", "lr": 0.01},
}
MODELS = ["llama", "gpt2", "biogpt", "qwen3", "gemma2"]
ITEMS = [("Stay was 4 days. " * 6, "Is it?"), ("A result.", "Was it so in all adults?")]


@pytest.fixture(scope="module", params=MODELS)
def loaded(request, tmp_path_factory):
    folder = make_tiny(tmp_path_factory.mktemp(request.param), request.param)
    return load_causal_lm(str(folder), revision=None, dtype="float32")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("llama"), "llama")


def tune(name, **changes):
    return TuneParams(**{**TUNE, "dropout": 0.0, **METHODS[name], **changes})


def weights_of(loaded):
    return {n: p.detach().clone() for n, p in loaded.model.named_parameters()}


def two_steps(loaded, model, knobs, *, batch=8):
    """Train two steps; return the cell, what was trainable before and after, and the tensors to save."""
    data = cell_data(loaded, FOLD, examples(), dev(), 256)
    cell = Cell(
        loaded,
        model,
        lr=knobs.lr,
        warmup=0,
        weight_decay=0.0,
        clip=1.0,
        batch_size=batch,
        epochs=1,
        seed=0,
        reuse_frozen=False,
    )
    before = {n: p.detach().clone() for n, p in cell.parameters.items()}
    cell.train(data.train[: 2 * batch], data.dev, checkpoints=None, every_s=1e9)
    return before, {n: p.detach().clone() for n, p in cell.parameters.items()}


@pytest.mark.parametrize("method", METHODS)
def test_all_that_is_trained_moves_and_comes_back_and_the_base_stays(loaded, method, tmp_path):
    import torch

    knobs = tune(method)
    base = weights_of(loaded)
    untuned = Scorer(loaded, max_tokens=256, batch_size=4).probabilities(ITEMS)
    torch.manual_seed(0)
    model = tunable(loaded, knobs)
    try:
        before, after = two_steps(loaded, model, knobs)
        tensors = adapter_tensors(model)
        trained = answering(loaded, model)
        tuned = Scorer(trained, max_tokens=256, batch_size=4).probabilities(ITEMS)
        save_adapter(tmp_path / "cell", model, tensors, loaded.base_id)
    finally:
        take_off(model)

    assert all(p.dtype == torch.float32 for p in before.values())
    still = [n for n in before if torch.equal(before[n], after[n])]
    assert before
    assert not still
    assert set(base) == set(weights_of(loaded))
    assert all(torch.equal(base[n], p) for n, p in weights_of(loaded).items())
    again = with_adapter(loaded, tmp_path / "cell")
    reloaded = Scorer(again, max_tokens=256, batch_size=4).probabilities(ITEMS)
    take_off(again.model)
    assert reloaded == tuned
    assert tuned != untuned  # control: two steps are seen in six digits
    assert Scorer(loaded, max_tokens=256, batch_size=4).probabilities(ITEMS) == untuned


def answering(loaded, model):
    import dataclasses

    model.eval()
    return dataclasses.replace(loaded, model=model)


def test_full_trains_the_chosen_layers_and_saves_them_alone(loaded, tmp_path):
    knobs = tune("full-top")
    model = tunable(loaded, knobs)
    names = {n for n, p in model.named_parameters() if p.requires_grad}
    tensors = adapter_tensors(model)
    adapted = adapted_in(model)
    take_off(model)
    whole = tunable(loaded, tune("full"))
    everything = adapter_tensors(whole)
    adapted_whole = adapted_in(whole)
    take_off(whole)

    assert set(tensors) == names
    assert adapted == [1, 2]
    assert all(".1." in n or ".2." in n for n in names)
    assert set(everything) == set(weights_of(loaded))
    assert len(names) < len(everything)
    assert adapted_whole is None


@pytest.mark.parametrize("method", ["lora", "rslora", "dora"])
def test_merged_weights_give_the_logits_of_the_adapter(loaded, method):
    import torch

    torch.manual_seed(0)
    knobs = tune(method)
    model = tunable(loaded, knobs)
    two_steps(loaded, model, knobs)
    model.eval()
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        adapted = model(input_ids=ids).logits
        model.merge_adapter()
        merged = model(input_ids=ids).logits
        model.unmerge_adapter()
        with model.disable_adapter():
            without = model(input_ids=ids).logits
    take_off(model)

    assert torch.allclose(adapted, merged, atol=1e-4)
    assert not torch.allclose(adapted, without, atol=1e-3)


def test_rslora_scales_by_the_root_of_the_rank(loaded):
    def scale(**changes):
        model = tunable(loaded, tune("lora", r=4, alpha=8, **changes))
        found = next(m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A"))
        take_off(model)
        return found

    assert scale(rslora=False) == 2.0
    assert scale(rslora=True) == 4.0


@pytest.mark.parametrize("method", ["prefix", "prefix-text"])
def test_the_gradient_reaches_keys_and_values_of_every_layer_of_the_prefix(loaded, method):
    import torch

    torch.manual_seed(0)
    model = tunable(loaded, tune(method))
    head = AnswerHead(answering(loaded, model))
    ids = [loaded.tokenizer("Stay was 4 days. Answer:")["input_ids"]]
    torch.nn.functional.cross_entropy(head.logits(ids), torch.tensor([1])).backward()
    [(name, prefix)] = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    gradient = prefix.grad.view(4, LAYERS, 2, -1)
    take_off(model)

    assert "prompt_encoder" in name
    assert bool((gradient.abs().amax(dim=(0, 3)) > 1e-8).all())  # (layers, keys or values)


def test_a_prefix_from_text_is_that_text_read_before_the_prompt(loaded):
    """Untrained, it gives what the base gives for text + prompt; a zero prefix does not."""
    import torch

    from medslm.student.methods import PREFIX_TEXT

    ids = loaded.tokenizer("Stay was 4 days. Answer:", add_special_tokens=False)["input_ids"]
    words = loaded.tokenizer(PREFIX_TEXT, add_special_tokens=False)["input_ids"]
    count = len(words) + 3  # more than the text has: it goes on from its beginning
    with torch.no_grad():
        expected = AnswerHead(loaded).logits([[*words, *words[:3], *ids]])
        found = {}
        for init in ("text", "zero"):
            model = tunable(loaded, tune("prefix", virtual_tokens=count, prefix_init=init))
            found[init] = AnswerHead(answering(loaded, model)).logits([ids])
            take_off(model)

    assert torch.allclose(found["text"], expected, atol=1e-4)
    assert not torch.allclose(found["zero"], expected, atol=1e-2)


def test_a_prefix_and_answers_of_several_tokens_go_together(tmp_path):
    """The keys of the prefix stand before the prompt for every node of the answers too."""
    import torch

    folder = make_tiny(tmp_path / "gpt2", "gpt2", split=True)
    loaded = load_causal_lm(str(folder), revision=None, dtype="float32")
    words = loaded.tokenizer("Read it. ")["input_ids"]
    ids = [loaded.tokenizer(text)["input_ids"] for text in ("Stay. Answer:", "A result. Answer:")]
    model = tunable(loaded, tune("prefix", virtual_tokens=len(words), prefix_init="zero"))
    from peft import initialize_kv_prefix_from_text

    initialize_kv_prefix_from_text(model, loaded.tokenizer, text="Read it. ")
    with torch.no_grad():
        found = AnswerHead(answering(loaded, model)).logits(ids)
        take_off(model)
        expected = AnswerHead(loaded).logits([[*words, *prompt] for prompt in ids])
        without = AnswerHead(loaded).logits(ids)

    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(without, expected, atol=1e-2)


def test_the_lowest_adapted_layer_is_known_before_anything_is_loaded():
    assert first_adapted(tune("lora"), 30) == 28
    assert first_adapted(tune("dora"), 30) == 28
    assert first_adapted(tune("full-top"), 30) == 28
    assert first_adapted(tune("full"), 30) == 0
    assert first_adapted(tune("rslora"), 30) == 0
    assert first_adapted(tune("prefix"), 30) == 0
    with pytest.raises(ParamsError, match="top-2 asked of a model with 1"):
        first_adapted(tune("lora"), 1)


@pytest.mark.parametrize("method", METHODS)
def test_a_cell_of_any_method_has_the_same_bytes_twice(llama, tmp_path, method):
    def train(work, seed=0):
        loaded = load_causal_lm(str(llama), revision=None, dtype="float32")
        knobs = tune(method, epochs=2, seeds=[seed])
        folds = {"0": FOLD}
        [cell] = train_cells(
            loaded, folds, examples(), dev(), student=STUDENT, tune=knobs, work=work
        )
        return {f.name: sha256_of(f) for f in cell.folder.iterdir()}, cell

    one, cell = train(tmp_path / "1")
    same, _ = train(tmp_path / "2")
    other, _ = train(tmp_path / "3", seed=1)

    assert one == same
    assert one["adapter_model.safetensors"] != other["adapter_model.safetensors"]
    assert str(tmp_path) not in (cell.folder / "adapter_config.json").read_text()


def test_reused_frozen_layers_change_nothing_when_the_top_layers_are_trained_in_full(llama):
    import torch

    found = {}
    for reuse in (True, False):
        loaded = load_causal_lm(str(llama), revision=None, dtype="float32")
        knobs = tune("full-top")
        model = tunable(loaded, knobs)
        data = cell_data(loaded, FOLD, examples(), dev(), 256)
        rest = {"weight_decay": 0.0, "clip": 1.0, "batch_size": 4, "epochs": 1, "seed": 0}
        cell = Cell(loaded, model, lr=0.001, warmup=0, reuse_frozen=reuse, **rest)
        assert (cell.frozen is not None) is reuse
        before = adapter_tensors(model)
        found[reuse] = cell.train(data.train, data.dev, checkpoints=None, every_s=1e9).tensors
        take_off(model)

    for name, tensor in found[True].items():
        assert torch.allclose(tensor, found[False][name], atol=2e-5), name
        assert not torch.allclose(tensor, before[name], atol=1e-4), name


def test_answers_of_several_tokens_are_trained_in_exact_mode(tmp_path):
    folder = make_tiny(tmp_path / "llama", "llama", split=True)
    loaded = load_causal_lm(str(folder), revision=None, dtype="float32")
    knobs = tune("lora", epochs=8, layers="top-1", lr=0.02)
    work = tmp_path / "work"
    [cell] = train_cells(
        loaded, {"0": FOLD}, examples(), dev(), student=STUDENT, tune=knobs, work=work
    )

    losses = [row.train_loss for row in cell.history]
    assert losses[-1] < losses[0] - 0.05


def test_full_trains_float32_on_a_bfloat16_base_and_says_so(llama, tmp_path, caplog):
    import torch

    caplog.set_level("INFO")
    loaded = load_causal_lm(str(llama), revision=None, dtype="bfloat16")
    for method in ("full-top", "full", "prefix-text", "dora"):
        knobs = tune(method, lr=1e-5 if "full" in method else 0.05)
        model = tunable(loaded, knobs)
        before, after = two_steps(loaded, model, knobs)
        tensors = adapter_tensors(model)
        save_adapter(tmp_path / method, model, tensors, loaded.base_id)
        take_off(model)

        assert {p.dtype for p in before.values()} == {torch.float32}
        # at 1e-5 a bfloat16 weight of .2 would not move at all
        assert any(not torch.equal(before[n], after[n]) for n in before)
        assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
        tuned = with_adapter(loaded, tmp_path / method)
        for row in Scorer(tuned, max_tokens=256, batch_size=4).probabilities(ITEMS):
            assert sum(row.values()) == pytest.approx(1, abs=1e-3)
        take_off(tuned.model)

    assert "the trained weights are float32 on a base in torch.bfloat16" in caplog.text


@pytest.mark.parametrize("method", ["lora", "prefix-text", "full-top", "full"])
def test_cells_of_one_method_stand_beside_each_other(llama, tmp_path, method):
    import torch

    loaded = load_causal_lm(str(llama), revision=None, dtype="float32")
    alone = {}
    for name in ("a", "b"):
        model = tunable(loaded, tune(method))
        made = {k: v + 0.3 * torch.randn_like(v) for k, v in adapter_tensors(model).items()}
        save_adapter(tmp_path / name, model, made, loaded.base_id)
        take_off(model)
        single = with_adapter(loaded, tmp_path / name)
        alone[name] = Scorer(single, max_tokens=256, batch_size=4).probabilities(ITEMS)
        take_off(single.model)

    together = with_adapter(loaded, tmp_path / "a")
    load_beside(together.model, tmp_path / "b", "b")
    scorer = Scorer(together, max_tokens=256, batch_size=4)
    found = {}
    for name in ("b", "default", "b"):
        use(together.model, name)
        found[name] = scorer.probabilities(ITEMS)

    assert found == {"default": alone["a"], "b": alone["b"]}
    assert alone["a"] != alone["b"]


def test_cells_of_different_methods_or_another_base_are_refused(llama, tmp_path):
    loaded = load_causal_lm(str(llama), revision=None, dtype="float32")
    for method in ("lora", "full-top", "full"):
        model = tunable(loaded, tune(method))
        save_adapter(tmp_path / method, model, adapter_tensors(model), loaded.base_id)
        take_off(model)

    model = load_tuned(loaded.model, tmp_path / "full-top")
    with pytest.raises(DataError, match="another method"):
        load_beside(model, tmp_path / "lora", "b")
    with pytest.raises(DataError, match="other layers"):
        load_beside(model, tmp_path / "full", "b")
    shutil.rmtree(tmp_path / "gpt2", ignore_errors=True)
    other = load_causal_lm(
        str(make_tiny(tmp_path / "gpt2", "gpt2")), revision=None, dtype="float32"
    )
    with pytest.raises(DataError, match="no weight of this base model"):
        load_tuned(other.model, tmp_path / "full")
    assert read_json(tmp_path / "full" / "adapter_config.json")["method"] == "full"


def test_a_prefix_that_leaves_too_little_room_is_refused_before_training(llama, tmp_path):
    loaded = load_causal_lm(str(llama), revision=None, dtype="float32")
    knobs = tune("prefix", virtual_tokens=300)

    with pytest.raises(ParamsError, match=r"512 positions of .*: lower student\.max_tokens to 212"):
        list(
            train_cells(
                loaded, {"0": FOLD}, examples(), dev(), student=STUDENT, tune=knobs, work=tmp_path
            )
        )


def test_a_prefix_under_gradient_checkpointing_is_refused(llama):
    """It would be dropped in silence: a checkpointed layer in training gets no cache."""
    loaded = load_causal_lm(str(llama), revision=None, dtype="float32")
    loaded.model.activation_checkpointing_enable()

    with pytest.raises(ParamsError, match="lost under gradient checkpointing"):
        tunable(loaded, tune("prefix"))


def test_four_bits_are_refused_where_they_cannot_run(llama):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ParamsError, match=r"tune\.quantize: nf4 needs a CUDA GPU"):
        load_causal_lm(str(llama), revision=None, dtype="float32", quantize="nf4")


def test_four_bits_and_full_tuning_contradict_each_other():
    assert tune("lora", quantize="nf4").quantize == "nf4"
    with pytest.raises(ValueError, match="set one of them"):
        tune("full", quantize="nf4")


def test_the_answers_are_three_in_the_order_of_the_records(llama):
    loaded = load_causal_lm(str(llama), revision=None, dtype="float32")

    [row, _] = Scorer(loaded, max_tokens=256, batch_size=4).probabilities(ITEMS)

    assert tuple(row) == ANSWERS
