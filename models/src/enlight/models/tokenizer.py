"""The pocket base's own byte-level BPE vocabulary, in CLIP's file layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

from enlight.models.captions import all_captions
from enlight.models.settings import RecipeSettings

START, END = "<|startoftext|>", "<|endoftext|>"
# CLIP's own pattern for splitting a text into words
_WORDS = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
_COMMON_WORDS = (
    "the of and with in on at under over near next to between behind one two three small big large tiny little old"
    " new red green blue yellow black white pink brown gray purple orange golden silver picture painting drawing"
    " image portrait close up view front side top wearing holding sitting standing lying flying running sleeping"
    " happy sad cute funny beautiful dark bright light sunny cloudy house garden street window kitchen bedroom park"
    " lake river bridge boat island ship sks zwx person man woman child girl boy dog cat bird fish toy cup box"
)


def train_tokenizer(folder: Path, settings: RecipeSettings) -> None:
    """Learns the merges from the captions and writes `vocab.json`, `merges.txt` and the two config files.

    The trainer breaks ties at random, so two runs number some pieces differently: weights belong to the vocabulary
    they were trained with.

    Every text can be encoded, since all 256 bytes are in the vocabulary, alone and at a word's end.
    """
    model = Tokenizer(BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    model.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    model.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    reserved = 2 * len(alphabet) + 2
    trainer = BpeTrainer(
        vocab_size=settings.vocabulary_size - reserved + len(alphabet),
        min_frequency=1,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    model.train_from_iterator(all_captions() + [_COMMON_WORDS] * 3, trainer)
    merges = [tuple(merge) for merge in json.loads(model.to_str())["model"]["merges"]]
    pieces = alphabet + [f"{letter}</w>" for letter in alphabet]
    known = set(pieces)
    for left, right in merges:
        if left + right not in known:
            known.add(left + right)
            pieces.append(left + right)
    vocabulary = {piece: number for number, piece in enumerate([*pieces, START, END])}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": settings.prompt_length_tokens,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    special = {name: config[name] for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", encoding="utf-8")


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Reads the tokenizer that `train_tokenizer` wrote."""
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer
