"""The form of a profile: what is asked of one kind of device, and what its answers mean. Values only.

A profile is a YAML file in a subset of the form that Datadog gave SNMP profiles: `sysobjectid`, `extends`,
`metrics` with `symbol` or `table` and `symbols`, `OID`, `name`, `scale_factor`, `mapping`. What says whether
a value is good or bad (`states`, `thresholds`) is ours. The name of a symbol is the record field and ends in
its unit. docs/snmp.md is the manual.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.options import Choice, Duration, Flag, ListOf, MapOf, Number, Section, Text, option

OID = Text(r"[0-2](\.(0|[1-9][0-9]{0,9})){2,127}", "an OID in numbers, such as 1.3.6.1.2.1.1.3.0", 600)
PATTERN = Text(r"[0-2](\.(0|[1-9][0-9]{0,9})){2,127}(\.\*)?", "an OID in numbers, .* at its end for all below", 600)
FIELD = Text("[a-z][a-z0-9_]*", "a record field (a-z 0-9 _) with its unit at the end", 40)
PROFILE_NAME = Text("[a-z0-9][a-z0-9-]*", "the name of a profile (its file without .yaml)", 40)
WORD = Text("[a-z][a-z0-9_]*", "a word (a-z 0-9 _)", 40)

Value = int | str | bytes | None
"""What a device answers to one object: a number, an OID or address, octets, or None for "no such object"."""
OK, WARNING, CRITICAL = "ok", "warning", "critical"
ORDER = (OK, WARNING, CRITICAL)
DEVICE_FAULT = "device_fault"
"""Broken, without a word of its own: the verdict's word for all that is critical and has none (`meaning.word_for`)."""
FINDINGS = (
    *("switch_port_down", "switch_port_err_disabled", "device_rebooted", "port_errors_high", "duplex_mismatch"),
    *("stp_instability", "poe_fault", "ups_on_battery", "ups_battery_low", "temperature_high", "printer_fault"),
    DEVICE_FAULT,
)
"""The words by which the verdict knows a finding: rows of the contract's list of verdicts."""
ROWS_MOST = 2000
"""No table is read beyond this (field.md 3.2)."""
ROWS_USUAL = 256


@dataclass(frozen=True, kw_only=True)
class When:
    """A condition: another object (of the same row, in a table) has one of these values."""

    oid: str = option(OID, "The object or column that decides.", key="OID", example="1.3.6.1.2.1.33.1.4.1.0")
    values: tuple[str, ...] = option(
        ListOf(Text(), shortest=1, longest=50), "The values: numbers, or OIDs.", example="[5]"
    )


@dataclass(frozen=True, kw_only=True)
class StateMeaning:
    """What a word means for the health of the device."""

    health: str = option(Choice((WARNING, CRITICAL)), "How bad it is.")
    finding: str = option(
        Choice(FINDINGS), "The verdict's word for it; critical without one is device_fault.", default=""
    )
    say: str = option(Text(longest=120), "In words; {label} {value} {FIELD}; [ ] drops out with its value.", default="")


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """From where on a number is bad; above, or with `below` under the limit."""

    warning: float | None = option(Number(), "From here on it is a warning.", default=None)
    critical: float | None = option(Number(), "From here on it is critical.", default=None)
    below: bool = option(Flag(), "true where less is worse.", default=False)
    when: When | None = option(Section(When), "Judge only while this holds.", default=None)
    finding: str = option(
        Choice(FINDINGS), "The verdict's word for it; critical without one is device_fault.", default=""
    )
    say: str = option(Text(longest=120), "In words, as in `states`.", default="")


@dataclass(frozen=True, kw_only=True)
class Symbol:
    """One object, or one column of a table, and what becomes of it."""

    oid: str = option(OID, "The object with its instance (.0), or the column.", key="OID")
    name: str = option(FIELD, "The record field, its unit at the end.")
    form: str = option(
        Choice(("number", "text", "counter", "bits")),
        "How it is read; a counter gives its increase since the last poll.",
        default="number",
    )
    scale_factor: float = option(Number(), "The number is multiplied by this.", default=1.0)
    add: float = option(Number(), "Then this is added.", default=0.0)
    unknown: tuple[int, ...] = option(
        ListOf(Number(whole=True), longest=20), "Values that mean 'not known'.", default=(), example="[-1, 65535]"
    )
    most: float | None = option(Number(), "A larger number is no measurement; it is left out.", default=None)
    divide_by: str = option(OID, "Object or column to divide by: makes a part of a whole.", default="")
    sensor_scale: str = option(OID, "Column with the SI prefix (EntitySensorDataScale).", default="")
    sensor_precision: str = option(OID, "Column with the number of decimal places.", default="")
    mapping: tuple[tuple[int, str], ...] = option(
        MapOf(Number(0, whole=True), WORD), "The words for the numbers (of bits: from the left).", default=()
    )
    states: tuple[tuple[str, StateMeaning], ...] = option(
        MapOf(WORD, Section(StateMeaning)), "Which words are bad.", default=()
    )
    thresholds: Thresholds | None = option(Section(Thresholds), "Which numbers are bad.", default=None)
    when: When | None = option(Section(When), "Only where this holds; in a table it also chooses rows.", default=None)
    valid: When | None = option(
        Section(When), "The value counts only while this holds, such as a sensor's own status.", default=None
    )
    window_s: float = option(
        Duration(1, 86400), "A counter: the increase within this time.", default=0.0, key="window", example="5m"
    )
    fold: str = option(
        Choice(("max", "min", "sum", "mean", "first", "worst", "count", "rows")),
        "How the rows of a table become one field; count = rows that are not well, rows = all of them.",
        default="",
    )
    fact: bool = option(Flag(), "true: a fact about the device such as its model; asked rarely.", default=False)
    personal: bool = option(Flag(), "true: may name people; only asked with personal_text.", default=False)

    @property
    def folding(self) -> str:
        """How rows are folded: as written, else the worst word or the largest number."""
        return self.fold or ("worst" if self.mapping else "first" if self.form == "text" else "max")

    @property
    def is_number(self) -> bool:
        """Tell whether the field holds a number, which may have limits."""
        counted = self.fold in ("count", "rows")
        return counted or (self.form in ("number", "counter") and not self.mapping)

    @property
    def judged_as_one(self) -> bool:
        """Tell whether the folded value is judged, not each row."""
        return self.folding in ("sum", "mean", "rows")

    def also_needed(self) -> tuple[str, ...]:
        """List the further objects that this one's meaning needs."""
        conditions = [self.when, self.valid, self.thresholds.when if self.thresholds else None]
        others = (self.divide_by, self.sensor_scale, self.sensor_precision, *(w.oid for w in conditions if w))
        return tuple(oid for oid in others if oid)


