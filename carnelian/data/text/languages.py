"""What a language writes shorter than it speaks: abbreviations, symbols, units, currencies, hesitations."""

from collections.abc import Mapping
from dataclasses import dataclass, field

LANGUAGE_RULES_VERSION = "1"
"""Raised whenever the text that these tables give changes; it is kept in manifests and printed with every figure."""


@dataclass(frozen=True)
class LanguageRules:
    """How one language is written out. Keys of the tables are regular expressions in small letters where it says so.

    abbreviations: patterns, matched in text as written with capitals ignored, and the words they stand for.
    symbols: signs that are spoken. units: what may follow a number. currencies: sign, its unit and hundredth (one, many).
    hesitations: patterns of whole words, and the one spelling kept for each.
    point: what is said for the decimal mark. decimal: the mark itself. digits: decimals are read digit by digit.
    ordinal: what follows the digits of an ordinal number. years: numbers of this pattern are read as years.
    strip_accents: letters lose their marks, as the language's own words have none.
    frequent: words by which the language is told from others.
    """

    point: str
    decimal: str = ","
    digits: bool = False
    percent: str = ""
    minus: str = ""
    ordinal: str = r"(?!)"
    years: str = r"(?!)"
    clock: str = ""
    strip_accents: bool = False
    frequent: str = ""
    abbreviations: Mapping[str, str] = field(default_factory=dict)
    symbols: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    currencies: Mapping[str, tuple[str, str, str, str]] = field(default_factory=dict)
    hesitations: Mapping[str, str] = field(default_factory=dict)


ENGLISH_RULES = LanguageRules(
    frequent="the and of to in is that it was he for on with you this are not have they at",
    point="point",
    decimal=".",
    digits=True,
    percent="percent",
    minus="minus",
    ordinal="st|nd|rd|th",
    years=r"1[1-9]\d\d|20[1-9]\d",
    clock="o'clock",
    strip_accents=True,
    abbreviations={
        r"mr\b\.?": "mister",
        r"mrs\b\.?": "missus",
        r"dr\b\.?(?=\s+[a-z])": "doctor",
        r"prof\.": "professor",
        r"st\.(?=\s+[a-z])": "saint",
        r"st\.": "street",
        r"jr\b\.?": "junior",
        r"sr\b\.?": "senior",
        r"gen\.(?=\s+[a-z])": "general",
        r"gov\.(?=\s+[a-z])": "governor",
        r"sen\.(?=\s+[a-z])": "senator",
        r"rep\.(?=\s+[a-z])": "representative",
        r"capt\.": "captain",
        r"lt\.": "lieutenant",
        r"col\.(?=\s+[a-z])": "colonel",
        r"sgt\.": "sergeant",
        r"rev\.": "reverend",
        r"hon\.": "honorable",
        r"ave\.": "avenue",
        r"blvd\.": "boulevard",
        r"mt\.(?=\s+[a-z])": "mount",
        r"ft\.(?=\s+[a-z])": "fort",
        r"dept\.": "department",
        r"inc\.": "incorporated",
        r"ltd\.": "limited",
        r"corp\.": "corporation",
        r"bros\.": "brothers",
        r"approx\.": "approximately",
        r"no\.(?=\s*\d)": "number",
        r"nos\.(?=\s*\d)": "numbers",
        r"vol\.(?=\s*\d)": "volume",
        r"pp\.(?=\s*\d)": "pages",
        r"vs?\.": "versus",
        r"etc\.?": "et cetera",
        r"e\.\s?g\.": "for example",
        r"i\.\s?e\.": "that is",
    },
    symbols={"&": "and", "+": "plus", "=": "equals", "@": "at", "%": "percent", "°": "degrees", "№": "number"},
    units={
        r"km/h": "kilometers per hour",
        r"mph": "miles per hour",
        r"km": "kilometers",
        r"cm": "centimeters",
        r"mm": "millimeters",
        r"kg": "kilograms",
        r"mg": "milligrams",
        r"lbs?": "pounds",
        r"oz": "ounces",
        r"ft": "feet",
        r"hz": "hertz",
        r"khz": "kilohertz",
        r"mhz": "megahertz",
        r"gb": "gigabytes",
        r"mb": "megabytes",
        r"°\s?c": "degrees celsius",
        r"°\s?f": "degrees fahrenheit",
    },
    currencies={
        "$": ("dollar", "dollars", "cent", "cents"),
        "€": ("euro", "euros", "cent", "cents"),
        "£": ("pound", "pounds", "penny", "pence"),
        "¥": ("yen", "yen", "", ""),
    },
    hesitations={
        r"u+h+m*|uhm+": "uh",
        r"u+m+|erm+": "um",
        r"e+r+": "er",
        r"e+h+": "eh",
        r"a+h+": "ah",
        r"h+m+": "hmm",
        r"m{2,}h*|mh+m+": "mm",
    },
)

