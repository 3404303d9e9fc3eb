"""A set of whole numbers kept as ranges: which records are settled is nearly always a handful of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Ranges:
    """An immutable set of whole numbers. `spans` are (first, last), both included, ascending, never touching."""

    spans: tuple[Span, ...] = ()

    @classmethod
    def of(cls, spans: Iterable[Span]) -> Ranges:
        """Make a set of any spans, in any order, overlapping or not; (5, 4) is empty."""
        made: list[Span] = []
        for first, last in sorted(span for span in spans if span[0] <= span[1]):
            if made and first <= made[-1][1] + 1:
                made[-1] = (made[-1][0], max(made[-1][1], last))
            else:
                made.append((first, last))
        return cls(tuple(made))

    @classmethod
    def parse(cls, text: str) -> Ranges:
        """Read what `text()` wrote; raises ValueError for anything else."""
        pairs = (part.partition("-") for part in text.split(",") if part)
        return cls.of((int(first), int(last if dash else first)) for first, dash, last in pairs)

    def text(self) -> str:
        """Write the set as `1-5,7`."""
        return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in self.spans)

    def add(self, first: int, last: int) -> Ranges:
        """Give the set with first…last in it."""
        if last < first:
            return self
        low = bisect_left(self.spans, first - 1, key=lambda span: span[1])
        high = bisect_right(self.spans, last + 1, key=lambda span: span[0])
        if low < high:
            first, last = min(first, self.spans[low][0]), max(last, self.spans[high - 1][1])
        return Ranges((*self.spans[:low], (first, last), *self.spans[high:]))

    def remove(self, first: int, last: int) -> Ranges:
        """Give the set without first…last."""
        kept = [(a, min(b, first - 1)) for a, b in self.spans] + [(max(a, last + 1), b) for a, b in self.spans]
        return Ranges.of(kept) if last >= first else self

    def union(self, other: Ranges) -> Ranges:
        """Give what is in either set."""
        return Ranges.of((*self.spans, *other.spans))

    def within(self, first: int, last: int) -> Ranges:
        """Give the part of the set between first and last, both included."""
        low = bisect_left(self.spans, first, key=lambda span: span[1])
        high = bisect_right(self.spans, last, key=lambda span: span[0])
        inside = self.spans[low:high]
        if not inside:
            return Ranges()
        ends = ((max(inside[0][0], first), inside[0][1]), *inside[1:])
        return Ranges((*ends[:-1], (ends[-1][0], min(ends[-1][1], last))))

    def missing(self, first: int, last: int) -> Ranges:
        """Give the numbers between first and last, both included, that are not in the set."""
        inside = self.within(first, last).spans
        starts = [first, *(b + 1 for _, b in inside)]
        ends = [*(a - 1 for a, _ in inside), last]
        return Ranges.of(zip(starts, ends, strict=True))

    def head(self, count: int) -> Ranges:
        """Give the `count` smallest numbers of the set."""
        taken: list[Span] = []
        for first, last in self.spans:
            if count <= 0:
                break
            taken.append((first, min(last, first + count - 1)))
            count -= last - first + 1
        return Ranges(tuple(taken))

    def largest(self, count: int) -> Ranges:
        """Give the set of its `count` largest spans."""
        return Ranges.of(sorted(self.spans, key=lambda span: span[0] - span[1])[:count])

    def joined(self, most: int) -> Ranges:
        """Give a set of at most `most` spans by closing the smallest gaps; it contains this one."""
        gaps = sorted((b[0] - a[1], a[1]) for a, b in zip(self.spans, self.spans[1:], strict=False))
        closed = gaps[: max(len(self.spans) - most, 0)]
        return self.union(Ranges.of((end, end + gap) for gap, end in closed))

    def __contains__(self, number: int) -> bool:
        """Tell whether the number is in the set."""
        at = bisect_left(self.spans, number, key=lambda span: span[1])
        return at < len(self.spans) and self.spans[at][0] <= number

    def __len__(self) -> int:
        """Count the numbers in the set."""
        return sum(last - first + 1 for first, last in self.spans)
