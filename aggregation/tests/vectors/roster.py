"""Writes roster_params.json: the most colluders that a roster's lottery draws, computed without the crate's code.

    python3 aggregation/tests/vectors/roster.py

A is the smallest with P[Bin(G, q) > A] <= 2^-40 / periods, q = (rate_parts + 1) / 2^64. Up to 200 colluders the
probability is an exact fraction of integers; above, it has 60 decimal digits, and both ways are compared up to 200.
"""

import json
import pathlib
from decimal import Decimal, getcontext
from fractions import Fraction
from math import comb

getcontext().prec = 60
WHOLE = 1 << 64


def exact(colluders, parts, periods):
    bound = Fraction(1, periods << 40)
    above = Fraction(0)
    for a in range(colluders - 1, -1, -1):
        j = a + 1
        above += Fraction(comb(colluders, j) * parts**j * (WHOLE - parts) ** (colluders - j), WHOLE**colluders)
        if above > bound:
            return j
    return 0


def decimal(colluders, parts, periods):
    if parts == WHOLE:
        return colluders
    bound = Decimal(1) / Decimal(periods << 40)
    q = Decimal(parts) / Decimal(WHOLE)
    odds = q / (1 - q)
    mass = (1 - q) ** colluders
    masses = [mass]
    for j in range(colluders):
        mass = mass * odds * (colluders - j) / (j + 1)
        masses.append(mass)
        if mass < Decimal(10) ** -58 and j > colluders * q:
            break
    above = Decimal(0)
    for j in range(len(masses) - 1, 0, -1):
        above += masses[j]
        if above > bound:
            return j
    return 0


def rate(part, whole):
    return max(1, part * WHOLE // whole)


def main():
    rows = []
    for colluders in (1, 5, 20, 60, 200, 1_000, 5_000, 50_000):
        for part, whole in ((1, 1_000), (1, 100), (1, 10), (1, 3)):
            for periods in (1, 720):
                parts = rate(part, whole)
                corrupt = decimal(colluders, parts, periods)
                if colluders <= 200:
                    assert corrupt == exact(colluders, parts, periods)
                rows.append(dict(colluders=colluders, rate_parts=parts - 1, periods=periods, corrupt=corrupt))
    assert all(row["corrupt"] < 16_384 or row["colluders"] == 50_000 for row in rows)
    rows = [row for row in rows if row["corrupt"] < 16_384]
    for colluders, part, whole, periods in ((500, 1, 1, 30), (16_000, 9, 10, 3))[: 64 - len(rows)]:
        parts = rate(part, whole)
        corrupt = decimal(colluders, parts, periods)
        rows.append(dict(colluders=colluders, rate_parts=parts - 1, periods=periods, corrupt=corrupt))
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    pathlib.Path(__file__).with_name("roster_params.json").write_text(f"[\n{lines}\n]\n")
    print(f"{len(rows)} rows")


main()
