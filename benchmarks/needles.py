"""Does one sentence in a document of up to 32,000 tokens still find it?

    python -m benchmarks.needles --candidates 20

The two synthetic tasks of LongEmbed (Zhu et al. 2024): a passkey among repeated filler, and a fact among real prose. For
every length, as many documents as candidates, each with its own sentence at a random place; each query must rank its
document first (accuracy@1). A length of one token is 0.75 words, as LongEmbed counts. The filler and the passkey
sentence are LongEmbed's; the facts, and the prose around them (the two public-domain texts of examples/corpus, drawn by
paragraphs), are this project's, because LongEmbed's essays are not free.

Runs the built-in model through the engine in three modes. Prints a Markdown table and one line of JSON.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import environment, print_json, print_table
from engine import open_engine
from engine.values import Document, Query

LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
WORDS_PER_TOKEN = 0.75
FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
NAMES = (
    "Amara", "Basil", "Carmen", "Dmitri", "Elena", "Farouk", "Greta", "Hiroshi",
    "Ingrid", "Jamal", "Keiko", "Luca", "Mireille", "Nikhil", "Olga", "Pedro",
    "Quentin", "Rosalind", "Sanjay", "Tamsin", "Ulrich", "Valeria", "Wilhelm", "Ximena",
    "Yusuf", "Zelda", "Anselm", "Beatrix", "Cedric", "Delphine", "Emeka", "Fiona",
    "Gustavo", "Henrietta", "Isidore", "Juniper", "Kwame", "Leopold", "Matilda", "Nehemiah",
)  # fmt: skip
FACTS = (
    ("Who discovered penicillin?", "Penicillin was discovered by Alexander Fleming in 1928."),
    ("What is the capital of Mongolia?", "Ulaanbaatar is the capital city of Mongolia."),
    ("How many bones does an adult human have?", "An adult human skeleton has 206 bones."),
    ("Which planet has the most moons?", "Saturn is the planet with the largest number of known moons."),
    ("Who painted the ceiling of the Sistine Chapel?", "Michelangelo painted the ceiling of the Sistine Chapel."),
    ("What metal is liquid at room temperature?", "Mercury is a metal that is liquid at room temperature."),
    ("Who wrote Don Quixote?", "Don Quixote was written by Miguel de Cervantes."),
    ("What is the longest river in South America?", "The Amazon is the longest river in South America."),
    ("What gas do plants absorb from the air?", "Plants absorb carbon dioxide from the air."),
    ("Who was the first woman to win a Nobel Prize?", "Marie Curie was the first woman to win a Nobel Prize."),
    ("How fast does light travel?", "Light travels at about 300,000 kilometres a second."),
    ("What is the hardest natural substance?", "Diamond is the hardest natural substance on Earth."),
    ("Which animal is the tallest?", "The giraffe is the tallest animal alive."),
    ("Who invented the telephone?", "Alexander Graham Bell is credited with inventing the telephone."),
    ("What is the currency of Japan?", "The yen is the currency of Japan."),
    ("Which ocean is the deepest?", "The Pacific is the deepest of the oceans."),
    ("Who composed the opera The Magic Flute?", "The Magic Flute is an opera composed by Wolfgang Amadeus Mozart."),
    ("At what temperature does water boil?", "Water boils at 100 degrees Celsius at sea level."),
    ("What is the chemical symbol of gold?", "The chemical symbol of gold is Au."),
    ("Where are the pyramids of Giza?", "The pyramids of Giza stand near Cairo in Egypt."),
    (
        "Who formulated the theory of general relativity?",
        "Albert Einstein formulated the theory of general relativity.",
    ),
    ("What organ pumps blood through the body?", "The heart pumps blood through the body."),
    ("Which bird cannot fly and lives in Antarctica?", "Penguins are flightless birds that live in Antarctica."),
    ("How many strings does a violin have?", "A violin has four strings."),
    ("What is the smallest prime number?", "Two is the smallest prime number."),
    ("Which mountain is the highest above sea level?", "Mount Everest is the highest mountain above sea level."),
    ("Who was the first person to walk on the Moon?", "Neil Armstrong was the first person to walk on the Moon."),
    ("What do bees make from nectar?", "Bees make honey from the nectar of flowers."),
    ("Which vitamin does sunlight help the skin to make?", "Sunlight helps the skin to make vitamin D."),
    ("What is the largest desert of hot sand?", "The Sahara is the largest hot desert."),
    ("Who wrote the play Hamlet?", "Hamlet is a play by William Shakespeare."),
    ("Which instrument measures atmospheric pressure?", "A barometer measures atmospheric pressure."),
    ("What is the main ingredient of guacamole?", "Avocado is the main ingredient of guacamole."),
    ("How long does the Earth take to orbit the Sun?", "The Earth takes about 365 days to orbit the Sun."),
    ("Which sea lies between Europe and Africa?", "The Mediterranean Sea lies between Europe and Africa."),
    ("What is the study of earthquakes called?", "Seismology is the study of earthquakes."),
    ("Who developed the polio vaccine?", "Jonas Salk developed the first successful polio vaccine."),
    ("What language is spoken in Brazil?", "Portuguese is the language spoken in Brazil."),
    ("Which game is played with a shuttlecock?", "Badminton is played with a shuttlecock."),
    (
        "What is the process by which caterpillars become butterflies?",
        "Caterpillars become butterflies by metamorphosis.",
    ),
)
MODES = ("dense", "bm25", "hybrid")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=len(FACTS), help="documents and queries for each length")
    parser.add_argument("--lengths", default=",".join(map(str, LENGTHS)), help="tokens, by commas")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--prose", type=Path, default=Path("examples/corpus"), help="folder of texts around the facts")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not 2 <= arguments.candidates <= len(FACTS):
        parser.error(f"--candidates must be 2 to {len(FACTS)}")
    paragraphs = [
        paragraph.strip()
        for path in sorted(arguments.prose.glob("*.txt"))
        for paragraph in path.read_text(encoding="utf-8").split("\n\n")
        if len(paragraph.split()) >= 20
    ]
    if not paragraphs:
        parser.error(f"no paragraphs in {arguments.prose}/*.txt")
    rows: list[list[object]] = []
    for length in map(int, arguments.lengths.split(",")):
        rng = random.Random(f"{arguments.seed} {length}")
        words = int(length * WORDS_PER_TOKEN)
        tasks = {
            "passkey": _passkeys(rng, arguments.candidates, words),
            "needle": _needles(rng, arguments.candidates, words, paragraphs),
        }
        for task, pairs in tasks.items():
            rows.append([task, length, *_accuracy(arguments.model, pairs)])
            print(*rows[-1], flush=True)
    print_table(["task", "tokens", *MODES, "seconds"], rows)
    print()
    settings = {"candidates": arguments.candidates, "model": arguments.model}
    print_json({"benchmark": "needles", **settings, "environment": environment(arguments.seed), "rows": rows})


def _passkeys(rng: random.Random, count: int, words: int) -> list[tuple[str, str]]:
    """(query, document) pairs; the passkey sentence lies at a random place of the filler."""
    filler = (FILLER * (words // 17 + 1)).split()
    pairs = []
    for name in NAMES[:count]:
        key = rng.randrange(10_000, 100_000)
        sentence = f"{name}'s pass key is {key}. Remember it. {key} is the pass key for {name}."
        pairs.append((f"what is the passkey for {name}?", _hide(rng, sentence, filler, words)))
    return pairs


def _needles(rng: random.Random, count: int, words: int, paragraphs: Sequence[str]) -> list[tuple[str, str]]:
    """(query, document) pairs; the fact lies at a random place of paragraphs in random order."""
    pairs = []
    for question, fact in FACTS[:count]:
        prose: list[str] = []
        while len(prose) < words:
            prose += " ".join(rng.sample(paragraphs, len(paragraphs))).split()
        pairs.append((question, _hide(rng, fact, prose, words)))
    return pairs


def _hide(rng: random.Random, sentence: str, words: list[str], limit: int) -> str:
    room = max(0, limit - len(sentence.split()))
    place = rng.randrange(room + 1)
    return " ".join([*words[:place], sentence, *words[place:room]])


def _accuracy(model: str, pairs: Sequence[tuple[str, str]]) -> list[object]:
    """Accuracy@1 in each mode, and the seconds that indexing took."""
    with tempfile.TemporaryDirectory() as folder, open_engine(Path(folder), model=model) as engine:
        collection = engine.create_collection("c")
        started = time.perf_counter()
        answers = collection.upsert([Document(doc_id=str(i), text=text) for i, (_, text) in enumerate(pairs)])
        assert not any(answer.error for answer in answers)
        collection.optimize()
        seconds = time.perf_counter() - started
        found: list[object] = []
        for mode in MODES:
            queries = [Query(text=question, mode=mode, limit=1) for question, _ in pairs]  # type: ignore[arg-type]
            results = collection.query_batch(queries)
            right = sum(bool(r.hits) and r.hits[0].doc_id == str(i) for i, r in enumerate(results))
            found.append(right / len(pairs))
    return [*found, round(seconds, 1)]


if __name__ == "__main__":
    main()
