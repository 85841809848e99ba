"""The stage vote scores with a real, very small model."""

from __future__ import annotations

import copy
import dataclasses

import pytest
from stages.vote import main

from medslm.data.records import ANSWERS, Ballot
from medslm.files import read_json, read_jsonl, write_jsonl
from tests.stages.quality_files import PAIRS, PARAMS, run, write_params, write_project


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A one-layer Llama with random weights and a tokenizer that knows a few words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny"
    known = ["[UNK]", "Abstract", "Question", "Answer", *ANSWERS, *":(),?", "treatment", "stay"]
    tokenizer = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(known)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(known),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch, tiny):
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, PAIRS)
    write_params(tmp_path, with_verifier(model=str(tiny)))
    return tmp_path


def with_verifier(**overrides):
    params = copy.deepcopy(PARAMS)
    params["quality"]["verifier"].update(overrides)
    return params


def vote(out="votes.jsonl"):
    return run(
        main,
        *("--pairs", "pairs", "--train", "train.jsonl", "--unlabelled", "unlabelled.jsonl"),
        *("--out", out, "--metrics", f"{out}.json"),
    )


def test_every_pair_gets_a_ballot_and_the_verifier_is_measured(project):
    result = vote()

    assert result.exit_code == 0, result.stderr
    ballots = read_jsonl(project / "votes.jsonl", Ballot)
    assert [ballot.pair_id for ballot in ballots] == [pair.id for pair in PAIRS]
    assert all(set(ballot.probabilities) == set(ANSWERS) for ballot in ballots)
    assert all(len(ballot.votes) == 3 for ballot in ballots)
    found = read_json(project / "votes.jsonl.json")
    assert found["on_gold"]["n"] == 4
    assert found["on_claims"]["n"] == len(PAIRS)
    assert found["by_teacher_and_strategy"] == {"local/rewrite": found["on_claims"]}
    assert found["weight"] == 0.0 == ballots[0].weight
    assert found["prompts"] == {"n": 3 * (4 + len(PAIRS)), "cut": 0}
    assert str(project) not in (project / "votes.jsonl").read_text(encoding="utf-8")


def test_equal_input_gives_equal_bytes_and_a_higher_bound_makes_it_abstain(project, tiny):
    vote("one.jsonl")
    vote("two.jsonl")
    write_params(project, with_verifier(model=str(tiny), abstain_below=1.0))
    vote("shy.jsonl")

    one, two, shy = (read_jsonl(project / f"{n}.jsonl", Ballot) for n in ("one", "two", "shy"))
    assert one == two
    assert all(ballot.answer for ballot in one)
    assert not any(ballot.answer for ballot in shy)


def test_a_model_that_is_not_there_exits_before_anything_is_written(project):
    write_params(project, with_verifier(model="no/such-model"))

    result = vote("other.jsonl")

    assert result.exit_code == 2
    assert "no/such-model" in result.stderr
    assert not (project / "other.jsonl").exists()


def test_b20_abstracts_that_do_not_fit_are_counted_and_the_question_stays_whole(project, tiny):
    write_params(project, with_verifier(model=str(tiny), max_tokens=64))
    long = " ".join(["Stay was shorter with treatment."] * 40)
    longer = [dataclasses.replace(pair, context=long) for pair in PAIRS]
    write_jsonl(project / "pairs" / "pairs.jsonl", longer)

    result = vote("long.jsonl")

    assert result.exit_code == 0, result.stderr
    assert read_json(project / "long.jsonl.json")["prompts"]["cut"] >= 3 * len(PAIRS)
    assert len(read_jsonl(project / "long.jsonl", Ballot)) == len(PAIRS)
