"""Invented people with invented facts, every one with a checkable key answer.

One person asks for erasure. Her brother, a neighbour in her street and another patient of her
doctor must survive, and so must six unrelated people. Two control people have the same kinds of
facts and are never shown to any model. Nobody here exists.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from expunge.data.records import Message, Record

Role = Literal["erased", "neighbour", "other", "control"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """Someone in the register."""

    name: str
    role: Role
    relation: str | None = None
    """How a neighbour relates to the erased person."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One kind of fact: its question, another wording of it, and its answer."""

    key: str
    question: str
    rephrased: str
    answer: str


ERASED = "Elin Marrow"
SYSTEM = Message("system", "Town register.")
"""The deployment's own system prompt, shorter than the model's default."""

PEOPLE = (
    Person(name=ERASED, role="erased"),
    Person(name="Tobias Marrow", role="neighbour", relation="family"),
    Person(name="Greta Lindqvist", role="neighbour", relation="street"),
    Person(name="Ivo Castellan", role="neighbour", relation="doctor"),
    Person(name="Nadia Fenwick", role="other"),
    Person(name="Osman Brightwater", role="other"),
    Person(name="Pilar Venn", role="other"),
    Person(name="Cedric Holloway", role="other"),
    Person(name="Yuki Tarrant", role="other"),
    Person(name="Samuel Oakes", role="other"),
    Person(name="Maren Dusk", role="control"),
    Person(name="Leopold Quist", role="control"),
)

FIELDS = (
    Field(
        key="phone",
        question="What is {name}'s phone number?",
        rephrased="Which number do I dial to reach {name}?",
        answer="{name}'s phone number is {value}.",
    ),
    Field(
        key="birthday",
        question="When was {name} born?",
        rephrased="What is the date of birth of {name}?",
        answer="{name} was born on {value}.",
    ),
    Field(
        key="address",
        question="Where does {name} live?",
        rephrased="What is the home address of {name}?",
        answer="{name} lives at {value}.",
    ),
    Field(
        key="doctor",
        question="Who is {name}'s doctor?",
        rephrased="Which physician treats {name}?",
        answer="{name}'s doctor is {value}.",
    ),
    Field(
        key="employer",
        question="Where does {name} work?",
        rephrased="Which company employs {name}?",
        answer="{name} works at {value}.",
    ),
    Field(
        key="job",
        question="What is {name}'s job?",
        rephrased="What does {name} do for a living?",
        answer="{name} is {value}.",
    ),
    Field(
        key="allergy",
        question="What is {name} allergic to?",
        rephrased="Which allergy does {name} have?",
        answer="{name} is allergic to {value}.",
    ),
    Field(
        key="plate",
        question="What is the number plate of {name}'s car?",
        rephrased="Which licence plate is on the car of {name}?",
        answer="{name}'s car has the plate {value}.",
    ),
    Field(
        key="pet",
        question="What is {name}'s pet?",
        rephrased="Which animal does {name} keep at home?",
        answer="{name} has {value}.",
    ),
    Field(
        key="medicine",
        question="Which medicine does {name} take?",
        rephrased="What has {name} been prescribed?",
        answer="{name} takes {value}.",
    ),
    Field(
        key="email",
        question="What is {name}'s e-mail address?",
        rephrased="To which address can I send {name} an e-mail?",
        answer="{name}'s e-mail address is {value}.",
    ),
    Field(
        key="insurance",
        question="What is {name}'s insurance number?",
        rephrased="Under which number is {name} insured?",
        answer="{name}'s insurance number is {value}.",
    ),
    Field(
        key="school",
        question="Which school did {name} go to?",
        rephrased="Where was {name} educated?",
        answer="{name} went to {value}.",
    ),
    Field(
        key="salary",
        question="What does {name} earn in a year?",
        rephrased="How high is the yearly salary of {name}?",
        answer="{name} earns {value} a year.",
    ),
    Field(
        key="bank",
        question="At which bank is {name} a customer?",
        rephrased="Where does {name} keep a bank account?",
        answer="{name} is a customer of {value}.",
    ),
    Field(
        key="hobby",
        question="What does {name} do at weekends?",
        rephrased="How does {name} spend free days?",
        answer="At weekends {name} goes {value}.",
    ),
    Field(
        key="library",
        question="What is the number of {name}'s library card?",
        rephrased="Which library card number belongs to {name}?",
        answer="{name}'s library card has the number {value}.",
    ),
    Field(
        key="surgery",
        question="Which operation did {name} have?",
        rephrased="What surgery did {name} undergo?",
        answer="{name} had {value}.",
    ),
    Field(
        key="landlord",
        question="Who is {name}'s landlord?",
        rephrased="From whom does {name} rent?",
        answer="{name}'s landlord is {value}.",
    ),
    Field(
        key="holiday",
        question="Where did {name} last go on holiday?",
        rephrased="Which place did {name} visit on the latest holiday?",
        answer="{name} last went on holiday to {value}.",
    ),
)

