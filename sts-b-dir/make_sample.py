"""A made-up STS-B-DIR, for trying and testing: sentence pairs from a grammar, whose shared meaning follows the score.

    python make_sample.py                          3,000 / 500 / 500 pairs into sample/STS-B, the real file layout
    python make_sample.py --train 600 --test 200 --seed 1 --out sample/small

A sentence says who does what to what, and where; adjectives and places may be missing. A pair shares, varies or changes
each part so that the weighted share comes near score / 5; what is shared is said in other words (synonyms, passive,
another order). Scores of train are imbalanced like the real ones (many 0, most from 3 on, multiples of 0.2 and few
others: means of mostly five raters); dev and test hold equally many pairs in each quarter of a point.
Numbers on this sample are no benchmark results.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from glue_data.create_sts import BINS, WIDTH, describe, write_split

from imbalanced_regression.cli import ArgumentParser, guard

HERE = Path(__file__).resolve().parent


def parse(text: str) -> list[list[list[str]]]:
    """Groups, split at ";", of meanings, split at ",", of the words for one meaning, split at "|"."""
    groups = " ".join(text.split()).split(";")
    return [[meaning.strip().split("|") for meaning in group.split(",")] for group in groups]


# Two meanings of one group are related. A verb is written "doing/done" and goes with the objects of its domain.
WHO = parse("""man|guy|gentleman, woman|lady, boy|lad, girl|lass, child|kid, baby|infant, teenager|adolescent;
    doctor|physician, nurse|caregiver, teacher|instructor, lawyer|attorney, farmer|grower, soldier|trooper;
    policeman|cop, fireman|firefighter, worker|laborer, carpenter|joiner, tailor|dressmaker, sailor|mariner;
    dog|hound, cat|kitten, monkey|ape, bear|grizzly, rabbit|bunny, elephant|mammoth;
    singer|vocalist, dancer|ballerina, actor|performer, painter|artist, writer|author, athlete|sportsman""")
DOMAINS = [
    (
        parse("""slicing/sliced|cutting/cut|chopping/chopped, cooking/cooked|preparing/prepared;
            eating/eaten|devouring/devoured, smelling/smelled|sniffing/sniffed"""),
        parse("""potato|spud, onion|shallot, carrot|parsnip, tomato|pepper; bread|loaf, cake|pastry, cookie|biscuit;
            soup|broth, meat|beef|steak, shrimp|prawn"""),
    ),
    (
        parse("""playing/played|strumming/strummed, tuning/tuned|adjusting/adjusted;
            selling/sold|trading/traded, buying/bought|purchasing/purchased"""),
        parse("""guitar|banjo, violin|fiddle, cello|bass; piano|keyboard, organ|harpsichord;
            flute|recorder, trumpet|bugle, drum|tambourine"""),
    ),
    (
        parse("""riding/ridden|mounting/mounted, racing/raced|speeding/sped;
            stopping/stopped|halting/halted, pushing/pushed|shoving/shoved"""),
        parse("""bicycle|bike, motorcycle|motorbike, scooter|moped; car|automobile, truck|lorry, bus|coach;
            horse|pony, donkey|mule"""),
    ),
    (
        parse("""throwing/thrown|tossing/tossed, kicking/kicked|booting/booted;
            catching/caught|grabbing/grabbed, dropping/dropped|losing/lost"""),
        parse("""ball|football, frisbee|disc, stick|branch; stone|rock, bottle|flask;
            hat|cap, coat|jacket, shoe|sandal"""),
    ),
    (
        parse("""reading/read|studying/studied, writing/written|drafting/drafted;
            carrying/carried|holding/held, burning/burned|torching/torched"""),
        parse("""book|novel, poem|verse, story|tale; letter|note, newspaper|journal, report|document;
            map|chart, menu|list"""),
    ),
    (
        parse("""building/built|constructing/constructed, repairing/repaired|fixing/fixed|mending/mended;
            painting/painted|coloring/colored, destroying/destroyed|wrecking/wrecked"""),
        parse("""house|home, cottage|cabin, barn|shed; boat|ship, raft|canoe;
            fence|railing, wall|barrier, bridge|overpass, road|highway"""),
    ),
    (
        parse("""watching/watched|observing/observed, filming/filmed|recording/recorded;
            describing/described|explaining/explained, criticizing/criticized|condemning/condemned"""),
        parse("""movie|thriller, play|drama, match|game; speech|lecture, debate|discussion;
            election|vote, trial|hearing, protest|demonstration"""),
    ),
]
WHERE = parse("""in the park|in the garden, in the forest|in the woods, in the field|in the meadow;
    on the beach|on the shore, near the river|near the stream, by the lake|by the pond;
    in the kitchen|in the pantry, in the room|in the lounge, on the couch|on the sofa, in the office|at the desk;
    on the street|on the pavement, at the station|at the terminal, in the shop|in the store, downtown|in the city;
    on the mountain|on the hill, under the tree|under the oak, behind the barn|behind the stable""")
WHO_LIKE = parse("""young|youthful, old|elderly|aged; happy|cheerful|smiling, sad|gloomy, angry|furious;
    tall|lanky, fat|stout, strong|muscular, tired|weary""")
WHAT_LIKE = parse("""big|large|huge, small|little|tiny; red|crimson, blue|azure, green|olive, white|pale, black|dark;
    new|modern, broken|damaged, dirty|filthy, expensive|costly, cheap|inexpensive""")

WEIGHTS = {"who": 0.27, "verb": 0.27, "what": 0.24, "where": 0.14, "who_like": 0.04, "what_like": 0.04}
SAME, RELATED, OTHER = 1.0, 0.3, 0.0
# every way to share the parts, but an object of another domain than the verb's
STATES = np.array([s for s in product((SAME, RELATED, OTHER), repeat=len(WEIGHTS)) if s[1] > OTHER or s[2] == OTHER])
SHARES = STATES @ np.array(list(WEIGHTS.values()))
JITTER = 0.03  # standard deviation of a pair's true share around score / 5: what no model can learn


def draw_scores(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count,) scores in [0, 5] as train has them: peaks at 0 and 5, a hill around 3.4, means of few raters."""
    grid = np.linspace(0.1, 5, 50)
    density = 1 + 2 * np.exp(-(((grid - 3.4) / 0.75) ** 2))
    truth = rng.choice(grid, count, p=density / density.sum()) + rng.uniform(-0.1, 0, count)
    peaks = rng.random(count)
    truth[peaks < 0.08] = 0
    truth[peaks > 0.965] = 5
    raters = rng.choice([5, 1, 4, 3, 6, 7, 9, 11, 13, 15], count, p=[0.83, 0.06, 0.05, 0.01, *[0.05 / 6] * 6])
    return np.round(truth * raters) / raters