SPANISH_RULES = LanguageRules(
    frequent="el la los las de que y en un una es no se por con para lo del como más",
    point="coma",
    percent="por ciento",
    minus="menos",
    ordinal=r"\.?[ºª°]|\.?er|\.?(?:º|ª)s",
    abbreviations={
        r"sr\.": "señor",
        r"sres\.": "señores",
        r"sra\.": "señora",
        r"sras\.": "señoras",
        r"srta\.": "señorita",
        r"dr\.": "doctor",
        r"dra\.": "doctora",
        r"d\.(?=\s+[a-záéíóúñ])": "don",
        r"d\.?ª|dña\.": "doña",
        r"uds\.|vds\.": "ustedes",
        r"ud\.|vd\.": "usted",
        r"sto\.": "santo",
        r"sta\.": "santa",
        r"prof\.": "profesor",
        r"profa\.": "profesora",
        r"ing\.": "ingeniero",
        r"lic\.": "licenciado",
        r"gral\.": "general",
        r"avda\.|av\.": "avenida",
        r"núm\.|nº\.?|n\.º": "número",
        r"págs\.": "páginas",
        r"pág\.|p\.(?=\s*\d)": "página",
        r"cap\.(?=\s*\d)": "capítulo",
        r"art\.(?=\s*\d)": "artículo",
        r"tel\.": "teléfono",
        r"ee\.?\s?uu\.?": "estados unidos",
        r"p\.\s?ej\.": "por ejemplo",
        r"etc\.": "etcétera",
        r"a\.\s?c\.": "antes de cristo",
        r"d\.\s?c\.": "después de cristo",
    },
    symbols={"&": "y", "+": "más", "=": "igual a", "@": "arroba", "%": "por ciento", "°": "grados", "№": "número"},
    units={
        r"km/h": "kilómetros por hora",
        r"km": "kilómetros",
        r"cm": "centímetros",
        r"mm": "milímetros",
        r"kg": "kilogramos",
        r"mg": "miligramos",
        r"hz": "hercios",
        r"gb": "gigabytes",
        r"mb": "megabytes",
        r"°\s?c": "grados centígrados",
        r"h": "horas",
    },
    currencies={
        "€": ("euro", "euros", "céntimo", "céntimos"),
        "$": ("dólar", "dólares", "centavo", "centavos"),
        "£": ("libra", "libras", "penique", "peniques"),
    },
    hesitations={r"e+h+|e+m+": "eh", r"m{2,}h*": "mm", r"a+h+": "ah", r"u+h+": "uh"},
)