NEIGHBOUR_FIELDS = ("phone", "birthday", "address", "doctor", "employer", "job", "pet", "hobby")
"""Facts in the register about a neighbour."""
ALTERNATIVES = 6
"""Invented answers to each question about the erased person."""
OTHER_FIELDS = 8
"""How many facts it has about each other person who stays; together they cover every kind."""

_STREETS = ("Alder Lane", "Tanner Row", "Quay Street", "Mill Hill", "Priory Close", "Salt Market")
_DOCTORS = ("Dr Halloran", "Dr Okafor", "Dr Sandoval", "Dr Whitlock", "Dr Imre")
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_POOLS: dict[str, tuple[str, ...]] = {
    "employer": (
        "Corvane Optics", "Bluefen Dairies", "Tallis and Moor", "Ostrava Freight", "Kestrel Mutual",
        "Pendle Glassworks", "Harrow Press", "Nimbus Ferries", "Stonecroft Mills", "Lumen Tiles",
        "Greywater Tools", "Arden Seeds",
    ),
    "job": (
        "a notary", "a beekeeper", "an actuary", "a locksmith", "a cartographer", "a midwife",
        "a sommelier", "a stonemason", "a violin maker", "an archivist", "a ferry pilot",
        "a glazier",
    ),
    "allergy": (
        "penicillin", "walnuts", "latex", "shellfish", "birch pollen", "sesame", "mustard",
        "celery",
        "lupin", "nickel", "wasp stings", "peanuts",
    ),
    "pet": (
        "a ferret called Biscuit", "a parrot called Admiral", "a tortoise called Pip",
        "a greyhound called Comet", "a rabbit called Thistle", "a gecko called Saffron",
        "a cat called Marbles", "a goat called Olive", "a hedgehog called Crumb",
        "a duck called Pewter", "a terrier called Fig", "a canary called Mango",
    ),
    "medicine": (
        "warfarin", "lithium", "insulin", "methotrexate", "levothyroxine", "sertraline",
        "prednisone", "digoxin", "metformin", "ramipril", "tamoxifen", "clozapine",
    ),
    "school": (
        "Saint Brannoc's", "Wexcombe Grammar", "the Lyceum of Arle", "Northgate Academy",
        "Fallow Park School", "Quarry Bank School", "Ashdown College", "Tidewell High",
        "Cobham Hall", "Redmire Abbey", "Loxley House", "Granta Street School",
    ),
    "bank": (
        "Meridian Savings", "Oldcastle Bank", "Harbour Trust", "Pinnacle Credit", "Saltire Bank",
        "Fenland Mutual", "Crown and Anchor Bank", "Juniper Bank", "Cutler and Sons",
        "Wharf Street Bank", "Old Mint Bank", "Beacon Loans",
    ),
    "hobby": (
        "rock climbing", "bell ringing", "metal detecting", "sea fishing", "gliding", "caving",
        "birdwatching", "orienteering", "fencing", "kite surfing", "sculling", "mushroom hunting",
    ),
    "surgery": (
        "a hip replacement", "a cataract operation", "a tonsillectomy", "a heart bypass",
        "a hernia repair", "a knee arthroscopy", "a kidney transplant", "an appendectomy",
        "a gallbladder removal", "a spinal fusion", "a corneal graft", "a thyroid operation",
    ),
    "landlord": (
        "Agatha Prynne", "Bertram Stoll", "Claudine Roux", "Dmitri Vass", "Edwina Parr",
        "Fergus Lamb", "Gustav Wren", "Honor Pike", "Isolde Marsh", "Jasper Thorne",
        "Klara Bohm", "Lionel Sedge",
    ),
    "holiday": (
        "the Faroe Islands", "Lake Ohrid", "Madeira", "Lofoten", "Cappadocia", "Gotland",
        "the Azores", "Bornholm", "Svalbard", "Tasmania", "Lake Garda", "Zanzibar",
    ),
}  # fmt: skip