def draw_balanced(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count,) such scores, equally many in each of the 20 quarters of a point (the lowest get the remainder)."""
    pool = draw_scores(rng, 20 * count + 4000)
    bins = np.minimum((pool / WIDTH).astype(int), BINS - 1)
    return np.concatenate([pool[bins == b][: count // BINS + (b < count % BINS)] for b in range(BINS)])


class Maker:
    """Draws pairs of sentences; all randomness comes from `rng`."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def pick(self, items):
        """One of them, the earlier ones more often: a few words make most of a text."""
        return items[int(self.rng.random() ** 2 * len(items))]

    def part(self, groups: list, state: float) -> tuple[list[str], list[str]]:
        """The words of one part of both sentences: of the same meaning, of two in one group, or of two groups."""
        group = self.pick(groups)
        meaning = self.pick(group)
        if state == SAME:
            return meaning, meaning
        if state == RELATED:
            return meaning, self.pick([other for other in group if other is not meaning])
        return meaning, self.pick(self.pick([other for other in groups if other is not group]))

    def pair(self, score: float) -> tuple[str, str]:
        share = score / 5 + JITTER * self.rng.standard_normal() * (0 < score < 5)
        likely = np.cumsum(np.exp(-0.5 * ((SHARES - np.clip(share, 0, 1)) / 0.02) ** 2))
        state = dict(zip(WEIGHTS, STATES[np.searchsorted(likely, self.rng.random() * likely[-1], side="right")]))
        domain = self.pick(DOMAINS)
        parts = {}  # name -> the words of the first sentence and of the second
        if state["verb"] == OTHER:
            domains = domain, self.pick([other for other in DOMAINS if other is not domain])
            parts["verb"] = [self.pick(self.pick(verbs)) for verbs, _ in domains]
            parts["what"] = [self.pick(self.pick(whats)) for _, whats in domains]
        else:
            parts["verb"] = self.part(domain[0], state["verb"])
            parts["what"] = self.part(domain[1], state["what"])
        for name, groups, unsaid in (
            ("who", WHO, 0.0),
            ("where", WHERE, 0.3),
            ("who_like", WHO_LIKE, 0.75),
            ("what_like", WHAT_LIKE, 0.75),
        ):
            first, second = self.part(groups, state[name])
            if self.rng.random() < unsaid:  # by the second; if both would say the same, by the first too
                first, second = ([] if state[name] == SAME else first), []
            parts[name] = first, second
        first, second = ({name: both[i] for name, both in parts.items()} for i in (0, 1))
        return self.say(first), self.say(second)

    def say(self, parts: dict[str, list[str]]) -> str:
        """A sentence of a word for each part."""
        word = {name: self.pick(meaning) for name, meaning in parts.items() if meaning}
        doing, done = word["verb"].split("/")
        who = self.noun(word.get("who_like"), word["who"])
        what = self.noun(word.get("what_like"), word["what"])
        where = word.get("where")
        turn = self.rng.random()
        if turn < 0.2:
            sentence = f"{what} is being {done} by {who}"
        elif turn < 0.35:
            sentence = f"there is {who} {doing} {what}"
        else:
            sentence = f"{who} is {doing} {what}"
        if where:
            sentence = f"{where}, {sentence}" if self.rng.random() < 0.2 else f"{sentence} {where}"
        return sentence[0].upper() + sentence[1:] + "."

    def noun(self, like: str | None, noun: str) -> str:
        words = f"{like} {noun}" if like else noun
        return f"{'the' if self.rng.random() < 0.25 else 'an' if words[0] in 'aeio' else 'a'} {words}"