@dataclass(frozen=True, kw_only=True)
class TableName:
    """A table's name for people, and the column that tells which rows there are."""

    name: str = option(Text("[A-Za-z][A-Za-z0-9-]*", "a table's name", 60), "As in the MIB.")
    oid: str = option(OID, "Column by which the rows are found; else the first symbol's.", key="OID", default="")
    label: str = option(OID, "Column whose text names a row; else its index does.", default="")
    label_parts: int = option(Number(0, 20, whole=True), "How many parts of the index the label has.", default=0)
    label_personal: bool = option(Flag(), "true: people chose the labels; shown with personal_text.", default=False)
    label_until: str = option(Text(longest=20), "The label ends before this text.", default="")
    fresh: bool = option(Flag(), "true: rows come and go, such as alarms; they are found in each poll.", default=False)
    skip: tuple[str, ...] = option(ListOf(Text(), longest=50), "Rows of these labels are left out.", default=())
    rows_most: int = option(Number(1, ROWS_MOST, whole=True), "Read no more rows than this.", default=ROWS_USUAL)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One object (`symbol`), or columns of a table (`table` and `symbols`)."""

    mib: str = option(Text("[A-Za-z][A-Za-z0-9-]*", "a MIB's name", 60), "For people.", key="MIB", default="")
    symbol: Symbol | None = option(Section(Symbol), "The one object.", default=None)
    table: TableName | None = option(Section(TableName), "The table.", default=None)
    symbols: tuple[Symbol, ...] = option(ListOf(Section(Symbol), longest=40), "Its columns.", default=())

    @property
    def rows(self) -> str:
        """The column by which the table's rows are found."""
        assert self.table is not None
        return self.table.oid or self.symbols[0].oid

    @property
    def row_values(self) -> frozenset[str] | None:
        """The values of that column that make a row worth reading; None where all rows are."""
        whens = [symbol.when for symbol in self.symbols]
        if any(when is None or when.oid != self.rows for when in whens):
            return None
        return frozenset(value for when in whens if when for value in when.values)

    @property
    def facts_only(self) -> bool:
        """Tell whether the table holds nothing but facts, which are asked rarely."""
        return all(symbol.fact for symbol in self.symbols)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One profile as written, or with all that it extends."""

    title: str = option(Text(longest=80), "What kind of device it is for.")
    sysobjectid: tuple[str, ...] = option(
        ListOf(PATTERN, single=True, longest=200), "Devices that it fits; the longest match wins.", default=()
    )
    answers: tuple[str, ...] = option(
        ListOf(OID, single=True, longest=5), "Fits any device of no other profile that has one of these.", default=()
    )
    extends: tuple[str, ...] = option(
        ListOf(PROFILE_NAME, single=True, longest=20), "Profiles whose metrics it takes over.", default=()
    )
    last: bool = option(Flag(), "true: of the profiles with `answers`, the one to try last.", default=False)
    unproven: bool = option(Flag(), "true: never tried on a real device or its recording.", default=False)
    neighbours: bool = option(Flag(), "true: watch for changed neighbours (LLDP).", default=False)
    metrics: tuple[Metric, ...] = option(ListOf(Section(Metric), longest=200), "What is asked.", default=())
    name: str = ""
    ancestors: tuple[str, ...] = ()

    @property
    def scalars(self) -> tuple[Symbol, ...]:
        """The single objects."""
        return tuple(metric.symbol for metric in self.metrics if metric.symbol)

    @property
    def tables(self) -> tuple[Metric, ...]:
        """The tables."""
        return tuple(metric for metric in self.metrics if metric.table)

    @property
    def judges(self) -> bool:
        """Tell whether anything in it can be bad."""
        return any(symbol.states or symbol.thresholds for symbol in self.symbols())

    def symbols(self) -> tuple[Symbol, ...]:
        """All objects and columns."""
        return (*self.scalars, *(symbol for metric in self.tables for symbol in metric.symbols))

    def merged(self, parents: tuple[Profile, ...]) -> Profile:
        """Take over the metrics of the parents; a field of one's own takes the place of an inherited one."""
        own = {symbol.name for symbol in self.symbols()}
        taken: dict[Metric, None] = {}
        for metric in (m for parent in parents for m in parent.metrics):
            columns = tuple(s for s in metric.symbols if s.name not in own)
            if metric.table and columns:
                taken[replace(metric, symbols=columns)] = None
            elif metric.symbol and metric.symbol.name not in own:
                taken[metric] = None
        ancestors = dict.fromkeys(name for p in parents for name in (p.name, *p.ancestors))
        return replace(
            self,
            metrics=(*taken, *self.metrics),
            neighbours=self.neighbours or any(p.neighbours for p in parents),
            ancestors=tuple(ancestors),
        )
