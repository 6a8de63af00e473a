"""Formulas made up: every shape that mathematics in print has, nested at random, in Mathpix's spelling.

Knows TeX's mathematics, no picture. What it writes needs amsmath, amssymb and mathrsfs, chemistry mhchem.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
GREEK = _words(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi rho"
    " sigma tau phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"
)
SYMBOLS = _words("infty partial nabla hbar ell aleph emptyset varnothing Re Im wp top")
ACCENTS = _words("hat bar tilde vec dot ddot widehat widetilde overline underline mathring check breve")
CAPITALS = LETTERS[26:]
ALPHABETS = {
    "boldsymbol": LETTERS, "mathbb": CAPITALS, "mathbf": LETTERS, "mathcal": CAPITALS,
    "mathfrak": LETTERS, "mathrm": LETTERS, "mathscr": CAPITALS,
}  # fmt: skip
# one spelling for what looks the same: \to, not \rightarrow; * in scripts, not \ast
BINARY = _words(
    r"+ + + - - \pm \mp \cdot \times \div \otimes \oplus \circ \cup \cap \wedge \vee \setminus \ast "
    r"\star \odot \bullet \sqcup"
)
RELATIONS = _words(
    r"= = = = \neq \leq \geq < > \approx \equiv \sim \simeq \cong \propto \in \notin \subset \subseteq "
    r"\supset \ll \gg \to \mapsto \Rightarrow \Leftrightarrow \iff \prec \succeq \perp \parallel "
    r"\vdash \models \mid \nmid \ni \doteq \triangleq \leqslant \geqslant \lesssim \gtrsim \rightharpoonup "
    r"\longrightarrow \hookrightarrow \leftarrow \Longrightarrow \rightleftharpoons \nsubseteq"
)
FUNCTIONS = _words(
    r"\sin \cos \tan \cot \sec \csc \arcsin \arccos \arctan \sinh \cosh \tanh \log \ln \lg \exp \det \dim "
    r"\ker \deg \gcd \arg"
)
NAMED = _words("tr rank diag sgn div curl Var Cov softmax span Aut Hom End sinc erf vec card")
LIMITS = _words(r"\lim \max \min \sup \inf \limsup \liminf")
SUMS = _words(r"\sum \sum \sum \prod \bigcup \bigcap \bigoplus \bigotimes \coprod \bigvee \bigwedge")
INTEGRALS = _words(r"\int \int \int \oint \iint \iiint")
TALL = re.compile(r"\\(?:frac|cfrac|binom|sum|prod|coprod|big|i*int|oint|sqrt|lim|max|min|sup|inf|begin)")
PAIRS = (
    ("(", ")"), ("[", "]"), (r"\{", r"\}"), ("|", "|"), (r"\|", r"\|"), (r"\langle", r"\rangle"),
    (r"\lfloor", r"\rfloor"), (r"\lceil", r"\rceil"), ("(", "]"),
)  # fmt: skip
MATRICES = ("pmatrix", "bmatrix", "vmatrix", "Vmatrix", "Bmatrix", "matrix")
PHRASES = (
    "if", "otherwise", "for all", "and", "where", "with", "such that", "if and only if", "subject to", "or",
    "is even", "almost everywhere", "for some", "as", "on the boundary", "else", "in distribution",
)  # fmt: skip
UPPER_BOUNDS = _words(r"n N m \infty n-1 K 10")
RANGES = tuple(
    (low, high)
    for low, high in map(
        str.split,
        (
            "0 1",
            "a b",
            r"0 \infty",
            r"-\infty \infty",
            "0 T",
            r"0 2\pi",
            "-1 1",
            r"0 \frac{\pi}{2}",
        ),  # fmt: skip
    )
)
UNITS = _words(
    r"m km cm mm s ms kg g mol K Pa kPa Hz GHz V A W kW J eV MeV \Omega m/s m/s^{2} kg/m^{3}"
    r" \mu\mathrm{m} N \%"
)
ELEMENTS = _words("H He Li C N O F Na Mg Al Si P S Cl K Ca Mn Fe Cu Zn Ag I Ba Pb")
DOTTED = r"a_{11}&\cdots&a_{1n}\\\vdots&\ddots&\vdots\\a_{m1}&\cdots&a_{mn}"
ARROWS = ("->", "->", "->", "<=>", "<->", "->[\\Delta]", "->[H2O]", "<-")


class Grammar:
    """Draws formulas by its own random numbers; `chinese` holds the characters that texts in formulas use."""

    def __init__(self, seed: int, chinese: str = "", chemistry: bool = True) -> None:
        self.random = random.Random(seed)
        self.chinese = chinese
        self.tops: list[tuple[float, Callable[[], str]]] = [
            (6, self.equation), (2, self.chain), (2, self.matrix_equation), (1.5, self.cases),
            (2, self.aligned), (0.7, self.gathered), (1.5, self.bounded_sum), (1.5, self.integral_equation),
            (1, self.limit_equation), (1, self.quantified), (0.8, self.set_builder), (0.6, self.braced),
            (0.8, self.measured), (0.6, self.continued_fraction), (0.8, self.derivative_equation),
            (0.5, self.arrow), (0.6, self.system), (0.6, self.probability), (0.6, self.arithmetic),
            (0.5 if chemistry else 0, self.reaction), (0.4, self.augmented), (0.4, self.substack),
            (0.3, self.boxed), (0.5, self.lone_term),
        ]  # fmt: skip

    def formula(self) -> str:
        weights = [weight for weight, _ in self.tops]
        text = self.random.choices(self.tops, weights)[0][1]()
        text = text.replace(r"\\[", r"\\{}[")  # a bracket behind a row's end would be its distance
        return text + self.random.choices(("", ",", "."), (8, 1, 1))[0]

    def inline(self) -> str:
        """Small ones, as they stand in a line of text."""
        kinds = (
            self.atom,
            self.small_equation,
            self.set_builder,
            self.measured,
            self.function,
            self.probability,
        )
        return self.random.choices(kinds, (2, 5, 1, 1, 2, 1))[0]()

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def letter(self) -> str:
        kind = self.random.random()
        if kind < 0.7:
            return self.random.choice(LETTERS)
        return "\\" + self.random.choice(GREEK)

    def number(self) -> str:
        kind = self.random.random()
        if kind < 0.6:
            return str(self.random.randint(0, 9))
        if kind < 0.8:
            return str(self.random.randint(10, 9999))
        return f"{self.random.randint(0, 99)}.{self.random.randint(0, 9999)}"

    def symbol(self) -> str:
        kind = self.random.random()
        if kind < 0.62:
            return self.letter()
        if kind < 0.74:
            return self.number()
        if kind < 0.8:
            return "\\" + self.random.choice(SYMBOLS)
        if kind < 0.9:
            return self.join("\\" + self.random.choice(ACCENTS) + "{", self.letter(), "}")
        name, letters = self.random.choice(sorted(ALPHABETS.items()))
        return f"\\{name}{{{self.random.choice(letters)}}}"

    def atom(self) -> str:
        text = self.symbol()
        if text[0].isdigit():
            return text
        low, high = self.random.random() < 0.3, self.random.random() < 0.22
        if low:
            text += "_{" + self.script() + "}"
        if high:
            text += "^{" + self.script() + "}"
        elif self.chance(0.06):
            text += "'" * self.random.randint(1, 2)
        return text

    def script(self) -> str:
        kind = self.random.random()
        if kind < 0.35:
            return self.letter()
        if kind < 0.65:
            return str(self.random.randint(0, 12))
        if kind < 0.85:
            return self.join(
                self.letter(), self.random.choice("+-,"), self.random.choice((self.letter, self.number))()
            )
        if kind < 0.92:
            return self.random.choice((r"\dagger", r"\top", r"\infty", "*", r"\perp"))
        if kind < 0.96:
            return (
                r"\text{"
                + self.random.choice(("max", "min", "eff", "in", "out", "loss", "ref", "total"))
                + "}"
            )
        return self.join("-", self.random.choice((r"\frac{1}{2}", self.letter(), "1")))

    def join(self, *pieces: str) -> str:
        """Pieces side by side, a space where a command would run into a letter."""
        out = ""
        for piece in pieces:
            command = out.rpartition("\\")[2]
            apart = out and "\\" in out and command.isalpha() and command and piece[:1].isalpha()
            out += (" " if apart else "") + piece
        return out

    def factor(self, depth: int) -> str:
        """What is multiplied; deeper ones are simple."""
        if depth <= 0:
            return self.atom()
        kinds = (
            (8, self.atom), (2.2, lambda: self.fraction(depth)), (1, lambda: self.root(depth)),
            (1.6, lambda: self.fenced(depth)), (1.5, self.function), (0.7, lambda: self.sum_term(depth)),
            (0.7, lambda: self.integral(depth)), (0.3, self.binomial), (0.5, self.derivative),
            (0.2, lambda: self.limit(depth)), (0.25, lambda: self.exponential(depth)),
        )  # fmt: skip
        weights = [weight for weight, _ in kinds]
        return self.random.choices(kinds, weights)[0][1]()

    def term(self, depth: int) -> str:
        count = self.random.choices((1, 2, 3), (5, 3, 1))[0]
        factors = [self.factor(depth if number == 0 else depth - 1) for number in range(count)]
        # a number behind a number would read as one
        kept = [factor for index, factor in enumerate(factors) if index == 0 or not factor[0].isdigit()]
        return self.join(*kept)

    def expression(self, depth: int, terms: int = 3) -> str:
        out = self.random.choice(("", "", "", "", "-")) + self.term(depth)
        for _ in range(self.random.randint(0, terms - 1)):
            out = self.join(out, self.random.choice(BINARY), self.term(depth - 1))
        return out

    def fraction(self, depth: int) -> str:
        return rf"\frac{{{self.expression(depth - 1, 2)}}}{{{self.expression(depth - 1, 2)}}}"

    def root(self, depth: int) -> str:
        order = f"[{self.random.choice(('3', '4', 'n', 'p', 'k'))}]" if self.chance(0.25) else ""
        return rf"\sqrt{order}{{{self.expression(depth - 1, 2)}}}"

    def fenced(self, depth: int) -> str:
        left, right = self.random.choice(PAIRS)
        inside = self.expression(depth - 1, 2)
        power = "^{" + self.script() + "}" if self.chance(0.3) else ""
        return self.enclosed(left, inside, right) + power

    def enclosed(self, left: str, inside: str, right: str) -> str:
        """Brackets that grow where they have to; around small things \\left( and ( look the same."""
        if TALL.search(inside):
            left, right = rf"\left{left}", rf"\right{right}"
        return self.join(left, inside, right)

    def function(self) -> str:
        kind = self.random.random()
        name = (
            self.random.choice(FUNCTIONS) if kind < 0.7 else rf"\operatorname{{{self.random.choice(NAMED)}}}"
        )
        if kind > 0.88:
            name = self.letter()
        power = "^{2}" if kind < 0.7 and self.chance(0.15) else ""
        if self.chance(0.65) or kind > 0.88:
            arguments = [self.atom() for _ in range(self.random.choice((1, 1, 2, 3)))]
            return self.join(name + power, "(", ",".join(arguments), ")")
        return self.join(name + power, self.atom())

    def exponential(self, depth: int) -> str:
        base = self.random.choice(("e", r"\mathrm{e}", "2", "10", "x"))
        return f"{base}^{{{self.expression(min(depth - 1, 1), 2)}}}"

    def bounds(self, operator: str) -> str:
        variable = self.random.choice("ijknm")
        low = f"{variable}={self.random.choice(('0', '1', '2', '-N', 'a'))}"
        kind = self.random.random()
        if kind < 0.7:
            return f"{operator}_{{{low}}}^{{{self.random.choice(UPPER_BOUNDS)}}}"
        if kind < 0.9:
            return f"{operator}_{{{self.join(variable, chr(92) + 'in', self.random.choice('SIVAE'))}}}"
        return f"{operator}_{{{variable}}}"

    def sum_term(self, depth: int) -> str:
        return self.join(self.bounds(self.random.choice(SUMS)), self.term(depth - 1))

    def integral(self, depth: int) -> str:
        operator = self.random.choice(INTEGRALS)
        variable = self.random.choice(("x", "t", "y", r"\theta", "s", "u", r"\omega", "r"))
        limits = ""
        if operator == r"\int" and self.chance(0.75):
            low, high = self.random.choice(RANGES)
            limits = f"_{{{low}}}^{{{high}}}"
        elif self.chance(0.6):
            limits = (
                "_{" + self.random.choice((r"\Omega", "C", "S", r"\partial D", "V", r"\mathbb{R}^{n}")) + "}"
            )
        measure = self.random.choice(("d", r"\mathrm{d}"))
        return self.join(operator + limits, self.term(depth - 1), measure, variable)

    def limit(self, depth: int) -> str:
        name = self.random.choice(LIMITS)
        variable = self.random.choice(("n", "x", "h", "t", r"\varepsilon"))
        target = self.random.choice((r"\infty", "0", "a", "0^{+}", "1"))
        low = self.join(variable, r"\to", target) if "lim" in name else self.join(variable, r"\in", "S")
        return self.join(f"{name}_{{{low}}}", self.term(depth - 1))

    def binomial(self) -> str:
        return rf"\binom{{{self.atom()}}}{{{self.atom()}}}"

    def derivative(self) -> str:
        order = self.random.choice(("", "", "^{2}", "^{n}"))
        sign = self.random.choice((r"\partial", "d", r"\mathrm{d}"))
        variable = self.random.choice(("x", "t", "y", r"\theta", "x_{i}"))
        function = self.random.choice(("u", "f", "y", r"\psi", r"\mathcal{L}", "v_{j}"))
        below = self.join(sign, variable) + (order if "_" not in variable else "")
        order = order if "_" not in variable else ""
        return rf"\frac{{{self.join(sign + order, function)}}}{{{below}}}"

    def equation(self) -> str:
        depth = self.random.choice((1, 2, 2, 3))
        return self.join(self.expression(depth - 1, 2), self.random.choice(RELATIONS), self.expression(depth))

    def small_equation(self) -> str:
        return self.join(
            self.atom(),
            self.random.choice(RELATIONS),
            self.random.choice((self.atom, lambda: self.expression(1, 2)))(),
        )

    def lone_term(self) -> str:
        return self.expression(3, 3)

    def chain(self) -> str:
        parts = [self.expression(1, 2)]
        for _ in range(self.random.randint(2, 3)):
            parts += [self.random.choice(RELATIONS[:20]), self.expression(1, 2)]
        return self.join(*parts)

    def rows(self, rows: int, columns: int, entry: Callable[[], str], mark: str = "&") -> str:
        return r"\\".join(mark.join(entry() for _ in range(columns)) for _ in range(rows))

    def matrix(self) -> str:
        name = self.random.choice(MATRICES)
        rows, columns = self.random.randint(1, 4), self.random.randint(1, 4)
        rows += rows * columns == 1
        entry = self.random.choice((self.number, self.atom, lambda: self.expression(0, 2)))
        if rows > 2 and columns > 2 and self.chance(0.3):
            letter = self.letter()
            inside = DOTTED.replace("a", letter)
        else:
            inside = self.rows(rows, columns, entry)
        return rf"\begin{{{name}}}{inside}\end{{{name}}}"

    def matrix_equation(self) -> str:
        parts = [self.atom(), "="] if self.chance(0.7) else []
        parts.append(self.matrix())
        if self.chance(0.4):
            parts.append(self.matrix())
        if self.chance(0.3):
            parts += ["+", self.atom()]
        return self.join(*parts)

    def augmented(self) -> str:
        rows, columns = self.random.randint(2, 3), self.random.randint(2, 3)
        inside = r"\\".join("&".join(self.number() for _ in range(columns + 1)) for _ in range(rows))
        return rf"\left[\begin{{array}}{{{'c' * columns}|c}}{inside}\end{{array}}\right]"

    def cases(self) -> str:
        rows = []
        for _ in range(self.random.randint(2, 4)):
            condition = self.join(self.atom(), self.random.choice(RELATIONS[:9]), self.atom())
            before = self.random.choice(("", r"\text{if }", r"\text{for }"))
            rows.append(f"{self.expression(1, 2)},&{before}{condition}")
        if self.chance(0.3):
            rows[-1] = f"{self.atom()},&{self.text('otherwise')}"
        left = self.join(self.function(), "=")
        return self.join(left, r"\begin{cases}" + r"\\".join(rows) + r"\end{cases}")

    def aligned(self) -> str:
        rows = [self.join(self.expression(1, 2), "&=", self.expression(2))]
        for _ in range(self.random.randint(1, 3)):
            start = self.expression(1, 2) if self.chance(0.35) else ""
            sign = self.random.choice(("=", "=", "=", r"\leq", r"\approx", r"\geq", "+", "<"))
            rows.append(self.join(start, "&" + sign, self.expression(2)))
        return r"\begin{aligned}" + r"\\".join(rows) + r"\end{aligned}"

    def gathered(self) -> str:
        rows = [self.equation() for _ in range(self.random.randint(2, 3))]
        return r"\begin{gathered}" + r"\\".join(rows) + r"\end{gathered}"

    def system(self) -> str:
        rows = []
        names = self.random.choice(("xyz", "uvw", "abc"))
        for _ in range(self.random.randint(2, 3)):
            sides = [f"{self.random.choice(('', '2', '3', '5', '7'))}{name}" for name in names]
            rows.append(
                sides[0]
                + "".join(self.random.choice("+-") + side for side in sides[1:])
                + "="
                + self.number()
            )
        return r"\left\{\begin{array}{l}" + r"\\".join(rows) + r"\end{array}\right."

    def bounded_sum(self) -> str:
        left = self.join(self.bounds(self.random.choice(SUMS)), self.term(2))
        return self.join(
            left, self.random.choice(("=", r"\leq", "<", r"\approx", r"\geq")), self.expression(2)
        )

    def integral_equation(self) -> str:
        return self.join(self.integral(2), "=", self.expression(2, 2))

    def limit_equation(self) -> str:
        return self.join(self.limit(2), "=", self.expression(1, 2))

    def derivative_equation(self) -> str:
        parts = [
            self.derivative(),
            self.random.choice("+-"),
            self.term(1),
            self.derivative(),
            "=",
            self.expression(1, 2),
        ]
        return self.join(*parts)

    def quantified(self) -> str:
        one, other = self.random.sample(["x", "y", r"\varepsilon", r"\delta", "n", "z"], 2)
        domain = rf"\mathbb{{{self.random.choice('RNZQC')}}}"
        start = self.join(r"\forall", one, r"\in", domain)
        middle = self.join(r"\exists", other, self.random.choice((">0", r"\in" + domain, r"\geq1")))
        return self.join(start, r",\quad", middle, self.random.choice((":", r"\quad")), self.small_equation())

    def set_builder(self) -> str:
        mark = self.random.choice((r"\mid", ":"))
        inside = self.join(
            self.letter(), r"\in", rf"\mathbb{{{self.random.choice('RNZQC')}}}", mark, self.small_equation()
        )
        return self.join(self.letter(), "=", self.enclosed(r"\{", inside, r"\}"))

    def braced(self) -> str:
        name, mark = self.random.choice(((r"\underbrace", "_"), (r"\overbrace", "^")))
        note = self.random.choice((self.text(), "n", r"=0", r"\geq0", self.number() + r"\text{ terms}"))
        side = rf"{name}{{{self.expression(1)}}}{mark}{{{note}}}"
        return self.join(self.atom(), "=", side, self.random.choice("+-"), self.term(1))

    def text(self, phrase: str = "") -> str:
        if self.chinese and self.chance(0.5):
            return rf"\text{{{''.join(self.random.choices(self.chinese, k=self.random.randint(1, 4)))}}}"
        return rf"\text{{{phrase or self.random.choice(PHRASES)}}}"

    def measured(self) -> str:
        value = self.number()
        if self.chance(0.4):
            value += rf"\times10^{{{self.random.choice(('', '-'))}{self.random.randint(2, 30)}}}"
        elif self.chance(0.4):
            value += rf"\pm{self.random.random():.2f}"
        unit = self.random.choice(UNITS)
        sign = self.random.choice(("=", r"\approx", r"\leq", r"\sim"))
        return self.join(self.atom(), sign, value, rf"\mathrm{{~{unit}}}")

    def continued_fraction(self) -> str:
        tail = self.join(self.letter(), "+", r"\cdots") if self.chance(0.5) else self.atom()
        for _ in range(self.random.randint(2, 3)):
            tail = self.join(
                self.atom(), "+", rf"\cfrac{{{self.random.choice(('1', self.atom()))}}}{{{tail}}}"
            )
        return self.join(self.letter(), "=", tail)

    def arrow(self) -> str:
        name = self.random.choice((r"\xrightarrow", r"\xleftarrow"))
        low = f"[{self.join('n', chr(92) + 'to', chr(92) + 'infty')}]" if self.chance(0.4) else ""
        over = self.random.choice((self.atom(), r"\text{a.s.}", "d", "f", r"\sim"))
        return self.join(self.atom(), rf"{name}{low}{{{over}}}", self.atom())

    def probability(self) -> str:
        name = self.random.choice(("P", r"\Pr", r"\mathbb{P}", "p", r"\mathbb{E}"))
        given = self.join(self.atom(), r"\mid", self.atom()) if self.chance(0.5) else self.small_equation()
        left = self.join(name, self.enclosed("(", given, ")"))
        return self.join(left, self.random.choice(("=", r"\leq", r"\propto")), self.expression(1, 2))

    def arithmetic(self) -> str:
        out = self.number()
        for _ in range(self.random.randint(1, 4)):
            sign = self.random.choice(("+", "-", r"\times", r"\div", r"\cdot"))
            part = self.number() if self.chance(0.75) else rf"\frac{{{self.number()}}}{{{self.number()}}}"
            out += sign + (self.enclosed("(", f"{part}-{self.number()}", ")") if self.chance(0.2) else part)
        return out + "=" + self.number()

    def substack(self) -> str:
        low = rf"\substack{{{self.small_equation()}\\{self.small_equation()}}}"
        return self.join(rf"{self.random.choice(SUMS[:4])}_{{{low}}}", self.term(1))

    def boxed(self) -> str:
        return rf"\boxed{{{self.equation()}}}"

    def reaction(self) -> str:
        left, right = (" + ".join(self.species() for _ in range(self.random.randint(1, 3))) for _ in range(2))
        return rf"\ce{{{left} {self.random.choice(ARROWS)} {right}}}"

    def species(self) -> str:
        count = self.random.choice(("", "", "2", "3", "5"))
        body = "".join(
            name + self.random.choice(("", "", "2", "3", "4"))
            for name in self.random.sample(ELEMENTS, self.random.randint(1, 3))
        )
        charge = self.random.choice(("", "", "", "", "^{2+}", "^-", "^+"))
        return f"{count}{body}{charge}"
