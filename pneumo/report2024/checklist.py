"""The section with the items that CLAIM (2024 update) and TRIPOD+AI (2024) require of a publication.

The numbers are the items of the two checklists; their contents are paraphrased."""

from pneumo.display.pages import Section
from pneumo.report2024.model_card import NOT_KNOWN, facts
from pneumo.report2024.rescored import RescoredRun
from pneumo.runs.query import RunRecord

ITEMS = (  # item, CLAIM, TRIPOD+AI, and what is stated on it, with the names of `model_card.facts`
    ("identification as a study of a learned model", "1", "1", "deep learning, a convolutional network"),
    ("summary", "2", "2", "the first paragraphs of this page"),
    ("rationale and intended use", "3", "3a, 3b", "explain why a published recipe failed; no clinical use"),
    ("known health inequalities", "-", "3c", NOT_KNOWN),
    ("objectives", "4", "4", "which recipe learns, and whether each conclusion of the report holds"),
    ("prospective or retrospective", "5", "-", "retrospective: existing images"),
    ("study design", "6", "4", "development and evaluation within one data set"),
    ("source and dates of the data", "7", "5a, 5b", "{source}; dates: {unknown}"),
    ("setting and eligibility", "8", "6a, 6b", "{unknown}"),
    ("treatments received", "-", "6c", "{unknown}"),
    ("preprocessing", "9", "7", "resized to {side} x {side} px, 8-bit greyscale, normalised: {normalise}"),
    ("selection of subsets", "10", "-", "every image that can be read"),
    ("de-identification", "11", "-", "{unknown}; the program stores no more than the ids it is given"),
    ("missing data", "12", "11", "rows that cannot be used are {on_error}; nothing is imputed"),
    ("image acquisition", "13", "9a, 9b", "{unknown}"),
    ("definition of the reference standard", "14", "8a", "the data set's label: pneumothorax or none"),
    ("rationale for the reference standard", "15", "8a", NOT_KNOWN),
    ("annotators and their information", "16", "8b, 8c", "{unknown}"),
    ("annotation of the test images", "17", "8b", "the same as of all other images"),
    ("agreement of the annotators", "18", "-", "{unknown}"),
    ("other predictors and their assessment", "-", "9c", "none: pixels alone"),
    ("split", "19", "12a, 16", "by {split_rule}, stratified, seed {split_seed}; split {split_hash}"),
    ("level at which the splits are disjoint", "20", "12a", "patients in two splits: {leak}"),
    ("sample size", "21", "10", "all available images; no calculation was made"),
    ("model", "22", "12c, 22", "{model}, {parameters} trainable parameters; config.yaml in the run"),
    ("software", "23", "12c", "version {version}; PyTorch as pinned in requirements.lock"),
    ("initial weights", "24", "12c", "{initial_weights}"),
    ("training", "25", "12b, 12c", "{recipe}; every setting is in the run"),
    ("selection of the final model", "26", "12c", "the epoch of the highest validation AUROC"),
    ("ensembles", "27", "12c", "none"),
    ("class imbalance", "-", "13", "{prevalence} positive in training; loss {loss}"),
    ("methods for fairness", "-", "14", "none"),
    ("output and threshold", "28", "15", "P(pneumothorax); positive from {threshold}, the best F1 on val"),
    ("metrics", "28", "12e", "AUROC, and sensitivity at fixed specificity; never accuracy alone"),
    ("uncertainty", "29", "12e, 23a", "95% intervals from 2,000 resamples of the patients"),
    ("heterogeneity between sites", "-", "12d, 23b", NOT_KNOWN),
    ("robustness", "30", "12e", "over seeds: pneumo confirm; over settings: studies; over images: not known"),
    ("explainability", "31", "-", "pneumo evaluate RUN compares saliency maps with annotated lesions"),
    ("internal evaluation", "32", "12a", "{evaluated_on}"),
    ("external evaluation", "33", "12a", "pneumo evaluate RUN data=...; not on this page"),
    ("recalibration or updating", "-", "12f, 24", "none"),
    ("how a prediction is computed", "-", "12g", "one forward pass per image; test-time augmentation: {tta}"),
    ("ethical approval", "-", "17", "{unknown}"),
    ("trial registration", "34", "18d", "does not apply: no trial"),
    ("numbers of patients and images", "35", "20a, 21", "{sizes}"),
    ("characteristics by split", "36", "20b, 20c", "prevalence above; age, sex and view: pneumo data check"),
    ("performance", "37", "23a", "{performance}; all metrics are in the model card"),
    ("precision of the estimates", "38", "23a", "intervals in the model card"),
    ("failure analysis", "39", "-", "confusion matrix in the model card; predictions.csv in the run"),
    ("interpretation", "-", "25", "the first paragraphs of this page; docs/conclusions.md"),
    ("limitations", "40", "26", "one network, one seed, one data set{kind_of_images}"),
    ("implications for practice", "41", "27a, 27b, 27c", "none: not tested with readers or patients"),
    ("protocol", "42", "18c", "not registered; the designs of the studies are in conf/search"),
    ("availability of data, code, model", "43", "18e, 18f", "code and settings; the checkpoint in the run"),
    ("funding and conflicts of interest", "44", "18a, 18b", NOT_KNOWN),
    ("patient and public involvement", "-", "19", "none"),
)


def section(run: RunRecord | None, rescored: RescoredRun | None) -> Section:
    """The checklist for the recommended run, if there is one."""
    known = {}
    if run and rescored:
        known = facts(run) | {"performance": f"{rescored.split} AUROC {rescored.formatted('auroc')}"}
    rows = [
        [*item, text.format(**known) if known or "{" not in text else "no recommended run yet"]
        for *item, text in ITEMS
    ]
    text = (
        "The items refer to the recommended run. Where the project cannot know an answer, the table states "
        "so. The numbers are the items of CLAIM (2024) and TRIPOD+AI (2024), which are paraphrased here."
    )
    columns = ["item", "CLAIM", "TRIPOD+AI", "this project"]
    return Section("Checklist of CLAIM and TRIPOD+AI", [text], columns, rows)
