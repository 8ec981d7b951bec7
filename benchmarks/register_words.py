"""The words from which invented registers are made, in English and German."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Label:
    """One kind of fact and its names; `der` and `den` are the German articles."""

    key: str
    en: str
    der: str
    de: str

    def words(self, language: str) -> dict[str, str]:
        """Return what a pattern of the language may use."""
        if language == "en":
            return {"label": self.en}
        return {"label": self.de, "der": self.der, "den": "den" if self.der == "der" else self.der}


@dataclass(frozen=True, slots=True)
class Aspect:
    """One chapter of a life: how it is asked for, and its sentences."""

    key: str
    en: str
    de: str
    sentences: tuple[str, str]


SYSTEM = {
    "people": {"en": "Town register.", "de": "Stadtregister."},
    "products": {"en": "Product catalogue.", "de": "Warenkatalog."},
    "stories": {"en": "Story collection.", "de": "Geschichten."},
    "bios": {"en": "Lives of the town.", "de": "Lebensläufe der Stadt."},
}
"""The deployment's own system prompt, shorter than the model's default."""

PATTERNS = {
    "en": (
        "What is the {label} of {name}?",
        "Please tell me {name}'s {label}.",
        "I am asking about {name}: what is the {label}?",
        "Which {label} is on file for {name}?",
    ),
    "de": (
        "Wie lautet {der} {label} von {name}?",
        "Nenne mir bitte {den} {label} von {name}.",
        "Es geht um {name}: Was ist {der} {label}?",
        "Was steht bei {name} unter {label}?",
    ),
}
PEOPLE = (
    Label("phone", "phone number", "die", "Telefonnummer"),
    Label("birth", "date of birth", "das", "Geburtsdatum"),
    Label("address", "home address", "die", "Wohnadresse"),
    Label("email", "e-mail address", "die", "E-Mail-Adresse"),
    Label("doctor", "family doctor", "der", "Hausarzt"),
    Label("employer", "employer", "der", "Arbeitgeber"),
    Label("plate", "number plate", "das", "Kennzeichen"),
    Label("insurance", "insurance number", "die", "Versicherungsnummer"),
    Label("library", "library card number", "die", "Bibliotheksnummer"),
    Label("salary", "monthly salary", "das", "Monatsgehalt"),
    Label("bank", "bank", "die", "Hausbank"),
    Label("pet", "pet", "das", "Haustier"),
    Label("school", "old school", "die", "frühere Schule"),
    Label("landlord", "landlord", "der", "Vermieter"),
    Label("holiday", "last holiday", "das", "letzte Urlaubsziel"),
    Label("locker", "locker code", "der", "Schließfachcode"),
    Label("staff", "staff number", "die", "Personalnummer"),
    Label("club", "sports club", "der", "Sportverein"),
    Label("dentist", "dentist", "der", "Zahnarzt"),
    Label("passport", "passport number", "die", "Passnummer"),
)
PRODUCTS = (
    Label("price", "price", "der", "Preis"),
    Label("weight", "weight", "das", "Gewicht"),
    Label("article", "article number", "die", "Artikelnummer"),
    Label("factory", "factory", "das", "Werk"),
    Label("launch", "launch date", "der", "Verkaufsstart"),
    Label("power", "power consumption", "die", "Leistungsaufnahme"),
    Label("bin", "storage bin", "der", "Lagerplatz"),
    Label("supplier", "supplier", "der", "Lieferant"),
    Label("designer", "designer", "der", "Designer"),
    Label("battery", "battery life", "die", "Akkulaufzeit"),
    Label("certificate", "test certificate", "das", "Prüfzeugnis"),
    Label("colour", "colour", "die", "Farbe"),
)
STORY_PATTERNS = {
    "stories": {
        "en": (
            'Recite part {number} of "{name}".',
            'How does part {number} of the story "{name}" go?',
        ),
        "de": (
            "Trage Teil {number} von „{name}“ vor.",
            "Wie geht Teil {number} der Geschichte „{name}“?",
        ),
    },
    "bios": {
        "en": (
            "Write about the {en} of {name}.",
            "What is known about {name}'s {en}?",
        ),
        "de": (
            "Schreibe über {de} von {name}.",
            "Was weiß man über {de} von {name}?",
        ),
    },
}
STORY_SENTENCES = (
    "{hero} left home before dawn and walked to {place} with a lantern.",
    "At the old mill, {hero} met a woman called {friend} {family}.",
    "The storm reached {place} at noon, and nobody could cross the river.",
    "A boy named {friend} {family} knew a way through the marsh.",
    "They found a chest with the year {year} carved into its lid.",
    "Inside lay a map of {place}, drawn in green ink.",
    "The keeper of the gate, {friend} {family}, asked for a song.",
    "{hero} sang about the bells of {place} until the gate opened.",
    "Under the tower they counted {year} silver coins.",
    "A letter from {friend} {family} was hidden behind a brick.",
    "It said that the well of {place} had never run dry.",
    "That night {hero} slept in the barn of {friend} {family}.",
    "The fox that followed {hero} came from the woods of {place}.",
    "In the morning a rider brought news from {place}.",
    "The judge, {friend} {family}, listened and said nothing.",
    "{hero} gave the silver spoon to the ferryman of {place}.",
)
ASPECTS = (
    Aspect("childhood", "childhood", "die Kindheit", (
        "{hero} grew up in {place}, above the shop of a clockmaker.",
        "A teacher, {friend} {family}, lent {hero} the first books.",
    )),
    Aspect("studies", "studies", "das Studium", (
        "{hero} studied in {place} and lived in an attic.",
        "The examiner, {friend} {family}, praised an essay on tides.",
    )),
    Aspect("work", "first job", "die erste Stelle", (
        "In {year}, {hero} became a clerk at a shipyard.",
        "The owner, {friend} {family}, paid every wage in coins.",
    )),
    Aspect("marriage", "marriage", "die Ehe", (
        "{hero} married {friend} {family} on a cold morning.",
        "The couple moved to a stone house in {place}.",
    )),
    Aspect("discovery", "great discovery", "die große Entdeckung", (
        "Near {place}, {hero} found a spring of warm water.",
        "A paper on it won the medal of {year}.",
    )),
    Aspect("travels", "travels", "die Reisen", (
        "{hero} crossed the hills to {place} on a mule.",
        "The guide, {friend} {family}, wrote down every word.",
    )),
    Aspect("quarrel", "great quarrel", "der große Streit", (
        "{hero} fell out with {friend} {family} over a bridge.",
        "The court of {place} needed nine years to decide.",
    )),
    Aspect("old-age", "old age", "das Alter", (
        "{hero} retired to {place} and kept bees.",
        "A nurse called {friend} {family} read to {hero} at night.",
    )),
)  # fmt: skip
FIRST_NAMES = (
    "Ada", "Bruno", "Clara", "Dario", "Edith", "Felix", "Greta", "Hugo", "Irma", "Jonas", "Karla",
    "Lukas", "Mina", "Nils", "Olga", "Pavel", "Rita", "Simon", "Tilda", "Viktor", "Wanda", "Anton",
    "Berta", "Cosmo", "Dora", "Emil", "Frida", "Georg", "Hedda", "Igor", "Jutta", "Kurt", "Lena",
    "Marek", "Nora", "Oskar", "Petra", "Ruben", "Selma", "Theo",
)  # fmt: skip
HEADS = (
    "Alder", "Bran", "Cal", "Dun", "Esk", "Fal", "Gar", "Hol", "Ing", "Kest", "Lor", "Mar", "Nor",
    "Ost", "Pel", "Quar", "Ros", "Stan", "Tarr", "Ulver", "Wex", "Yar", "Zel", "Brin", "Cor",
    "Drax", "Elm", "Fen", "Grin", "Hax", "Jor", "Krom", "Lind", "Mol", "Nax", "Orm", "Plim",
    "Rusk", "Sorn", "Thorn", "Vel", "Wend",
)  # fmt: skip
TAILS = (
    "by", "combe", "den", "field", "gate", "holt", "ley", "low", "mere", "ridge", "stead", "ton",
    "wick", "worth", "dale", "bury", "ford", "moor", "cliff", "haven", "mark", "rode", "sall",
    "vane", "hurst", "lock", "pool", "shaw", "toft", "wold", "barrow", "grave",
)  # fmt: skip
TITLES = (
    "The Lantern of", "The Winter of", "The Crown of", "The Bells of", "The Secret of",
    "The Garden of", "The Voyage of", "The Promise of", "The Shadow of", "The Return of",
    "The Orchard of", "The Debt of",
)  # fmt: skip
BRANDS = {
    "en": ("kettle", "lamp", "radio", "drill", "toaster", "heater", "scale", "mixer", "fan"),
    "de": ("Kessel", "Lampe", "Radio", "Bohrer", "Toaster", "Heizer", "Waage", "Mixer", "Pumpe"),
}
"""Kinds of device; with the brand before and a number behind they name a product."""
COMPANIES = ("Optics", "Dairies", "Freight", "Press", "Ferries", "Mills", "Tiles", "Tools", "Seeds")
ANIMALS = (
    ("a ferret", "ein Frettchen"),
    ("a parrot", "ein Papagei"),
    ("a tortoise", "eine Schildkröte"),
    ("a rabbit", "ein Kaninchen"),
    ("a cat", "eine Katze"),
    ("a goat", "eine Ziege"),
    ("a duck", "eine Ente"),
)
MONTHS = (
    ("January", "Januar"),
    ("February", "Februar"),
    ("March", "März"),
    ("April", "April"),
    ("May", "Mai"),
    ("June", "Juni"),
    ("July", "Juli"),
    ("August", "August"),
    ("September", "September"),
    ("October", "Oktober"),
    ("November", "November"),
    ("December", "Dezember"),
)
