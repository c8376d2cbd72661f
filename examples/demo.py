"""Tune a neural network for 20 seconds: Optuna proposes, two processes train, events tie them together."""

import warnings
from pathlib import Path

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_diabetes
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from amltk.scheduling import Scheduler
from amltk.scheduling.timeline import Timeline

WORKERS, SECONDS = 2, 20
JOURNAL = "demo-journal"  # the folder that outlives this process
SPACE = {
    "hidden_layer_sizes": IntDistribution(8, 64, log=True),
    "activation": CategoricalDistribution(["relu", "tanh"]),
    "solver": CategoricalDistribution(["sgd", "adam"]),
    "learning_rate_init": FloatDistribution(1e-4, 1.0, log=True),
    "alpha": FloatDistribution(1e-5, 1.0, log=True),
}


def evaluate(**params) -> float:
    """Train and score one configuration, in a worker process. Some diverge to NaN; scikit-learn raises then."""
    warnings.simplefilter("ignore")
    X, y = load_diabetes(return_X_y=True)
    model = make_pipeline(StandardScaler(), MLPRegressor(**params, max_iter=100, random_state=0))
    return float(cross_val_score(model, X, y, cv=3, error_score="raise").mean())


optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=11))
trials: dict[object, optuna.Trial] = {}  # the trial of each future

scheduler = Scheduler.with_processes(WORKERS, initializer=threadpool_limits, initargs=(1,))
training = scheduler.task(evaluate)
timeline = Timeline(scheduler)


@training.on_result
def learn(future, score):
    trial = trials.pop(future)
    study.tell(trial, score)
    if study.best_trial.number == trial.number:
        print(f"trial {trial.number}: R² = {score:.3f}, the best so far")


@training.on_exception
def learn_from_failure(future, error):
    trial = trials.pop(future)
    study.tell(trial, state=TrialState.FAIL)
    print(f"trial {trial.number}: failed, {str(error).partition('.')[0]}")


@scheduler.on_start(repeat=WORKERS)
@training.on_result(when=scheduler.running)  # after `learn`: callbacks are called in the order of registration
@training.on_exception(when=scheduler.running)
def launch(*_):
    trial = study.ask(SPACE)
    trials[training.submit(**trial.params)] = trial


@scheduler.on_start
def go_on():
    if scheduler.replaying:
        print(f"going on with {JOURNAL}: nothing is trained twice. Remove this folder to begin anew")


@scheduler.on_timeout
def last_orders():
    print(f"the time is up, trials that are still training: {training.n_running}")


def show_results(state):
    completed = study.get_trials(states=[TrialState.COMPLETE])
    failed = study.get_trials(states=[TrialState.FAIL])
    table = Table("trial", "R²", *(name.replace("_", "\n") for name in SPACE), title="The best trials")
    for trial in sorted(completed, key=lambda trial: trial.value, reverse=True)[:5]:
        params = (f"{value:.2g}" if isinstance(value, float) else str(value) for value in trial.params.values())
        table.add_row(str(trial.number), f"{trial.value:.3f}", *params)
    console = Console()
    console.print(table)
    console.print(f"{len(completed)} trials completed, {len(failed)} failed; the run ended by {state.code.name}")
    page = Path("demo-timeline.html").absolute()
    timeline.write_html(page, title="Tuning a neural network")
    print(f"what ran where and when, to be opened in a browser: {page}")


if __name__ == "__main__":
    show_results(scheduler.run(timeout=SECONDS, journal=JOURNAL, on_exception="continue", display=True))
