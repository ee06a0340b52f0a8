"""`echo-proxy gate`: which gate follows from a log of agreement, and what is it worth?"""

import json
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from echo_proxy.engine.gate import GateRejected, read_agreements
from echo_proxy.engine.gate_fit import GateFit, TooLittleAgreement, fit_gate
from echo_proxy.errors import InputError


@dataclass(frozen=True, slots=True)
class GateCommand:
    """What the command line says."""

    agreements: Path
    out: Path
    disagreement: float = 0.05
    """Share of the tokens which the smaller model writes, on which the larger one may disagree."""
    is_json: bool = False


def fit(command: GateCommand) -> int:
    """Fit the gate, write it, and say what it is worth. Returns the exit status.

    Raises InputError: the log cannot be read, says too little, or the gate cannot be written.
    """
    try:
        found = fit_gate(read_agreements(command.agreements), command.disagreement)
        found.gate.save(command.out)
    except GateRejected as error:
        raise InputError(str(error)) from error
    except TooLittleAgreement as error:
        raise InputError(f"{command.agreements}: {error}") from error
    except OSError as error:
        raise InputError(f"{command.out}: expected a file that can be written: {error.strerror}") from error
    if command.is_json:
        print(json.dumps(_figures(found), indent=2))
    else:
        _tell(found, command)
    return 0


def _figures(found: GateFit) -> dict[str, float]:
    return {name: getattr(found, name) for name in found.__slots__ if name != "gate"}


def _tell(found: GateFit, command: GateCommand) -> None:
    console = Console(highlight=False)
    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("on the newest fifth of the tokens", "gate", "plain chance"):
        made.add_column(heading, justify="left" if heading[0] == "o" else "right")
    made.add_row("tells disagreement from agreement (AUC)", f"{found.auc:.3f}", f"{found.chance_auc:.3f}")
    made.add_row("tokens the smaller model writes", f"{found.share_kept:.1%}", f"{found.chance_share_kept:.1%}")
    made.add_row("of them the larger one would change", f"{found.disagreement:.1%}", "")
    made.add_row("perplexity (without a gate " + f"{found.base_perplexity:.3f})", f"{found.perplexity:.3f}", "")
    console.print(made)
    console.print(
        f"{found.n_rows} tokens; written to {command.out}: drafting: {{kind: co_decode, gate: {command.out}, ...}}",
        soft_wrap=True,
        markup=False,
    )
    if found.disagreement > 1.5 * command.disagreement:
        console.print(
            f"[yellow]More disagreement than the {command.disagreement:.1%} that were wished: the texts have changed, "
            "or there are too few.[/]",
            soft_wrap=True,
        )
