"""What stands on printed paper: prose, receipts, forms, codes, and every character there is to read.

Gives lines of text that are no longer than asked; knows nothing of fonts or pictures. A tab in a line stands
for the gap before what is printed at the right edge, such as a price; a reader writes a space there.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence

# dashes, quotes, bullet, ellipsis, pound, euro, yen, degree, times, plus-minus, and others of reports
SIGNS = (
    "\u2013\u2014\u2018\u2019\u201c\u201d\u2022\u2026\u00a3\u20ac\u00a5"
    "\u00b0\u00d7\u00b1\u00a9\u00ae\u00a7\u00bd\u00b2\u00b5\u00f7"
)
CHARACTERS = string.ascii_letters + string.digits + string.punctuation + SIGNS
STYLES = {"receipt": 36, "prose": 34, "form": 18, "characters": 12}  # pages of each in a hundred
UPPER = {"receipt": 0.7, "prose": 0.12, "form": 0.35, "characters": 0.1}  # share of pages in capitals alone
CAPITALS = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)  # str.upper makes mu a Greek capital
CURLY = str.maketrans({"'": "\u2019", "-": "\u2013"})
CURRENCIES = ("", "", "", "", "$", "RM", "RM ", "\u00a3", "\u20ac", "$ ", "\u20ac ", "USD ", "\u00a5")
TAX_MARKS = ("", "", "", "", " SR", " S", " T", "*", " Z")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Monday", "Wednesday", "Friday", "Saturday")
STREETS = ("Street", "St.", "Road", "Rd", "Avenue", "Ave", "Lane", "Drive", "Jalan", "Taman", "Lorong")
COMPANIES = ("Ltd", "Inc.", "Sdn Bhd", "(M) Sdn. Bhd.", "GmbH", "Co.", "Trading", "Enterprise", "& Sons")
UNITS = ("kg", "g", "ml", "L", "pcs", "cm", "mm", "\u00b0C", "\u00b0F", "%", "km/h", "kWh", "x", "m\u00b2")
HEADS = (
    "Receipt", "Tax Invoice", "Invoice", "Cash Bill", "Thank You", "Please come again", "Total", "Sub Total",
    "Grand Total", "Change", "Cash", "Rounding", "Discount", "GST 6%", "VAT 19%", "Balance Due", "Qty",
    "Amount", "Description", "Item", "Table", "Cashier", "Customer", "Member", "Price", "Goods sold are not",
    "Total Incl. GST", "Total Sales", "Payment", "Visa", "Mastercard", "Approval Code", "Terminal", "Page",
)  # fmt: skip
LABELS = (
    "Date", "Time", "No", "No.", "Ref", "Invoice No", "Doc No", "Order", "Bill No", "Tel", "Fax", "GST No",
    "GST Reg No", "Reg No", "Account", "Name", "Address", "E-mail", "Unit", "Weight", "Temp", "Size", "Model",
    "Serial", "Batch", "Version", "Counter", "Staff", "Trans", "Pos", "Salesperson", "Due", "Tax ID",
)  # fmt: skip
JOINTS = (": ", ": ", " : ", ":", " ", "\t", ". ", "# ", " - ")
AROUND = ("{}", "{}", "{}:", "*** {} ***", "{}!", "[{}]", "<{}>", '"{}"', "#{}", "({})")
# in these 9 stands for any digit, A for any capital
CODES = (
    "AA99999", "9999-9999", "999", "99999", "9999999", "9999999999999", "A-99", "AA-999999", "999999-A",
    "999/AA/99", "#99999", "AAA99999999", "9999 AAAA 9999", "A9.99", "A9AA999A", "9.999", "99%", "-99", "9",
)  # fmt: skip
PHONES = (
    *("99-9999999", "+99 999 999999", "09-9999 9999", "(999) 999-9999", "1-300-99-9999", "099/999999"),
    *("999 9999999", "+999 99 99 99"),
)


class Writer:
    """Lines in the style of one page; `words` gives the next word of a document each time it is called."""

    def __init__(self, words: Callable[[], str], rng: random.Random) -> None:
        self.next_word, self.rng = words, rng
        self.style = rng.choices(list(STYLES), list(STYLES.values()))[0]
        self.upper = rng.random() < UPPER[self.style]
        self.currency = rng.choice(CURRENCIES)
        self.curly = rng.random() < 0.2  # typographic quotes and dashes
        shared = (self.label, self.label, self.address, self.row, self.stamp)
        self.entries: Sequence[Callable[[], str]] = {
            "receipt": (
                *shared,
                self.item,
                self.item,
                self.total,
                self.total,
                self.company,
                self.head,
                self.rule,
                self.price,
                self.code,
                self.phrase,
            ),
            "form": (*shared, self.measure, self.code, self.address_of_mail, self.source),
        }.get(self.style, ())

    def lines(self, lengths: Sequence[int]) -> list[str]:
        """One line for each length, that has so many characters at most."""
        write = {"prose": self.fill, "characters": self.scramble}.get(self.style, self.entry)
        lines = [write(length) for length in lengths]
        return [line.translate(CAPITALS) for line in lines] if self.upper else lines

    def fill(self, length: int) -> str:
        """Words of the document up to the length."""
        line = self.word(length)
        while len(line) + 1 + len(word := self.word(length)) <= length:
            line = f"{line} {word}"
        return self.typographic(line)

    def scramble(self, length: int) -> str:
        """Random characters in groups, each character as often as any other."""
        groups: list[str] = []
        while length > 0:
            size = min(length, self.rng.randint(1, 8))
            groups.append("".join(self.rng.choices(CHARACTERS, k=size)))
            length -= size + 1
        return " ".join(groups)

    def entry(self, length: int) -> str:
        """What a receipt or a form has on a line."""
        for _ in range(6):
            line = self.rng.choice(self.entries)()
            if len(line) <= length:
                return line
        return self.code()[:length].strip("- /") or self.pattern("9")

    def word(self, most: int) -> str:
        for _ in range(200):
            word = self.next_word()
            if len(word) <= most:
                return word
        return self.next_word()[:most]

    def name(self, low: int = 1, high: int = 3) -> str:
        chosen = [self.word(10).strip(".,;:()\"'") for _ in range(self.rng.randint(low, high))]
        return " ".join(word[:1].upper() + word[1:] for word in chosen if word)

    def phrase(self) -> str:
        return self.typographic(" ".join(self.word(12) for _ in range(self.rng.randint(2, 5))))

    def typographic(self, line: str) -> str:
        if not self.curly:
            return line
        line = line.translate(CURLY).replace('"', "\u201c", 1).replace('"', "\u201d").replace("...", "\u2026")
        return f"\u2022 {line[2:]}" if line[1:2] == " " and self.rng.random() < 0.3 else line

    def pattern(self, *patterns: str) -> str:
        """One of them, its digits and capitals drawn."""
        sets = {"9": string.digits, "A": string.ascii_uppercase}
        return "".join(self.rng.choice(sets.get(sign, sign)) for sign in self.rng.choice(patterns))

    def code(self) -> str:
        return self.pattern(*CODES)

    def price(self) -> str:
        rng = self.rng
        whole = str(int(10 ** rng.uniform(0, 3.3)))
        if len(whole) > 3 and rng.random() < 0.5:
            whole = f"{whole[:-3]},{whole[-3:]}"
        sign = "-" if rng.random() < 0.05 else ""
        point = "," if rng.random() < 0.06 else "."
        return f"{sign}{self.currency}{whole}{point}{self.pattern('99')}{rng.choice(TAX_MARKS)}"

    def item(self) -> str:
        rng = self.rng
        before = rng.choice(
            ("", "", self.pattern("9999 ", "99999999 ", "9999999999999 "), f"{rng.randint(1, 12)} ")
        )
        after = f" {self.measure()}" if rng.random() < 0.2 else ""
        name = f"{before}{self.name()}{after}"
        return name if rng.random() < 0.3 else f"{name}\t{self.price()}"

    def total(self) -> str:
        count = self.rng.randint(1, 30)
        head = f"{self.rng.choice(HEADS)}{self.rng.choice(('', '', ':', ' :', f' ({count})'))}"
        gap = self.rng.choice(("\t", "\t", "\t", " "))
        return f"{head}{gap}{self.price()}"

    def label(self) -> str:
        value = self.rng.choice(
            (self.code, self.date, self.time, self.phone, self.code, self.name, self.price)
        )
        return f"{self.rng.choice(LABELS)}{self.rng.choice(JOINTS)}{value()}"

    def company(self) -> str:
        return f"{self.name(1, 3)} {self.rng.choice(COMPANIES)}"

    def head(self) -> str:
        return self.rng.choice(AROUND).format(self.rng.choice(HEADS))

    def address(self) -> str:
        number, name, street = self.rng.randint(1, 999), self.name(1, 2), self.rng.choice(STREETS)
        return self.rng.choice(
            (
                f"{number} {name} {street}",
                f"No. {number}, {street} {name},",
                self.pattern(f"{number}-9, {name},"),
                f"{self.pattern('99999')} {name}",
                f"Lot {number} & {number + 1}, {name}",
                f"{street} {name} {number % 30}/{number % 7},",
                f"{name}, {self.pattern('A9 9AA', 'A99 9AA')}",
            )
        )

    def row(self) -> str:
        count, price, other = self.rng.randint(1, 20), self.price(), self.price()
        return self.rng.choice(
            (
                f"{count} x {price}",
                f"{count} @ {price}\t{other}",
                f"{count}\t{price}",
                f"{count} \u00d7 {price}",
                f"{price} {other}",
                f"{count}.00 {price} {other}",
                f"{5 * count}%\t{price}",
                f"{count} {self.rng.choice(UNITS)} {price}",
                f"{count} + {count % 7} = {count + count % 7}",
            )
        )

    def stamp(self) -> str:
        gap = self.rng.choice((" ", "\t"))
        return self.rng.choice(
            (
                self.date(),
                f"{self.date()}{gap}{self.time()}",
                self.time(),
                self.phone(),
                f"Tel: {self.phone()}",
                f"({self.code()})",
            )
        )

    def rule(self) -> str:
        """A line of one sign, as typewriters rule paper."""
        return self.rng.choice("-=*_.~#+") * self.rng.randint(3, 16)

    def date(self) -> str:
        rng = self.rng
        day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1990, 2029)
        name, short = MONTHS[month - 1], f"{year % 100:02}"
        return rng.choice(
            (
                f"{day:02}/{month:02}/{year}",
                f"{day:02}-{month:02}-{year}",
                f"{year}-{month:02}-{day:02}",
                f"{day:02}.{month:02}.{short}",
                f"{day} {name} {year}",
                f"{day:02}/{month:02}/{short}",
                f"{day:02}-{name}-{year}",
                f"{name} {day}, {year}",
                f"{rng.choice(DAYS)}, {day}/{month}",
            )
        )

    def time(self) -> str:
        hour, minute, second = (self.rng.randint(0, most) for most in (23, 59, 59))
        text = f"{hour:02}:{minute:02}"
        return text + self.rng.choice(("", "", f":{second:02}", " PM", " AM", "pm", f":{second:02} PM"))

    def phone(self) -> str:
        return self.pattern(*PHONES)

    def measure(self) -> str:
        low, high = self.rng.randint(1, 30), self.rng.randint(31, 99)
        value = self.rng.choice(
            (
                f"{low}",
                f"{high}.{low % 10}",
                f"{low % 9 + 1}/{high % 9 + 1}",
                f"{low}\u00d7{high}",
                f"\u00b1{low % 10}.{high}",
                f"{low}\u2013{high}",
            )
        )
        return f"{value}{self.rng.choice(('', ' '))}{self.rng.choice(UNITS)}"

    def address_of_mail(self) -> str:
        first, second, number = self.name(1, 1).lower(), self.name(1, 1).lower(), self.rng.randint(1, 99)
        host = f"{second}.{self.rng.choice(('com', 'org', 'net', 'de', 'co.uk', 'my'))}"
        return self.rng.choice(
            (
                f"{first}@{host}",
                f"www.{host}",
                f"https://{host}/{first}",
                f"{first}_{number}@{host}",
            )
        )

    def source(self) -> str:
        """Signs as programs and paths have them."""
        first, second, number = self.name(1, 1), self.name(1, 1).lower(), self.rng.randint(0, 99)
        return self.rng.choice(
            (
                f"C:\\{first}\\{second}",
                f"{second}={number};",
                f"{{{second}: [{number}]}}",
                f"~/{second}|{first}",
                f"`{second}` <{first}>",
                f"{second}[{number}] ^ {number}",
                f"${second} & {first}?",
                f"#{second}_{number}!",
            )
        )


def readable(word: str) -> bool:
    """Whether all of a word is among CHARACTERS."""
    return _KNOWN.issuperset(word)


_KNOWN = frozenset(CHARACTERS)
