"""Every claim about the paper or its code that the kit's texts rest on: where it stands, what shows it, what came out.

``docs/claims.md`` is this table as a page; chapter 13 prints it. *Paper* is arXiv 2403.07332, *code* the repository
wjh892521292/LKM-UNet at 6615775 (26 June 2024), file LKMUNet.py unless another one is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd


class Claim(NamedTuple):
    """One row: what is claimed, where, which command or chapter shows it, and the verdict."""

    claim: str
    source: str
    command: str
    verdict: str


_AUDIT, _BASELINES, _ERF = "13_auditing_the_paper", "12_table1_baselines", "11_effective_receptive_field"
_SCANS = "17_other_scans"

CLAIMS = tuple(
    Claim(*row)
    for row in (
        ("PiM reads windows of neighbouring pixels, up to 40×40",
         "paper 3.2; code, BiPixelMambaLayer",
         "pytest tests/test_token_order.py::test_each_sequence_against_plain_slices",
         "differs: the code reads a grid of stride p over the whole map"),
        ("neighbouring pixels come to the SSM one after the other",
         "paper 3.2; code, BiPixelMambaLayer", f"notebooks/{_SCANS}.ipynb, section 1",
         "in the text along a row of a window, k tokens apart down a column; in the code never in one sequence"),
        ("a kernel size is the side of a window",
         "paper Table 2 and version 1's title; code and a comment in it; authors in issue 5 of the repository",
         "pytest tests/test_studies_arms.py::test_table_2_settings_mean_three_things",
         "three readings: side, stride, number of windows; which one ran is not known"),
        ("the grid came into the code after the paper",
         "code: LMaUNet.py of 12 March 2024, the day of submission, and LKMUNet.py of 26 June",
         f"notebooks/{_AUDIT}.ipynb, section 1",
         "no: the cut is the same in both, only names differ; that does not say what made the tables"),
        ("kernel sizes 10, 20, 40 mean 100, 400, 1600 tokens in the text and 1024, 256, 64 in the code",
         "paper Table 2; code", f"notebooks/{_AUDIT}.ipynb, section 2", "counted"),
        ("the two smaller settings of Table 2 come from the code",
         "paper Table 2; code, ResidualBiMambaEncoder", f"notebooks/{_AUDIT}.ipynb, section 2",
         "no: its formula gives one list for seven stages"),
        ("PaM pools the windows of PiM",
         "paper Eq. 6; code, BiWindowMambaLayer",
         "pytest tests/test_networks.py::test_golden_token_tables",
         "differs: the code pools by 8, 4, 4, 2, 2, 1, 1"),
        ("PaM is Unpool(BiM(Pool(F))) + F", "paper Eq. 6", "pytest tests/test_blocks.py::test_pam_is_equation_6",
         "holds in the kit; the code normalises after pooling, as the kit does"),
        ("the last 2D stage reads windows of 5×5",
         "paper 4.2; code", f"notebooks/{_AUDIT}.ipynb, section 3",
         "differs: one token per sequence in the code, nothing to scan"),
        ("image sizes divide",
         "paper 3.2 assumes it; a comment in the code asks to adjust p",
         "pytest tests/test_official.py::test_sizes_where_the_released_code_switches_methods_silently_are_an_error",
         "silent in the code: it falls back to one sequence over the whole map; an error in the kit"),
        ("BiM adds a forward and a backward scan",
         "paper 3.2; code, both layers",
         "pytest tests/test_blocks.py::test_bim_is_two_mambas_on_flipped_copies_with_one_projection_of_the_sum",
         "holds; in the code the two share one output projection"),
        ("state dicts of the released code load and give its outputs (random weights; no weights were published)",
         "code; issue 1 of the repository asks for weights since 16 March 2024", "pytest tests/test_official.py",
         "holds to 1e-4, in 2D and 3D"),
        ("the stem is a depth-wise convolution",
         "paper 3.1; code, ResidualBiMambaEncoder", f"notebooks/{_AUDIT}.ipynb, section 7",
         "differs: an ordinary one; the same for one channel"),
        ("training uses Adam, momentum 0.99",
         "paper 4.2; code, trainer", f"notebooks/{_AUDIT}.ipynb, section 7",
         "differs: nnU-Net's SGD with Nesterov momentum 0.99"),
        ("batches of 24 in 2D",
         "paper 4.2; no plans in the repository", f"notebooks/{_AUDIT}.ipynb, section 7",
         "not shown: nnU-Net's planner gives 30 at 320×320"),
        ("predictions are mirrored at test time",
         "paper: not said; README of the code: --disable_tta, as U-Mamba's",
         "pytest tests/test_nnunet.py::test_steps_in_order",
         "the released commands do not; nor does the kit, unless --tta"),
        ("training takes all training cases and holds none out",
         "paper: not said; README of the code: fold all, as U-Mamba's",
         "pytest tests/test_nnunet.py::test_steps_in_order",
         "the released commands do; so does the kit, unless --folds"),
        ("Table 3's baseline is nnU-Net's plain U-Net",
         "paper Tables 1 and 3",
         "pytest tests/test_studies_arms.py::test_published_tables_agree_with_each_other",
         "inferred from equal scores; the paper does not say"),
        ("LKM-UNet without Mamba is another network than that baseline",
         "code", "pytest tests/test_networks.py::test_golden_parameter_counts",
         "61.6 against 33.5 million parameters: Table 3 compares two changes at once"),
        ("an arm without BiM",
         "paper Table 3; code", "pytest tests/test_studies_arms.py::test_table_3_switches_one_part_after_the_other",
         "not defined in the paper, no switch in the code; the kit leaves the backward Mamba out"),
        ("how many trainings a number of Tables 1 to 3 stands for", "paper", f"notebooks/{_AUDIT}.ipynb, section 8",
         "not said; no spread is given"),
        ("the MR baselines of Table 1 equal Swin-UMamba's older table",
         "JiarunLiu/Swin-UMamba, assets/abdomenmr.png, 17 February and 6 March 2024; paper submitted 12 March 2024",
         "pytest tests/test_studies_arms.py::test_the_mr_baselines_stand_in_an_older_table",
         "12 of 12 numbers; which runs they come from is not known"),
        ("U-Mamba's scores in Table 1 are those of its own paper",
         "arXiv 2401.04722, version 1 of 9 January 2024, Tables 3 and 4",
         "pytest tests/test_studies_arms.py::test_umambas_scores_stand_in_its_own_paper",
         "86.38 and 76.25 DSC, and nnU-Net's 86.15 on CT"),
        ("U-Mamba's 76.25 belongs to its code of January 2024",
         "its paper of 9 January; the older table: 67 M parameters; bowang-lab/U-Mamba at 92a741a",
         "pytest tests/test_table1_networks.py"
         "::test_umamba_of_january_has_the_sizes_beside_which_its_scores_were_published",
         "67.3 M (Enc) and 63.3 M (Bot) by our count; the rewrite of 27 March 2024 has 47.0 M"),
        ("nnFormer has 60 M parameters at 320×320",
         "the same table; 282857341/nnFormer, nnFormerTrainerV2_nnformer_synapse.py",
         f"notebooks/{_BASELINES}.ipynb, section 1",
         "not matched: 114.3 M at the authors' settings; the operations and all other sizes of that table are"),
        ("the baselines were trained as the trainers in the code say",
         "code, the same as bowang-lab/U-Mamba's: SegResNet Adam 1e-4, UNETR AdamW 1e-4, SwinUNETR AdamW 8e-4",
         f"notebooks/{_BASELINES}.ipynb, section 2", "not said in the paper; the kit trains all arms alike"),
        ("LKM-UNet has the largest receptive field of four networks",
         "paper Fig. 3", f"notebooks/{_ERF}.ipynb, section 5",
         "not decidable from the figure: neither probe, data nor normalisation is stated"),
        ("after training, 90 % of the mass lie on more of the image with Mamba than without",
         "the kit's two networks", "lkm figures erf_before_and_after",
         "with frozen statistics yes, with live ones no difference: figures/data/erf_at_nine_places.csv"),
        ("U-Mamba weakens local attention",
         "paper Fig. 3, in our words", "lkm figures erf_four_trained",
         "in one small training of each, at 25 places: yes against a CNN, less so with live statistics"),
        ("single runs of one network lie closer together than the published gaps",
         "paper Tables 1 to 3; bowang-lab/U-Mamba, issue 75 (May 2025): one network, four runs, 1.44 points",
         f"notebooks/{_AUDIT}.ipynb, section 8", "no: several gaps are smaller than those 1.44 points"),
        ("U-Mamba's Mamba layers help",
         "MIC-DKFZ/nnUNet, documentation/resenc_presets.md", f"notebooks/{_AUDIT}.ipynb, section 5",
         "at most +0.36 on six data sets, down to -1.28"),
        ("13 organs", "paper 4.1; AMOS22 has 15",
         "pytest tests/test_labels.py::test_ids_and_tolerances_of_the_official_scripts",
         "bladder and prostate/uterus are left out"),
        ("DSC and NSD are the official scripts'", "code, evaluation/",
         "pytest tests/test_metrics.py::test_official_rule_looks_at_the_truths_slices_without_the_last",
         "rebuilt as rule official; plain is the kit's own"),
        ("the released SSM is Mamba with zero-order hold",
         "paper Eq. 2; state-spaces/mamba",
         "pytest tests/test_linear.py::test_orders_of_accuracy_against_the_exact_response",
         "differs: exp(ΔA) for A, the simpler ΔB for B"),
    )
)  # fmt: skip


def claims() -> pd.DataFrame:
    """The table, indexed by the claim.

    >>> claims().columns.tolist()
    ['source', 'command', 'verdict']
    """
    import pandas as pd

    return pd.DataFrame(CLAIMS).set_index("claim")


def page() -> str:
    """``docs/claims.md``.

    >>> page().splitlines()[0]
    '# Claims, and what shows them'
    """
    head = (
        "# Claims, and what shows them\n\n"
        "Each claim about the paper or its code that the kit's texts rest on. *Paper* is arXiv 2403.07332, *code* the\n"
        "repository wjh892521292/LKM-UNet at 6615775 (26 June 2024). Commands are for the kit's folder; chapters say\n"
        "more. A test keeps this page in step with `lkm_kit/studies/claims.py`, which chapter 13 prints.\n\n"
        "| claim | source | shown by | verdict |\n|---|---|---|---|\n"
    )
    return head + "".join(
        f"| {row.claim} | {row.source} | {_linked(row.command)} | {row.verdict} |\n" for row in CLAIMS
    )


def _linked(command: str) -> str:
    path, comma, where = command.partition(",")
    return f"[{path.split('/')[-1]}](../{path}){comma}{where}" if path.endswith(".ipynb") else f"`{command}`"
