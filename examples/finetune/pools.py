"""Pools of values that many functions share: names, places, dates, sums."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Sequence
from typing import Any


def _split(text: str) -> list[str]:
    return text.replace("\n", "").split("|")


FIRST = _split(
    """Aisha|Alejandro|Amara|Anders|Anika|Astrid|Beatriz|Bjorn|Camille|Carlos|Chen|Chiara|Dalia|
David|Diego|Elena|Emeka|Emma|Farid|Fatima|Felix|Freya|Giulia|Grace|Hana|Hassan|Helena|Hiro|
Ibrahim|Ines|Ivan|Jamal|Jana|Joao|Jonas|Julia|Kaito|Karim|Katya|Kwame|Lars|Laura|Leila|Liam|
Lucia|Magnus|Mai|Marco|Maria|Mateo|Mei|Miriam|Nadia|Naoko|Noah|Nora|Olga|Omar|Oscar|Paulo|
Petra|Priya|Rafael|Ravi|Rosa|Ruben|Samira|Sara|Sven|Tara|Thiago|Tomas|Uma|Valentina|Viktor|
Wanda|Xavier|Yara|Yusuf|Zoe|Peter|Alice|Bob|Claire"""
)
LAST = _split(
    """Adeyemi|Almeida|Andersson|Bauer|Bianchi|Brown|Castillo|Chen|Cohen|Costa|Dubois|Eriksen|
Fischer|Garcia|Gupta|Haddad|Hansen|Hoffmann|Ito|Ivanov|Jensen|Johnson|Kaya|Khan|Kim|
Kowalski|Kumar|Larsen|Lee|Lopez|Martin|Mbeki|Meyer|Mori|Moreau|Murphy|Nakamura|Nguyen|Novak|
Okafor|Olsen|Owusu|Park|Patel|Pereira|Petrov|Ramirez|Rossi|Sato|Schmidt|Sharma|Silva|Singh|
Smith|Suzuki|Tanaka|Taylor|Torres|Vargas|Virtanen|Wang|Weber|Williams|Wright|Yamamoto|
Yilmaz|Zhang"""
)
CITIES = _split(
    """Accra|Amsterdam|Athens|Auckland|Austin|Bangkok|Barcelona|Beirut|Bergen|Berlin|Bogota|Boston|
Bristol|Brussels|Bucharest|Budapest|Cairo|Cape Town|Casablanca|Chicago|Copenhagen|Dakar|
Delhi|Denver|Dublin|Edinburgh|Florence|Geneva|Hamburg|Hanoi|Helsinki|Istanbul|Jakarta|
Kigali|Krakow|Kyoto|Lagos|Lima|Lisbon|Ljubljana|Lyon|Madrid|Manila|Marseille|Melbourne|
Mexico City|Miami|Milan|Montreal|Mumbai|Munich|Nairobi|Naples|New Orleans|New York|Osaka|
Oslo|Ottawa|Paris|Porto|Prague|Quito|Reykjavik|Riga|Rome|Rotterdam|San Diego|San Francisco|
Santiago|Sao Paulo|Seattle|Seoul|Seville|Singapore|Sofia|Stockholm|Sydney|Tallinn|Tokyo|
Toronto|Tunis|Turin|Utrecht|Valencia|Vancouver|Vienna|Vilnius|Warsaw|Wellington|Zagreb|
Zurich"""
)
COUNTRIES = _split(
    """Argentina|Australia|Austria|Belgium|Brazil|Canada|Chile|China|Colombia|Croatia|Denmark|
Egypt|Estonia|Ethiopia|Finland|France|Germany|Ghana|Greece|Hungary|Iceland|India|Indonesia|
Ireland|Italy|Japan|Kenya|Latvia|Malaysia|Mexico|Morocco|Nepal|Netherlands|New Zealand|
Nigeria|Norway|Pakistan|Peru|Philippines|Poland|Portugal|Romania|Senegal|Serbia|Singapore|
Slovenia|South Africa|South Korea|Spain|Sweden|Switzerland|Tanzania|Thailand|Tunisia|Turkey|
Uganda|Ukraine|Uruguay|Vietnam"""
)
STATES = _split(
    """Alabama|Alaska|Arizona|Colorado|Florida|Georgia|Hawaii|Idaho|Illinois|Iowa|Kansas|Kentucky|
