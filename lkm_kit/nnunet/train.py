"""nnU-Net's stock trainer with another budget: ``python -m lkm_kit.nnunet.train 702 ARM FOLD -p PLANS --epochs 2``.

nnU-Net's own command has no option for epochs and iterations; they are fields of its trainer.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lkm_kit.errors import KitError, install
from lkm_kit.nnunet.pipeline import EPOCHS, ITERATIONS, check_budget


def train(
    number: int,
    configuration: str,
    fold: str,
    plans: str,
    *,
    device: str = "cuda",
    epochs: int = EPOCHS,
    iterations: int = ITERATIONS,
    validation_iterations: int | None = None,
    resume: bool = False,
) -> Path:
    """Train one fold of one arm with nnU-Net's stock trainer, then let it validate, as ``nnUNetv2_train`` does.

    Args:
        number: nnU-Net's data set id.
        configuration: the arm's.
        fold: ``"all"`` or ``"0"`` to ``"4"``.
        plans: nnU-Net's plans identifier.
        device: cuda, cpu or mps.
        epochs, iterations: training budget; the learning rate decays over these epochs.
        validation_iterations: batches of the estimate after each epoch; default nnU-Net's 50, at most ``iterations``.
        resume: go on from the latest checkpoint.

    Returns:
        folder of the results, with ``checkpoint_final.pth``.

    Raises:
        KitError: nnU-Net is not installed, or the fold was trained with another budget.
    """
    try:
        import torch
        from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint
    except ImportError as error:
        raise KitError(f"nnU-Net cannot be imported ({error})", remedy=install("nnunet")) from error

    which = "all" if fold == "all" else int(fold)
    trainer = get_trainer_from_args(
        str(number), configuration, which, "nnUNetTrainer", plans, device=torch.device(device)
    )
    trainer.num_epochs, trainer.num_iterations_per_epoch = epochs, iterations
    trainer.num_val_iterations_per_epoch = validation_iterations or min(50, iterations)
    folder = Path(trainer.output_folder)
    check_budget(folder, epochs, iterations)
    maybe_load_checkpoint(trainer, resume, False, None)
    trainer.run_training()
    trainer.perform_actual_validation(False)
    return folder


def main(arguments: list[str] | None = None) -> int:
    """The command; its first options are those of ``nnUNetv2_train``."""
    parser = argparse.ArgumentParser(prog="python -m lkm_kit.nnunet.train", description=__doc__.partition("\n")[0])
    parser.add_argument("number", type=int, help="nnU-Net's data set id")
    parser.add_argument("configuration", help="the arm")
    parser.add_argument("fold", choices=["all", *"01234"])
    parser.add_argument("-p", required=True, metavar="PLANS", help="plans identifier")
    parser.add_argument("-device", default="cuda", choices=["cuda", "cpu", "mps"])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help="of each epoch")
    parser.add_argument("--c", action="store_true", help="go on from the latest checkpoint")
    options = parser.parse_args(arguments)
    try:
        folder = train(
            options.number,
            options.configuration,
            options.fold,
            options.p,
            device=options.device,
            epochs=options.epochs,
            iterations=options.iterations,
            resume=options.c,
        )
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"trained: {folder}")
    return 0


if __name__ == "__main__":  # nnU-Net starts processes that import this file again
    sys.exit(main())
