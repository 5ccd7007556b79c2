"""A plan from its announcement to what it leaves: results.csv, model.safetensors, page.html."""

from collections.abc import Sequence

from clip.model import CLIP
from fitting.outcomes import Outcome, outcome_of, read_answers, recommended, to_text, write_csv
from fitting.page import write_page
from fitting.pictures import write_list
from fitting.plan import METHODS, Plan, prompt_note, seconds_of, title
from fitting.runs import Runner, run_method
from report.text import say
from trainer.checkpoints.__main__ import export
from trainer.published_values import chance_note

__all__ = ["announce", "conclude", "run_all"]

MODEL_FILE, TABLE_FILE, PAGE_FILE = "model.safetensors", "results.csv", "page.html"


def announce(plan: Plan, model: CLIP) -> None:
    """Say what was found, what may surprise, what will be done and about how long it takes.

    Raises:
        RequestError: the folder has a comparison of other pictures.
    """
    pictures, names = plan.pictures, plan.pictures.classnames
    counts = ", ".join(
        f"{pictures.count(part)} {word}"
        for part, word in (("train", "training"), ("val", "validation"), ("test", "test"))
    )
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    say(f"{len(pictures.rows)} pictures of {len(names)} classes ({shown}): {counts}")
    if pictures.cut:
        words = " and ".join({"val": "validation", "test": "test"}[part] for part in pictures.cut)
        say(f"Cut by seed {plan.seed}: the {words} pictures; {plan.list_file} lists them")
    for note in (*pictures.notes, prompt_note(plan)):
        if note:
            say(note)
    write_list(pictures, plan.list_file)
    for method, seconds in seconds_of(plan, model).items():
        epochs = f", {plan.epochs_of(method)} epochs" if plan.epochs_of(method) else ""
        say(f"To do: {title(method)}{epochs}, about {_duration(seconds)}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} seconds"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def run_all(plan: Plan, run: Runner) -> list[Outcome]:
    """The outcome of every method of the plan, in its order.

    Raises:
        RequestError: one failed.
    """
    outcomes = []
    for method in plan.methods:
        run_method(plan, method, run)
        outcomes.append(outcome_of(plan, method))
        last = outcomes[-1]
        say(f"{title(method)}: {last.accuracy:.1f}% of the test pictures, {last.seconds:.0f} s")
        if method == "zero-shot":
            if note := chance_note(last.accuracy, len(plan.pictures.classnames)):
                say(note.partition(" DATASET.")[0] + " --template changes the prompt.")
    return outcomes


def conclude(plan: Plan, outcomes: Sequence[Outcome]) -> None:
    """Print the table and the recommendation; write table, model and page."""
    best = recommended(outcomes)
    say(f"\n{to_text(outcomes)}\n")
    if best:
        say(f"Recommended: {title(best.method)}, the best on the validation pictures")
        _warn_of_few(plan, outcomes, best)
    chosen = best or outcomes[0]
    write_csv(outcomes, plan.out / TABLE_FILE)
    _keep_model(plan, outcomes, chosen)
    answers = read_answers(plan.folder(chosen.method))
    write_page(plan.out / PAGE_FILE, outcomes, chosen.method, answers)
    say(f"Table: {plan.out / TABLE_FILE}\nErrors at a glance: {plan.out / PAGE_FILE}")


def _warn_of_few(plan: Plan, outcomes: Sequence[Outcome], best: Outcome) -> None:
    """Say which cheaper methods are within one validation picture of the best."""
    step = 100 / plan.pictures.count("val")
    near = [
        title(o.method)
        for o in outcomes
        if o is not best and o.validation is not None and best.validation is not None
        and best.validation - o.validation < 1.5 * step
    ]  # fmt: skip
    if near:
        say(f"Within one validation picture of it: {', '.join(near)}")


def _keep_model(plan: Plan, outcomes: Sequence[Outcome], chosen: Outcome) -> None:
    """Export the chosen model; where zero-shot CLIP is chosen, the best one that has learned."""
    if METHODS[chosen.method] == "ZeroshotCLIP":
        learned = [o for o in outcomes if METHODS[o.method] != "ZeroshotCLIP"]
        if not learned:
            say(f"Zero-shot CLIP learns nothing, so there is no {MODEL_FILE}")
            return
        chosen = recommended(learned) or learned[0]
        say(f"It learns nothing; {MODEL_FILE} is of {title(chosen.method)}, the next best")
    path = plan.out / MODEL_FILE
    export(str(plan.folder(chosen.method)), path)
    say(f"Model: {path}; python predict.py {path} PICTURES --backbone {plan.backbone}")