Maine|Maryland|Michigan|Minnesota|Montana|Nevada|New Mexico|North Carolina|Ohio|Oklahoma|
Oregon|Tennessee|Texas|Utah|Vermont|Virginia|Washington|Wisconsin|Wyoming"""
)
COMPANIES = _split(
    """Adobe|Airbus|Amazon|Apple|Bayer|Boeing|Canon|Cisco|Danone|Ericsson|FedEx|Ford|Google|
Hitachi|Honda|IBM|Intel|Lufthansa|Maersk|Meta|Microsoft|Nestle|Netflix|Nike|Nintendo|Nokia|
Nvidia|Oracle|Pfizer|Philips|Renault|Roche|Samsung|Sanofi|SAP|Siemens|Sony|Spotify|Tesla|
Toyota|Unilever|Vestas|Visa|Volvo"""
)
LANGUAGES = _split(
    """Arabic|Chinese|Czech|Danish|Dutch|English|Finnish|French|German|Greek|Hindi|Italian|
Japanese|Korean|Norwegian|Polish|Portuguese|Romanian|Russian|Spanish|Swahili|Swedish|Thai|
Turkish|Ukrainian|Vietnamese"""
)
CURRENCIES: list[Any] = [
    ["USD", "US dollars", "USD", "dollars"],
    ["EUR", "euros", "EUR"],
    ["GBP", "British pounds", "GBP", "pounds"],
    ["JPY", "Japanese yen", "JPY", "yen"],
    ["CHF", "Swiss francs", "CHF"],
    ["CAD", "Canadian dollars", "CAD"],
    ["AUD", "Australian dollars", "AUD"],
    ["INR", "Indian rupees", "INR"],
    ["BRL", "Brazilian reais", "BRL"],
    ["SEK", "Swedish kronor", "SEK"],
    ["MXN", "Mexican pesos", "MXN"],
    ["ZAR", "South African rand", "ZAR"],
]
TICKERS: list[Any] = [
    ["AAPL", "Apple", "AAPL"],
    ["MSFT", "Microsoft", "MSFT"],
    ["GOOGL", "Google", "GOOGL"],
    ["AMZN", "Amazon", "AMZN"],
    ["TSLA", "Tesla", "TSLA"],
    ["NVDA", "Nvidia", "NVDA"],
    ["IBM", "IBM"],
    ["NFLX", "Netflix", "NFLX"],
    ["SAP", "SAP"],
    ["SONY", "Sony", "SONY"],
    ["INTC", "Intel", "INTC"],
    ["ADBE", "Adobe", "ADBE"],
    ["ORCL", "Oracle", "ORCL"],
    ["DIS", "Disney", "DIS"],
]
WEEKDAYS = _split("""Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday""")
MONTHS = _split(
    """January|February|March|April|May|June|July|August|September|October|November|December"""
)
COLORS = _split(
    """red|blue|green|yellow|black|white|orange|purple|pink|brown|grey|teal|navy|beige"""
)


def _person(rng: random.Random) -> Any:
    return f"{rng.choice(FIRST)} {rng.choice(LAST)}"


def _date(rng: random.Random) -> Any:
    day = datetime.date(rng.randint(2019, 2028), rng.randint(1, 12), rng.randint(1, 28))
    month = MONTHS[day.month - 1]
    said = [day.isoformat(), f"{month} {day.day}, {day.year}", f"{day.day} {month} {day.year}"]
    said += [
        f"{month} {_ordinal(day.day)}, {day.year}",
        f"the {_ordinal(day.day)} of {month} {day.year}",
    ]
    return [day.isoformat(), rng.choice(said)]


def _ordinal(number: int) -> str:
    ending = "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _date_as(form: str) -> Callable[[random.Random], Any]:
    def draw(rng: random.Random) -> Any:
        iso, said = _date(rng)
        return [datetime.date.fromisoformat(iso).strftime(form), said]

    return draw


def _time(rng: random.Random) -> Any:
    hour, minute = rng.randint(6, 22), rng.choice([0, 0, 15, 30, 30, 45])
    twelve = (
        f"{(hour - 1) % 12 + 1}{f':{minute:02}' if minute else ''} {'am' if hour < 12 else 'pm'}"
    )
    return [f"{hour:02}:{minute:02}", rng.choice([f"{hour:02}:{minute:02}", twelve])]


def _datetime(rng: random.Random) -> Any:
    (day, day_said), (time, time_said) = _date(rng), _time(rng)
    return [
        f"{day}T{time}:00",
        rng.choice([f"{day_said} at {time_said}", f"{time_said} on {day_said}"]),
    ]


def _email(rng: random.Random) -> Any:
    place = rng.choice(
        ["example.com", "mail.test", "acme.example", "uni.example.org", "example.net"]
    )
    return f"{rng.choice(FIRST).lower()}.{rng.choice(LAST).lower()}@{place}"


def _percent(rng: random.Random) -> Any:
    percent = rng.choice([round(rng.uniform(0.5, 12), 1), rng.randint(1, 40)])
    said = rng.choice([f"{percent:g}%", f"{percent:g} percent", f"{percent:g} per cent"])
    return [round(percent / 100, 5), said]


def _percent_number(rng: random.Random) -> Any:
    percent = rng.choice([round(rng.uniform(0.5, 12), 1), rng.randint(1, 40)])
    return [percent, rng.choice([f"{percent:g}%", f"{percent:g} percent"])]


def _city_state(rng: random.Random) -> Any:
    return rng.choice(
        [
            "Denver, CO",
            "Austin, TX",
            "Portland, OR",
            "Boston, MA",
            "Nashville, TN",
            "Phoenix, AZ",
            "Tampa, FL",
            "Madison, WI",
            "Boise, ID",
            "Tucson, AZ",
            "Omaha, NE",
            "Oakland, CA",
            "Lyon, France",
            "Turin, Italy",
            "Osaka, Japan",
            "Leeds, UK",
            "Porto, Portugal",
            "Kyoto, Japan",
        ]
    )


def _amount(rng: random.Random) -> Any:
    amount = rng.choice(
        [rng.randrange(5, 100), rng.randrange(100, 1000, 5), rng.randrange(1000, 90000, 500)]
    )
    return [amount, rng.choice([f"${amount:,}", f"${amount}", f"{amount} dollars"])]


def _year(rng: random.Random) -> Any:
    return rng.randint(1850, 2025)


def _coined(rng: random.Random) -> str:
    """A name that nobody has heard, which can only be copied."""
    starts = _split("Bel|Cor|Dra|El|Fen|Gal|Har|Is|Jor|Kel|Lor|Mar|Nor|Or|Pel|Quin|Ros|Sel|Tor|Ul")
    middles = _split("a|an|ar|e|el|en|i|in|ir|o|on|or|u|ven|dal|ti")
    ends = _split("by|dale|ford|ham|ka|lan|mar|nia|ra|ric|ros|sk|ta|ton|va|ville|wick|x|za")
    return rng.choice(starts) + rng.choice(middles) + rng.choice(ends)


def _venue(rng: random.Random) -> Any:
    kind = rng.choice(_split("Hotel|Museum|Gallery|Park|Theatre|Hall|Institute|Bridge|Tower|Café"))
    name = _coined(rng)
    return rng.choice([f"{kind} {name}", f"{name} {kind}", f"The {name} {kind}"])


def _work(rng: random.Random) -> Any:
    """A title of a book, song, film or painting."""
    adjectives = _split("Silent|Golden|Broken|Last|Hidden|Crimson|Distant|Little|Endless|Wild")
    nouns = _split("River|Garden|Winter|Letters|Mountain|Promise|Mirror|Voyage|Shadow|Orchard|Song")
    return rng.choice(
        [
            f"The {rng.choice(adjectives)} {rng.choice(nouns)}",
            f"{rng.choice(nouns)} of {_coined(rng)}",
            f"A {rng.choice(nouns)} in {rng.choice(MONTHS)}",
            f"{rng.choice(adjectives)} {rng.choice(nouns)}s",
        ]
    )


def _district(rng: random.Random) -> Any:
    return f"{_coined(rng)}, {rng.choice(CITIES)}"


def _days(rng: random.Random) -> Any:
    """A number of days, as one says them."""
    return rng.choice(
        [
            [1, "one day", "a day"], [2, "two days"], [3, "three days"], [5, "five days"],
            [7, "a week", "one week", "7 days"], [10, "ten days"], [14, "two weeks", "a fortnight"],
            [21, "three weeks"], [28, "four weeks"], [30, "a month", "30 days"], [60, "two months"],
            [90, "three months", "90 days"], [365, "a year", "one year"],
        ]
    )  # fmt: skip


def _minutes(rng: random.Random) -> Any:
    """A number of minutes, as one says them."""
    return rng.choice(
        [
            [15, "a quarter of an hour", "15 minutes"], [20, "20 minutes"], [30, "half an hour"],
            [45, "45 minutes"], [60, "an hour", "one hour"], [90, "an hour and a half"],
            [120, "two hours", "2 hours"], [180, "three hours", "3 hours"], [240, "four hours"],
            [300, "5 hours"], [75, "an hour and 15 minutes"],
        ]
    )  # fmt: skip


def _metres(rng: random.Random) -> Any:
    """A distance in metres, said in kilometres or metres."""
    metres = rng.choice([rng.randint(1, 60) * 1000, rng.randint(1, 90) * 100])
    if metres % 500 == 0:
        return [metres, f"{metres / 1000:g} km", f"{metres / 1000:g} kilometers"]
    return [metres, f"{metres} m", f"{metres} meters"]


def _large(rng: random.Random) -> Any:
    """A large number, said in millions, thousands or digits."""
    if rng.random() < 0.6:
        number = rng.choice([rng.randint(1, 400), rng.randint(2, 90) / 2, rng.randint(11, 99) / 10])
        value = round(number * 1_000_000)
        return [value, f"{number:g} million", f"{value:,}", f"{value}"]
    value = rng.randint(2, 900) * 1000
    return [value, f"{value // 1000} thousand", f"{value:,}", f"{value}"]


def _code(rng: random.Random) -> Any:
    letters = "".join(rng.choices("ABCDEFGHKLMNPRSTX", k=2))
    return f"{letters}{rng.randint(100, 99999)}"


def _phone(rng: random.Random) -> Any:
    return (
        f"+{rng.choice([1, 33, 44, 49, 81])} 555 {rng.randint(100, 999)} {rng.randint(1000, 9999)}"
    )


Pool = Sequence[Any] | Callable[[random.Random], Any]
POOLS: dict[str, Pool] = {
    "first_name": FIRST,
    "last_name": LAST,
    "person": _person,
    "city": CITIES,
    "city_state": _city_state,
    "country": COUNTRIES,
    "us_state": STATES,
    "company": COMPANIES,
    "language": LANGUAGES,
    "currency": CURRENCIES,
    "ticker": TICKERS,
    "weekday": WEEKDAYS,
    "month": MONTHS,
    "color": COLORS,
    "date": _date,
    "time": _time,
    "datetime": _datetime,
    "email": _email,
    "phone": _phone,
    "percent_fraction": _percent,
    "percent": _percent_number,
    "amount": _amount,
    "year": _year,
    "code": _code,
    "date_mdy": _date_as("%m-%d-%Y"),
    "date_mdy_slash": _date_as("%m/%d/%Y"),
    "date_dmy": _date_as("%d/%m/%Y"),
    "date_ymd_slash": _date_as("%Y/%m/%d"),
    "coined": _coined,
    "venue": _venue,
    "work": _work,
    "district": _district,
    "days_said": _days,
    "minutes_said": _minutes,
    "metres_said": _metres,
    "large": _large,
}
"""The pools by name: `@city`, `@person`, …"""
