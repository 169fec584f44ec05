"""``lkm card``: a model card of trained networks, from their own records."""

from __future__ import annotations

from typing import Annotated

import typer

EPILOG = "Examples:  lkm card  |  lkm card tiny-2d  |  lkm card runs/train/my-run --write"


def card(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Folders of finished runs, or packaged checkpoints; default newest run.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write model_card.md beside the weights.")] = False,
) -> None:
    """What a network is, its data and their licence, the command that trained it, its scores, and its limits."""
    from lkm_kit.commands.runs import newest_run
    from lkm_kit.files import write_text
    from lkm_kit.model_card import CARD, model_card
    from lkm_kit.training.record import checkpoint_folder

    for run in runs or [str(newest_run())]:
        text = model_card(run)
        if write:
            write_text(checkpoint_folder(run) / CARD, text)
            print(checkpoint_folder(run) / CARD)
        else:
            print(text)