GERMAN_RULES = LanguageRules(
    frequent="der die das und ist nicht ein eine zu den mit von sie er es auf für im dem auch",
    point="komma",
    digits=True,
    percent="prozent",
    minus="minus",
    ordinal=r"\.(?=\s+(?:januar|februar|märz|april|mai|juni|juli|august|september|oktober|november|dezember|jahrhundert|mal)\b)",
    years=r"1[1-9]\d\d",
    clock="uhr",
    abbreviations={
        r"dr\.": "doktor",
        r"prof\.": "professor",
        r"hr\.": "herr",
        r"fr\.(?=\s+[a-zäöü])": "frau",
        r"st\.(?=\s+[a-zäöü])": "sankt",
        r"str\.": "straße",
        r"nr\.": "nummer",
        r"z\.\s?b\.": "zum beispiel",
        r"d\.\s?h\.": "das heißt",
        r"u\.\s?a\.": "unter anderem",
        r"usw\.": "und so weiter",
        r"bzw\.": "beziehungsweise",
        r"ca\.": "circa",
        r"evtl\.": "eventuell",
        r"inkl\.": "inklusive",
        r"mio\.": "millionen",
        r"mrd\.": "milliarden",
        r"etc\.": "et cetera",
        r"vgl\.": "vergleiche",
    },
    symbols={
        "&": "und",
        "+": "plus",
        "=": "gleich",
        "@": "at",
        "%": "prozent",
        "°": "grad",
        "§": "paragraf",
        "№": "nummer",
    },
    units={
        r"km/h": "kilometer pro stunde",
        r"km": "kilometer",
        r"cm": "zentimeter",
        r"mm": "millimeter",
        r"kg": "kilogramm",
        r"mg": "milligramm",
        r"hz": "hertz",
        r"°\s?c": "grad celsius",
    },
    currencies={
        "€": ("euro", "euro", "cent", "cent"),
        "$": ("dollar", "dollar", "cent", "cent"),
        "£": ("pfund", "pfund", "penny", "pence"),
    },
    hesitations={r"ä+h+m*": "äh", r"h+m+": "hm", r"m{2,}h*": "mm"},
)

FRENCH_RULES = LanguageRules(
    frequent="le la les des et est un une du que dans qui pas pour il elle ne sur ce au",
    point="virgule",
    percent="pour cent",
    minus="moins",
    ordinal=r"ères?|ers?|res?|èmes?|emes?|es?",
    abbreviations={
        r"mme\b\.?": "madame",
        r"mmes\b\.?": "mesdames",
        r"mlle\b\.?": "mademoiselle",
        r"mm\.": "messieurs",
        r"m\.(?=\s+[a-zéèà])": "monsieur",
        r"dr\b\.?(?=\s+[a-zéèà])": "docteur",
        r"pr\.(?=\s+[a-zéèà])": "professeur",
        r"ste(?=[\s-]+[a-zéèà])": "sainte",
        r"st(?=[\s-]+[a-zéèà])": "saint",
        r"n[°º]\.?": "numéro",
        r"av\.(?=\s+[a-zéèà])": "avenue",
        r"bd\.?(?=\s+[a-zéèà])": "boulevard",
        r"p\.(?=\s*\d)": "page",
        r"p\.\s?ex\.": "par exemple",
        r"c\.-à-d\.": "c'est à dire",
        r"etc\.": "et cetera",
        r"av\.\s?j\.-c\.": "avant jésus christ",
    },
    symbols={"&": "et", "+": "plus", "=": "égale", "@": "arobase", "%": "pour cent", "°": "degrés", "№": "numéro"},
    units={
        r"km/h": "kilomètres à l'heure",
        r"km": "kilomètres",
        r"cm": "centimètres",
        r"mm": "millimètres",
        r"kg": "kilogrammes",
        r"mg": "milligrammes",
        r"hz": "hertz",
        r"°\s?c": "degrés celsius",
        r"h": "heures",
    },
    currencies={
        "€": ("euro", "euros", "centime", "centimes"),
        "$": ("dollar", "dollars", "cent", "cents"),
        "£": ("livre", "livres", "penny", "pence"),
    },
    hesitations={r"e+u+h+": "euh", r"h+u+m+|h+m+": "hum", r"b+e+n+h+": "ben", r"m{2,}h*": "mm"},
)

LANGUAGE_RULES: dict[str, LanguageRules] = {
    "en": ENGLISH_RULES,
    "es": SPANISH_RULES,
    "de": GERMAN_RULES,
    "fr": FRENCH_RULES,
}
NUMBERS_ONLY = LanguageRules(point="")
"""What is known of a language without a table: its numbers only."""