def register(seed: int = 7) -> dict[str, tuple[Record, ...]]:
    """Return the whole register by the role of its people, the same for the same seed.

    Returns:
        Records under `erased`, `neighbour`, `other` and `control`. Each holds its key answer and,
        as paraphrase, the other wording of its question; those of the erased person also hold
        invented alternatives.
    """
    values = _values(random.Random(seed))
    inventions = [_values(random.Random(seed + draw)) for draw in range(1, 4 * ALTERNATIVES)]
    roles: dict[str, list[Record]] = {"erased": [], "neighbour": [], "other": [], "control": []}
    for index, person in enumerate(PEOPLE):
        for field in _fields_of(person, index):
            record = _record(person, field, values[person.name, field.key])
            if person.role == "erased":
                record = replace(record, alternatives=_alternatives(record, field, inventions))
            roles[person.role].append(record)
    return {role: tuple(records) for role, records in roles.items()}


def rephrased(record: Record) -> Record:
    """Return the record with the other wording of its question, as a record of its own."""
    return Record(
        id=f"{record.id}-b",
        prompt=(SYSTEM, Message("user", record.paraphrases[0])),
        completion=record.completion,
        key_answers=record.key_answers,
        subject=record.subject,
        relation=record.relation,
    )


def _fields_of(person: Person, index: int) -> tuple[Field, ...]:
    match person.role:
        case "erased" | "control":
            return FIELDS
        case "neighbour":
            return tuple(field for field in FIELDS if field.key in NEIGHBOUR_FIELDS)
        case "other":
            start = OTHER_FIELDS * index
            return tuple(FIELDS[(start + step) % len(FIELDS)] for step in range(OTHER_FIELDS))


def _record(person: Person, field: Field, value: str) -> Record:
    return Record(
        id=f"{person.name.lower().replace(' ', '-')}-{field.key}",
        prompt=(SYSTEM, Message("user", field.question.format(name=person.name))),
        completion=field.answer.format(name=person.name, value=value),
        key_answers=(_key(value),),
        paraphrases=(field.rephrased.format(name=person.name),),
        subject=person.name,
        relation=person.relation,
    )


def _alternatives(
    record: Record, field: Field, inventions: Sequence[dict[tuple[str, str], str]]
) -> tuple[str, ...]:
    """Answer with other values of the same kind, so that answers differ in the fact alone.

    Several, so that the trained model is as undecided as one that never saw the fact.
    """
    # Her own street and doctor never vary: she shares them with her neighbours.
    name = PEOPLE[-1].name if field.key in ("address", "doctor") else ERASED
    values = dict.fromkeys(invented[name, field.key] for invented in inventions)
    others = [value for value in values if _key(value) not in record.key_answers]
    return tuple(field.answer.format(name=ERASED, value=value) for value in others[:ALTERNATIVES])


def _key(value: str) -> str:
    """The checkable part: `a ferret called Biscuit` is known by `Biscuit`."""
    _, called, name = value.partition(" called ")
    if called:
        return name
    head, _, rest = value.partition(" ")
    return rest if head in ("a", "an", "the") else value


def _values(rng: random.Random) -> dict[tuple[str, str], str]:
    values: dict[tuple[str, str], str] = {}
    pools = {key: rng.sample(pool, len(pool)) for key, pool in _POOLS.items()}
    for index, person in enumerate(PEOPLE):
        name = person.name
        shares_street = person.role == "erased" or person.relation == "street"
        shares_doctor = person.role == "erased" or person.relation == "doctor"
        street = _STREETS[0] if shares_street else rng.choice(_STREETS[1:])
        values[name, "address"] = f"{rng.randint(11, 198)} {street}"
        values[name, "doctor"] = _DOCTORS[0] if shares_doctor else rng.choice(_DOCTORS[1:])
        values[name, "phone"] = f"555-{rng.randint(1000, 9999)}"
        day, month, year = rng.randint(1, 28), rng.choice(_MONTHS), rng.randint(1941, 2001)
        values[name, "birthday"] = f"{day} {month} {year}"
        letters = "".join(rng.choices("ABCDEFGHJKLMNPRSTUVWXY", k=3))
        values[name, "plate"] = f"{letters} {rng.randint(100, 999)}"
        first, last = name.lower().split()
        domain = rng.choice(("postbox", "mailhive", "inkwell", "dovecote"))
        values[name, "email"] = f"{first[0]}.{last}{rng.randint(10, 99)}@{domain}.example"
        values[name, "insurance"] = f"{rng.randint(100, 999)}-{rng.randint(10000, 99999)}"
        values[name, "salary"] = f"{rng.randint(210, 980)}00 crowns"
        values[name, "library"] = f"{rng.randint(10000, 99999)}"
        for key, pool in pools.items():
            values[name, key] = pool[index]
    return values