def make(seed: int, train: int, test: int) -> dict[str, list[list[str]]]:
    """File -> rows of 10 strings."""
    rng = np.random.default_rng(seed)
    maker = Maker(rng)
    split = {}
    for name, scores in {
        "train_new.tsv": draw_scores(rng, train),
        "dev_new.tsv": draw_balanced(rng, test),
        "test_new.tsv": draw_balanced(rng, test),
    }.items():
        split[name] = [
            [str(i), "sample", "grammar", "none", f"{i:04d}", "none", "none", *maker.pair(score), f"{score:.3f}"]
            for i, score in enumerate(scores)
        ]
    return split


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=3000, help="pairs in train")
    parser.add_argument("--test", type=int, default=500, help="pairs in dev, and in test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "sample" / "STS-B", help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="replace other files of these names")
    args = parser.parse_args()
    if args.seed < 0:
        parser.error(f"--seed {args.seed}: pass 0 or more")
    if args.train < 1 or args.test < BINS:
        parser.error(f"--train {args.train}, --test {args.test}: pass at least 1 and {BINS}")
    made = f"a sample made by make_sample.py --seed {args.seed} --train {args.train} --test {args.test}, no real data"
    write_split(make(args.seed, args.train, args.test), args.out, made, args.overwrite)
    print(describe(args.out))


if __name__ == "__main__":
    guard(main)
