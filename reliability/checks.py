"""The checks, in the order in which they are run; a new one is one entry here."""

from __future__ import annotations

from reliability.frame import Check

CHECKS: tuple[Check, ...] = (
    Check(
        "hostile",
        "files that attack: no code runs, nothing is unpickled or written outside",
        "reliability.hostile:cases",
        96,
    ),
    Check(
        "fuzz",
        "bad input is read rightly, or refused in one line that names file, line or key",
        "reliability.fuzz:cases",
        20_000,
    ),
    Check(
        "keys",
        "every key misspelt by one letter is refused with the right suggestion",
        "reliability.keys:cases",
        1_520,
    ),
    Check(
        "numbers",
        "extreme data gives finite losses and gradients, or a named error, for every model",
        "reliability.numbers:cases",
        300,
    ),
    Check(
        "metrics",
        "metrics equal a brute-force computation",
        "reliability.metrics:cases",
        10_000,
    ),
    Check(
        "leakage",
        "no validation or test pair reaches what a model learns from",
        "reliability.leakage:cases",
        20,
    ),
    Check(
        "mutation",
        "tests see bugs planted on purpose",
        "reliability.mutation:cases",
        270,
    ),
    Check(
        "kills",
        "after SIGKILL and --resume: the losses, metrics, lists and tensors of the untouched run",
        "reliability.kills:cases",
        200,
    ),
    Check(
        "stops",
        "SIGTERM and Ctrl-C stop after the batch, save, and print the way on, which leads there",
        "reliability.kills:stops",
        60,
    ),
    Check(
        "disk",
        "full, read-only, damaged, vanished, shared: one line that says so, and nothing lost",
        "reliability.disk:cases",
        60,
    ),
    Check(
        "determinism",
        "the same bits again, with another hash seed and with loading processes; threads measured",
        "reliability.determinism:cases",
        60,
    ),
    Check(
        "long",
        "100 self-loop updates in constant memory; handles, threads, processes, files returned",
        "reliability.long_runs:cases",
        17,
    ),
)
